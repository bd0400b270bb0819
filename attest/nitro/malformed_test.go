// SPDX-License-Identifier: Apache-2.0

package nitro_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/nitro/nitrotest"
	"github.com/kettle/attest/attest/refusal"
)

// TestEnvelope changes one thing of what stands around the payload.
func TestEnvelope(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	payload := p.NewDocument().Payload()
	doc := p.Sign(payload)
	protected, unprotected := nitrotest.Bytes([]byte(nitrotest.Protected)), nitrotest.Item(nitrotest.Unprotected)
	signature := nitrotest.Bytes(doc[len(doc)-96:])
	under := func(header string) nitrotest.Item { return p.SignAs(nitrotest.Leaf, payload, []byte(header)) }
	cases := map[string]struct {
		doc  []byte
		want string
	}{
		"another tag":              {nitrotest.Tagged(17, doc), "COSE_Sign1"},
		"the tag twice":            {nitrotest.Tagged(18, nitrotest.Tagged(18, doc)), "COSE_Sign1"},
		"the tag of CBOR":          {nitrotest.Tagged(55799, doc), "COSE_Sign1"},
		"the tag in a long form":   {append([]byte{0xd8, 18}, doc...), "COSE_Sign1"},
		"only the tag":             {[]byte{0xd2}, "COSE_Sign1"},
		"three items":              {nitrotest.Envelope(protected, unprotected, nitrotest.Bytes(payload)), "COSE_Sign1"},
		"five items":               {nitrotest.Envelope(protected, unprotected, nitrotest.Bytes(payload), signature, signature), "COSE_Sign1"},
		"an open array":            {nitrotest.Open(doc), "COSE_Sign1"},
		"a long array":             {nitrotest.Wide(doc, 1), "COSE_Sign1"},
		"a bare protected header":  {nitrotest.Envelope(nitrotest.Item(nitrotest.Protected), unprotected, nitrotest.Bytes(payload), signature), "protected"},
		"a long protected header":  {slices.Concat([]byte{0x84}, nitrotest.Wide(protected, 1), doc[6:]), "protected"},
		"no algorithm":             {under("\xa0"), "protected"},
		"an empty header":          {under(""), "protected"},
		"ES256":                    {under("\xa1\x01\x26"), "protected"},
		"ES512":                    {under("\xa1\x01\x38\x23"), "protected"},
		"HMAC":                     {under("\xa1\x01\x05\x00"), "protected"},
		"one header more":          {under("\xa2\x01\x38\x22\x04\x41\x00"), "protected"},
		"an unprotected header":    {nitrotest.Envelope(protected, nitrotest.Map(nitrotest.Uint(4), nitrotest.Bytes(nil)), nitrotest.Bytes(payload), signature), "unprotected"},
		"no unprotected header":    {nitrotest.Envelope(protected, nitrotest.Null(), nitrotest.Bytes(payload), signature), "unprotected"},
		"a detached payload":       {nitrotest.Envelope(protected, unprotected, nitrotest.Null(), signature), "payload"},
		"an empty payload":         {p.Sign(nil), "payload"},
		"a payload of text":        {nitrotest.Envelope(protected, unprotected, nitrotest.Text(string(payload)), signature), "payload"},
		"a bare payload":           {nitrotest.Envelope(protected, unprotected, payload, signature), "payload"},
		"a payload too long":       {p.Sign(make([]byte, 16<<10+1)), "payload"},
		"a payload beyond the end": {[]byte("\x84\x44\xa1\x01\x38\x22\xa0\x59\x40\x00"), "payload"},
		"a payload of 4 GiB":       {[]byte("\x84\x44\xa1\x01\x38\x22\xa0\x5a\xff\xff\xff\xff"), "payload"},
		"a payload of 2^64":        {[]byte("\x84\x44\xa1\x01\x38\x22\xa0\x5b\xff\xff\xff\xff\xff\xff\xff\xff"), "payload"},
		"a length in a long form":  {slices.Concat([]byte("\x84\x44\xa1\x01\x38\x22\xa0\x5a\x00\x00"), doc[8:]), "payload"},
		"no signature":             {doc[:len(doc)-98], "signature"},
		"a signature of ES256":     {nitrotest.Envelope(protected, unprotected, nitrotest.Bytes(payload), nitrotest.Bytes(make([]byte, 64))), "signature"},
		"a signature in DER":       {nitrotest.Envelope(protected, unprotected, nitrotest.Bytes(payload), nitrotest.Bytes(make([]byte, 102))), "signature"},
		"a byte after the end":     {append(slices.Clone(doc), 0), "signature"},
		"far too much":             {make([]byte, 1<<20), "at most"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantMalformed(t, p, c.doc, c.want)
		})
	}
	t.Run("cut off", func(t *testing.T) {
		t.Parallel()
		for n := range doc {
			wantMalformed(t, p, doc[:n], "")
		}
	})
}

func wantMalformed(t *testing.T, p *scene, doc []byte, want string) {
	t.Helper()
	_, err := verify(t, p, doc)
	wantCodes(t, err, refusal.Malformed)
	if r := refusal.All(err)[0]; !strings.Contains(r.Want, want) || len(r.Got) > 400 {
		t.Fatalf("want a word of %q: %v", want, r)
	}
}

// TestPayload changes one thing of the payload; the leaf signs each.
func TestPayload(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	d := p.NewDocument()
	plain := d.Payload()
	field := func(name string, v nitrotest.Item) nitrotest.Item { return d.With(name, v).Payload() }
	extra := func(name, value nitrotest.Item) nitrotest.Item {
		return append(slices.Clone(d), nitrotest.Field{Name: name, Value: value}).Payload()
	}
	cases := map[string]struct {
		payload nitrotest.Item
		want    string
	}{
		"no map":                   {nitrotest.Array(plain), "map of fields"},
		"null":                     {nitrotest.Null(), "map of fields"},
		"a tagged map":             {nitrotest.Tagged(24, plain), "map of fields"},
		"a long map":               {nitrotest.Wide(plain, 1), "map of fields"},
		"an empty map":             {nitrotest.Map(), "module_id"},
		"an empty open map":        {nitrotest.Open(nitrotest.Map()), "module_id"},
		"a map without end":        {bytes.TrimSuffix(nitrotest.Open(plain), []byte{0xff}), "name of a field"},
		"a map without a value":    {slices.Concat(nitrotest.Item{0xbf}, plain[1:], nitrotest.Text("nonce"), nitrotest.Item{0xff}), "value"},
		"a map that promises more": {slices.Concat(nitrotest.Item{0xaa}, plain[1:]), "name of a field"},
		"a map that promises less": {slices.Concat(nitrotest.Item{0xa8}, plain[1:]), "ends with its map"},
		"bytes after the map":      {append(slices.Clone(plain), 0xf6), "ends with its map"},
		"bytes after an open map":  {append(nitrotest.Open(plain), 0xff), "ends with its map"},
		"an unknown field":         {extra(nitrotest.Text("debug"), nitrotest.Null()), "AWS defines"},
		"a field of a long name":   {extra(nitrotest.Text(strings.Repeat("\x00", 5000)), nitrotest.Null()), "AWS defines"},
		"a field in other case":    {extra(nitrotest.Text("Nonce"), nitrotest.Null()), "AWS defines"},
		"a field named by bytes":   {extra(nitrotest.Bytes([]byte("nonce")), nitrotest.Null()), "named by text"},
		"a field named by number":  {extra(nitrotest.Uint(1), nitrotest.Null()), "named by text"},
		"a name in no UTF-8":       {extra(nitrotest.Text("\xff"), nitrotest.Null()), "name of a field"},
		"a name in chunks":         {extra(nitrotest.Open(nitrotest.Text("nonce")), nitrotest.Null()), "name of a field"},
		"a field twice":            {extra(nitrotest.Text("nonce"), nitrotest.Null()), "each field once"},
		"the digest twice":         {extra(nitrotest.Text("digest"), nitrotest.Text("SHA384")), "each field once"},

		"a module of bytes":      {field("module_id", nitrotest.Bytes([]byte("i"))), "module_id"},
		"an empty module":        {field("module_id", nitrotest.Text("")), "module_id"},
		"a module too long":      {field("module_id", nitrotest.Text(strings.Repeat("i", 1025))), "module_id"},
		"a null module":          {field("module_id", nitrotest.Null()), "module_id"},
		"a module in no UTF-8":   {field("module_id", nitrotest.Text("\xc3\x28")), "value"},
		"another digest":         {field("digest", nitrotest.Text("SHA256")), "SHA384"},
		"a digest in other case": {field("digest", nitrotest.Text("sha384")), "SHA384"},
		"a null digest":          {field("digest", nitrotest.Null()), "digest"},
		"time zero":              {field("timestamp", nitrotest.Uint(0)), "timestamp"},
		"time below zero":        {field("timestamp", nitrotest.Negative(5)), "timestamp"},
		"time beyond dates":      {field("timestamp", nitrotest.Uint(253_402_300_800_000)), "timestamp"},
		"time beyond all":        {field("timestamp", nitrotest.Uint(1<<64-1)), "timestamp"},
		"time as text":           {field("timestamp", nitrotest.Text("1")), "timestamp"},
		"time in floating point": {field("timestamp", nitrotest.Item{0xf9, 0x3c, 0x00}), "timestamp"},
		"time as a big number":   {field("timestamp", nitrotest.Tagged(2, nitrotest.Bytes([]byte{1}))), "value"},
		"a null time":            {field("timestamp", nitrotest.Null()), "timestamp"},

		"a certificate of text":    {field("certificate", nitrotest.Text("x")), "certificate"},
		"an empty certificate":     {field("certificate", nitrotest.Bytes(nil)), "certificate"},
		"a certificate too long":   {field("certificate", nitrotest.Bytes(make([]byte, 1025))), "certificate"},
		"a null certificate":       {field("certificate", nitrotest.Null()), "certificate"},
		"a certificate in chunks":  {field("certificate", nitrotest.Open(nitrotest.Bytes(make([]byte, 9)))), "value"},
		"no certificate inside":    {field("certificate", nitrotest.Bytes([]byte("x"))), "place 4"},
		"bytes after it":           {field("certificate", nitrotest.Bytes(append(slices.Clone(p.Certs[nitrotest.Leaf].Raw), 0))), "place 4"},
		"a bundle of bytes":        {field("cabundle", nitrotest.Bytes([]byte("x"))), "cabundle"},
		"an empty bundle":          {field("cabundle", nitrotest.Array()), "cabundle"},
		"a null bundle":            {field("cabundle", nitrotest.Null()), "cabundle"},
		"an open bundle":           {field("cabundle", nitrotest.Open(p.Bundle(nitrotest.Root))), "value"},
		"a bundle too long":        {field("cabundle", p.Bundle(slices.Repeat([]string{nitrotest.Root}, 9)...)), "cabundle"},
		"a bundle far too long":    {field("cabundle", nitrotest.Array(slices.Repeat([]nitrotest.Item{nitrotest.Null()}, 17)...)), "value"},
		"a bundle of text":         {field("cabundle", nitrotest.Array(nitrotest.Text("x"))), "cabundle[0]"},
		"an empty root":            {field("cabundle", nitrotest.Array(nitrotest.Bytes(nil))), "cabundle[0]"},
		"an intermediate too long": {field("cabundle", nitrotest.Array(nitrotest.Bytes([]byte("x")), nitrotest.Bytes(make([]byte, 1025)))), "cabundle[1]"},
		"no intermediate inside":   {field("cabundle", nitrotest.Array(nitrotest.Bytes(p.Certs[nitrotest.Root].Raw), nitrotest.Bytes([]byte("x")))), "place 1"},
		"a deep bundle":            {field("cabundle", nitrotest.Array(nitrotest.Array(nitrotest.Array(nitrotest.Array(nitrotest.Array(nitrotest.Array())))))), "value"},

		"an empty key":         {field("public_key", nitrotest.Bytes(nil)), "public_key"},
		"a key too long":       {field("public_key", nitrotest.Bytes(make([]byte, 1025))), "public_key"},
		"a key of text":        {field("public_key", nitrotest.Text("x")), "public_key"},
		"user data too long":   {field("user_data", nitrotest.Bytes(make([]byte, 513))), "user_data"},
		"user data of numbers": {field("user_data", nitrotest.Array(nitrotest.Uint(1))), "user_data"},
		"tagged user data":     {field("user_data", nitrotest.Tagged(24, nitrotest.Bytes([]byte("x")))), "value"},
		"a nonce too long":     {field("nonce", nitrotest.Bytes(make([]byte, 513))), "nonce"},
		"a nonce undefined":    {field("nonce", nitrotest.Item{0xf7}), ""},
		"a nonce of truth":     {field("nonce", nitrotest.Item{0xf5}), "nonce"},
		"a nonce of 4 GiB":     {field("nonce", nitrotest.Item("\x5a\xff\xff\xff\xff")), "value"},
	}
	for _, name := range []string{"module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"} {
		cases["without "+name] = struct {
			payload nitrotest.Item
			want    string
		}{d.Without(name).Payload(), name}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantMalformed(t, p, p.Sign(c.payload), c.want)
		})
	}
}

// TestRegisters changes one thing of the registers.
func TestRegisters(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	value := nitrotest.Bytes(make([]byte, 48))
	for name, pcrs := range map[string]nitrotest.Item{
		"none":                                  nitrotest.Map(),
		"null":                                  nitrotest.Null(),
		"a list":                                nitrotest.Array(value),
		"an open map":                           nitrotest.Open(nitrotest.Map(nitrotest.Uint(0), value)),
		"register 32":                           nitrotest.Map(nitrotest.Uint(32), value),
		"register 256":                          nitrotest.Map(nitrotest.Uint(256), value),
		"register 2^64-1":                       nitrotest.Map(nitrotest.Uint(1<<64-1), value),
		"register -1":                           nitrotest.Map(nitrotest.Negative(0), value),
		"register zero by text":                 nitrotest.Map(nitrotest.Text("0"), value),
		"register zero by bytes":                nitrotest.Map(nitrotest.Bytes([]byte{0}), value),
		"register zero by a float":              nitrotest.Map(nitrotest.Item{0xf9, 0, 0}, value),
		"register by a list":                    nitrotest.Map(nitrotest.Array(), value),
		"a value of SHA-256":                    nitrotest.Map(nitrotest.Uint(0), nitrotest.Bytes(make([]byte, 32))),
		"a value of SHA-512":                    nitrotest.Map(nitrotest.Uint(0), nitrotest.Bytes(make([]byte, 64))),
		"an empty value":                        nitrotest.Map(nitrotest.Uint(0), nitrotest.Bytes(nil)),
		"a null value":                          nitrotest.Map(nitrotest.Uint(0), nitrotest.Null()),
		"a value of text":                       nitrotest.Map(nitrotest.Uint(0), nitrotest.Text(strings.Repeat("x", 48))),
		"a value of numbers":                    nitrotest.Map(nitrotest.Uint(0), nitrotest.Array(slices.Repeat([]nitrotest.Item{nitrotest.Uint(0)}, 16)...)),
		"too many":                              nitrotest.Registers(33),
		"a register twice":                      nitrotest.Map(nitrotest.Uint(0), value, nitrotest.Uint(0), value),
		"a register twice, once in a long form": nitrotest.Map(nitrotest.Uint(0), value, nitrotest.Wide(nitrotest.Uint(0), 1), value),
	} {
		for _, field := range []string{"pcrs", "nitrotpm_pcrs"} {
			t.Run(field+"/"+name, func(t *testing.T) {
				t.Parallel()
				d := p.NewDocument().Without("pcrs").With(field, pcrs)
				wantMalformed(t, p, p.Sign(d.Payload()), "")
			})
		}
	}
}
