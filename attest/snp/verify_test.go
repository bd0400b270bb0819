// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/snp/snptest"
)

func TestVerifyAccepts(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		line, key string
		change    func(b *snptest.Machine)
	}{
		"milan vcek":                {"Milan", "VCEK", func(*snptest.Machine) {}},
		"genoa vcek":                {"Genoa", "VCEK", func(*snptest.Machine) {}},
		"turin vcek":                {"Turin", "VCEK", func(*snptest.Machine) {}},
		"milan vlek":                {"Milan", "VLEK", func(*snptest.Machine) {}},
		"genoa vlek":                {"Genoa", "VLEK", func(*snptest.Machine) {}},
		"turin vlek":                {"Turin", "VLEK", func(*snptest.Machine) {}},
		"siena vcek":                {"Genoa", "VCEK", func(b *snptest.Machine) { copy(b.Report[0x188:], []byte{0x19, 0xa0, 0x02}) }},
		"turin dense":               {"Turin", "VCEK", func(b *snptest.Machine) { copy(b.Report[0x188:], []byte{0x1a, 0x11, 0x00}) }},
		"version 2":                 {"Milan", "VCEK", func(b *snptest.Machine) { b.Report[0] = 2; clear(b.Report[0x188:0x18b]) }},
		"version 4":                 {"Milan", "VCEK", func(b *snptest.Machine) { b.Report[0] = 4 }},
		"version 5, mitigations":    {"Milan", "VCEK", func(b *snptest.Machine) { b.Report[0] = 5; b.Report[0x1f8], b.Report[0x207] = 1, 2 }},
		"chip as octet string":      {"Milan", "VCEK", func(b *snptest.Machine) { b.HWID = append([]byte{4, 64}, b.HWID...) }},
		"chip masked by the host":   {"Milan", "VCEK", func(b *snptest.Machine) { clear(b.Report[0x1a0:0x1e0]) }},
		"no structure version":      {"Milan", "VCEK", func(b *snptest.Machine) { b.Structure = nil }},
		"vmpl 3":                    {"Milan", "VCEK", func(b *snptest.Machine) { b.Report[0x30] = 3 }},
		"current above reported":    {"Milan", "VCEK", func(b *snptest.Machine) { b.Report[0x38+7] = 255 }},
		"platform bit 6, as turins": {"Turin", "VCEK", func(b *snptest.Machine) { b.Report[0x40] = 0x65 }},
		"extension of others": {"Turin", "VCEK", func(b *snptest.Machine) {
			b.Extra = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 9999, 1, 5}, Value: []byte{0x16, 1, 'x'}}}
		}},
		"extensions below known ones": {"Turin", "VCEK", func(b *snptest.Machine) {
			for _, arc := range []int{2, 4, 5} {
				b.Extra = append(b.Extra, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, arc, 1}, Value: []byte{2, 1, 9}})
			}
			b.Extra = append(b.Extra, amdExtension(3, 0x16, 1, 'x')...)
		}},
		"turin, chip as octet string": {"Turin", "VCEK", func(b *snptest.Machine) { b.HWID = append([]byte{4, 8}, b.HWID...) }},
		"chip that looks like an octet string": {"Milan", "VCEK", func(b *snptest.Machine) {
			copy(b.HWID, []byte{4, 8})
			copy(b.Report[0x1a0:], b.HWID)
		}},
		"at the first second": {"Milan", "VCEK", func(b *snptest.Machine) { b.At = b.Leaf.NotBefore }},
		"at the last second":  {"Milan", "VCEK", func(b *snptest.Machine) { b.At = b.Leaf.NotAfter }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := snptest.New(tt.line, tt.key)
			tt.change(b)
			r, err := b.Verify(t)
			if err != nil {
				t.Fatal(err)
			}
			if r.Platform() != snp.PlatformSim || r.Root().AMD() {
				t.Errorf("platform %q under a private root", r.Platform())
			}
			if string(r.Line()) != tt.line || r.SigningKey() != tt.key {
				t.Errorf("line %s key %s", r.Line(), r.SigningKey())
			}
			if err := r.Meets(floor.Signature); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestVerifyRefuses changes one thing in what the signer signs, so that no other check can be the one that refuses.
func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	milan := func(change func(b *snptest.Machine)) func() *snptest.Machine {
		return func() *snptest.Machine {
			b := snptest.New("Milan", "VCEK")
			change(b)
			return b
		}
	}
	byteAt := func(off int, v byte) func() *snptest.Machine {
		return milan(func(b *snptest.Machine) { b.Report[off] = v })
	}
	tests := map[string]struct {
		make func() *snptest.Machine
		want refusal.Code
	}{
		"no time":                 {milan(func(b *snptest.Machine) { b.At = time.Time{} }), refusal.Missing},
		"reserved tcb, reported":  {milan(func(b *snptest.Machine) { b.Report[0x182], b.SPL[4] = 1, 1; b.Report[0x3a] = 1 }), refusal.Malformed},
		"reserved tcb, current":   {byteAt(0x3a, 1), refusal.Malformed},
		"reserved tcb, committed": {byteAt(0x1e5, 1), refusal.Malformed},
		"reserved tcb, launch":    {byteAt(0x1f2, 1), refusal.Malformed},
		"unknown processor":       {byteAt(0x188, 0x18), refusal.Chain},
		"unknown model":           {byteAt(0x189, 0x20), refusal.Chain},
		"unknown zen 5 model":     {milan(func(b *snptest.Machine) { b.Report[0x188], b.Report[0x189] = 0x1a, 0x20 }), refusal.Chain},
		"version 2 of no product": {milan(func(b *snptest.Machine) { b.Report[0] = 2; clear(b.Report[0x188:0x18b]); b.Product = "Rome-B0" }), refusal.Chain},
		"other line":              {byteAt(0x189, 0x11), refusal.Chain},
		"vlek bit with a vcek":    {byteAt(0x48, 1<<2), refusal.Chain},
		"signature of zeros":      {milan(func(b *snptest.Machine) { b.AfterSign = func(r []byte) { clear(r[0x2a0:0x330]) } }), refusal.Signature},
		"other key":               {milan(func(b *snptest.Machine) { b.LeafKey = snptest.ECDSAKey(elliptic.P384()) }), refusal.Signature},

		"leaf below amd's place": {milan(func(b *snptest.Machine) { b.Leaf.Subject.Locality = []string{"Elsewhere"} }), refusal.Chain},

		"leaf not yet valid": {milan(func(b *snptest.Machine) { b.Leaf.NotBefore = b.At.Add(time.Second) }), refusal.Expired},
		"leaf expired":       {milan(func(b *snptest.Machine) { b.Leaf.NotAfter = b.At.Add(-time.Second) }), refusal.Expired},
		"ask not yet valid":  {milan(func(b *snptest.Machine) { b.ASK.NotBefore = b.At.Add(time.Second) }), refusal.Expired},
		"ask expired":        {milan(func(b *snptest.Machine) { b.ASK.NotAfter = b.At.Add(-time.Second) }), refusal.Expired},
		"ark not yet valid":  {milan(func(b *snptest.Machine) { b.ARK.NotBefore = b.At.Add(time.Second) }), refusal.Expired},
		"ark expired":        {milan(func(b *snptest.Machine) { b.ARK.NotAfter = b.At.Add(-time.Second) }), refusal.Expired},

		"other bootloader":       {byteAt(0x180, 3), refusal.EndorsementsMismatch},
		"other tee":              {byteAt(0x181, 1), refusal.EndorsementsMismatch},
		"other snp firmware":     {byteAt(0x186, 23), refusal.EndorsementsMismatch},
		"other microcode":        {byteAt(0x187, 218), refusal.EndorsementsMismatch},
		"other chip":             {byteAt(0x1a0, 0), refusal.EndorsementsMismatch},
		"other chip, last byte":  {byteAt(0x1df, 0), refusal.EndorsementsMismatch},
		"structure version 2":    {milan(func(b *snptest.Machine) { b.Structure = 2 }), refusal.Malformed},
		"structure not a number": {milan(func(b *snptest.Machine) { b.Structure = "1" }), refusal.Malformed},
		"chip of zeros":          {milan(func(b *snptest.Machine) { clear(b.Report[0x1a0:0x1e0]); b.HWID = make([]byte, 64) }), refusal.EndorsementsMismatch},
		"no chip in leaf":        {milan(func(b *snptest.Machine) { b.HWID = nil }), refusal.Malformed},
		"short chip in leaf":     {milan(func(b *snptest.Machine) { b.HWID = b.HWID[:8] }), refusal.Malformed},
		"chip and provider":      {milan(func(b *snptest.Machine) { b.CSP = "CN=provider.test" }), refusal.Malformed},
		"no bootloader level":    {milan(func(b *snptest.Machine) { delete(b.SPL, 1) }), refusal.Malformed},
		"no microcode level":     {milan(func(b *snptest.Machine) { delete(b.SPL, 8) }), refusal.Malformed},
		"no reserved level":      {milan(func(b *snptest.Machine) { delete(b.SPL, 4) }), refusal.Malformed},
		"level above a byte":     {milan(func(b *snptest.Machine) { b.SPL[1] = 260 }), refusal.Malformed},
		"level below zero":       {milan(func(b *snptest.Machine) { b.SPL[1] = -252 }), refusal.Malformed},
		"level as a boolean":     {milan(func(b *snptest.Machine) { b.SPL[2] = false }), refusal.Malformed},
		"level with a trailer":   {milan(func(b *snptest.Machine) { b.SPL[1] = asn1.RawContent{2, 1, 4, 0} }), refusal.Malformed},
		"product not a string":   {milan(func(b *snptest.Machine) { b.Product = nil; b.Extra = amdExtension(2, 2, 1, 1) }), refusal.Malformed},
		"provider not a string":  {milan(func(b *snptest.Machine) { b.Extra = amdExtension(5, 2, 1, 1) }), refusal.Malformed},
		"reported above current": {byteAt(0x38+7, 218), refusal.TCB},
		"committed above current": {milan(func(b *snptest.Machine) {
			b.Report[0x1e0+6] = 25
		}), refusal.TCB},
		"vlek of no provider": {func() *snptest.Machine { b := snptest.New("Milan", "VLEK"); b.CSP = nil; return b }, refusal.Malformed},
		"vlek with a chip":    {func() *snptest.Machine { b := snptest.New("Milan", "VLEK"); b.HWID = make([]byte, 64); return b }, refusal.Malformed},
		"vlek of another tcb": {func() *snptest.Machine { b := snptest.New("Milan", "VLEK"); b.SPL[3] = 25; return b }, refusal.EndorsementsMismatch},
		"turin, product with a trailer": {func() *snptest.Machine {
			b := snptest.New("Turin", "VCEK")
			b.Product, b.Extra = nil, amdExtension(2, 0x16, 1, 'T', 0)
			return b
		}, refusal.Malformed},
		"turin, product not a string": {func() *snptest.Machine {
			b := snptest.New("Turin", "VCEK")
			b.Product, b.Extra = nil, amdExtension(2, 2, 1, 1)
			return b
		}, refusal.Malformed},
		"version 2, leaf below amd's place": {milan(func(b *snptest.Machine) {
			b.Report[0] = 2
			clear(b.Report[0x188:0x18b])
			b.Leaf.Subject.Locality = []string{"Elsewhere"}
		}), refusal.Chain},
		"turin under milan's root": {func() *snptest.Machine {
			b := snptest.New("Turin", "VCEK")
			b.ARK.Subject.CommonName, b.ASK.Subject.CommonName = "ARK-Milan", "SEV-Milan"
			return b
		}, refusal.Chain},
		"vcek under the root of vleks": {func() *snptest.Machine {
			b := snptest.New("Turin", "VCEK")
			b.ASK.Subject.CommonName = "SEV-VLEK-Turin"
			return b
		}, refusal.Chain},
		"vlek under the root of vceks": {func() *snptest.Machine {
			b := snptest.New("Turin", "VLEK")
			b.ASK.Subject.CommonName = "SEV-Turin"
			return b
		}, refusal.Chain},
		"turin without fmc": {func() *snptest.Machine { b := snptest.New("Turin", "VCEK"); delete(b.SPL, 9); return b }, refusal.Malformed},
		"turin, other fmc":  {func() *snptest.Machine { b := snptest.New("Turin", "VCEK"); b.SPL[9] = 2; return b }, refusal.EndorsementsMismatch},
		"turin, other chip": {func() *snptest.Machine { b := snptest.New("Turin", "VCEK"); b.Report[0x1a7] ^= 1; return b }, refusal.EndorsementsMismatch},
		"turin, chip tail":  {func() *snptest.Machine { b := snptest.New("Turin", "VCEK"); b.Report[0x1a8] = 1; return b }, refusal.EndorsementsMismatch},
		"turin, signature": {func() *snptest.Machine {
			b := snptest.New("Turin", "VCEK")
			b.AfterSign = func(r []byte) { r[0x90] ^= 1 }
			return b
		}, refusal.Signature},
		"turin, reserved tcb": {func() *snptest.Machine { b := snptest.New("Turin", "VCEK"); b.Report[0x38+5] = 1; return b }, refusal.Malformed},
		"turin, long chip":    {func() *snptest.Machine { b := snptest.New("Turin", "VCEK"); b.HWID = make([]byte, 64); return b }, refusal.Malformed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := tt.make().Verify(t)
			wantFirst(t, err, tt.want)
			if r != nil {
				t.Error("a report besides the refusal")
			}
		})
	}
}

// TestLayoutRefuses does it for the layout, on a line that go-sev-guest reads and on one that this package judges alone.
func TestLayoutRefuses(t *testing.T) {
	t.Parallel()
	le := binary.LittleEndian
	byteAt := func(off int, v byte) func(b *snptest.Machine) {
		return func(b *snptest.Machine) { b.Report[off] = v }
	}
	tests := map[string]struct {
		change func(b *snptest.Machine)
		want   refusal.Code
	}{
		"version 1":             {func(b *snptest.Machine) { b.Report[0] = 1; clear(b.Report[0x188:0x18b]) }, refusal.Malformed},
		"version 6":             {byteAt(0, 6), refusal.Malformed},
		"signature algorithm 0": {byteAt(0x34, 0), refusal.Malformed},
		"signature algorithm 2": {byteAt(0x34, 2), refusal.Malformed},
		"policy bit 17 clear":   {func(b *snptest.Machine) { le.PutUint64(b.Report[8:], 1<<16) }, refusal.Malformed},
		"policy bit 26":         {func(b *snptest.Machine) { le.PutUint64(b.Report[8:], 1<<17|1<<26) }, refusal.Malformed},
		"policy bit 63":         {func(b *snptest.Machine) { le.PutUint64(b.Report[8:], 1<<17|1<<63) }, refusal.Malformed},
		"platform bit 8":        {byteAt(0x41, 1), refusal.Malformed},
		"vmpl 4":                {byteAt(0x30, 4), refusal.Malformed},
		"vmpl of the host":      {func(b *snptest.Machine) { le.PutUint32(b.Report[0x30:], 0xffffffff) }, refusal.Malformed},
		"key information bit 5": {byteAt(0x48, 1<<5), refusal.Malformed},
		"signing key 2":         {byteAt(0x48, 2<<2), refusal.Malformed},
		"signing key 7, none":   {byteAt(0x48, 7<<2), refusal.Signature},
		"reserved 0x4c":         {byteAt(0x4c, 1), refusal.Malformed},
		"reserved 0x4f":         {byteAt(0x4f, 1), refusal.Malformed},
		"reserved 0x18b":        {byteAt(0x18b, 1), refusal.Malformed},
		"reserved 0x19f":        {byteAt(0x19f, 1), refusal.Malformed},
		"reserved 0x1eb":        {byteAt(0x1eb, 1), refusal.Malformed},
		"reserved 0x1ef":        {byteAt(0x1ef, 1), refusal.Malformed},
		"mitigations below 5":   {byteAt(0x1f8, 1), refusal.Malformed},
		"reserved 0x208":        {byteAt(0x208, 1), refusal.Malformed},
		"reserved 0x29f":        {byteAt(0x29f, 1), refusal.Malformed},
		"byte after signature":  {func(b *snptest.Machine) { b.AfterSign = func(r []byte) { r[0x330] = 1 } }, refusal.Malformed},
		"last byte":             {func(b *snptest.Machine) { b.AfterSign = func(r []byte) { r[1183] = 1 } }, refusal.Malformed},
		"cpuid in version 2":    {byteAt(0, 2), refusal.Malformed},
	}
	for name, tt := range tests {
		for _, line := range []string{"Milan", "Turin"} {
			t.Run(line+", "+name, func(t *testing.T) {
				t.Parallel()
				b := snptest.New(line, "VCEK")
				tt.change(b)
				r, err := b.Verify(t)
				wantFirst(t, err, tt.want)
				if r != nil {
					t.Error("a report besides the refusal")
				}
			})
		}
	}
}

// TestLeafRefuses does it for the certificate, on both kinds of line too.
func TestLeafRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(b *snptest.Machine)
		want   refusal.Code
	}{
		"leaf name":            {func(b *snptest.Machine) { b.Leaf.Subject.CommonName = "SEV-VLEK" }, refusal.Chain},
		"leaf of a p-256 key":  {func(b *snptest.Machine) { b.LeafPublic = &snptest.ECDSAKey(elliptic.P256()).PublicKey }, refusal.Chain},
		"leaf of an rsa key":   {func(b *snptest.Machine) { b.LeafPublic = &b.ARKKey.PublicKey }, refusal.Chain},
		"leaf signed pkcs1":    {func(b *snptest.Machine) { b.Leaf.SignatureAlgorithm = x509.SHA384WithRSA }, refusal.Chain},
		"leaf is an authority": {func(b *snptest.Machine) { b.Leaf.IsCA, b.Leaf.BasicConstraintsValid = true, true }, refusal.Chain},
		"leaf critical extension": {func(b *snptest.Machine) {
			b.Extra = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}, refusal.Chain},
		"leaf of another issuer name": {func(b *snptest.Machine) {
			b.RootsOf = snptest.New(b.Line, b.Key)
			b.ASK.Subject.Organization = []string{"Other"}
		}, refusal.Chain},
		"leaf signed by another key": {func(b *snptest.Machine) {
			b.RootsOf = snptest.New(b.Line, b.Key)
			b.ASKKey = b.ARKKey
		}, refusal.Chain},
	}
	for name, tt := range tests {
		for _, line := range []string{"Milan", "Turin"} {
			t.Run(line+", "+name, func(t *testing.T) {
				t.Parallel()
				b := snptest.New(line, "VCEK")
				tt.change(b)
				r, err := b.Verify(t)
				wantFirst(t, err, tt.want)
				if r != nil {
					t.Error("a report besides the refusal")
				}
			})
		}
	}
}

func amdExtension(arc int, value ...byte) []pkix.Extension {
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, arc}, Value: value}}
}

func TestVerifyWithoutInputs(t *testing.T) {
	t.Parallel()
	b := snptest.New("Milan", "VCEK")
	report, leaf, roots := b.Signed(t), b.LeafDER(t), b.Roots(t)
	tests := map[string]struct {
		report, leaf []byte
		roots        []snp.Root
		want         refusal.Code
	}{
		"no report":         {nil, leaf, roots, refusal.Malformed},
		"one byte short":    {report[:len(report)-1], leaf, roots, refusal.Malformed},
		"one byte long":     {append(slices.Clone(report), 0), leaf, roots, refusal.Malformed},
		"no leaf":           {report, nil, roots, refusal.EndorsementsMissing},
		"leaf and a byte":   {report, append(slices.Clone(leaf), 0), roots, refusal.Malformed},
		"leaf in pem":       {report, snptest.PEM(leaf), roots, refusal.Malformed},
		"huge leaf":         {report, make([]byte, 1<<20), roots, refusal.Malformed},
		"no roots":          {report, leaf, nil, refusal.Chain},
		"zero root":         {report, leaf, []snp.Root{{}}, refusal.Chain},
		"amd's roots":       {report, leaf, amdRoots(t), refusal.Chain},
		"the ask as leaf":   {report, b.ASKDER(t), roots, refusal.Chain},
		"the ark as leaf":   {report, b.ARKDER(t), roots, refusal.Chain},
		"roots of vlek":     {report, leaf, snptest.New("Milan", "VLEK").Roots(t), refusal.Chain},
		"roots of genoa":    {report, leaf, snptest.New("Genoa", "VCEK").Roots(t), refusal.Chain},
		"report of a zero":  {make([]byte, snp.ReportSize), leaf, roots, refusal.Malformed},
		"leaf is not a der": {report, []byte("leaf"), roots, refusal.Malformed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := snp.Verify(tt.report, tt.leaf, tt.roots, snptest.Time())
			wantFirst(t, err, tt.want)
			if r != nil {
				t.Error("a report besides the refusal")
			}
		})
	}
}

// The right root is found among others, in any place.
func TestVerifyPicksTheRoot(t *testing.T) {
	t.Parallel()
	b := snptest.New("Milan", "VCEK")
	other := snptest.New("Milan", "VCEK")
	other.ARKKey = snptest.RSAKey(3072)
	other.ASKKey = other.ARKKey
	roots := slices.Concat(amdRoots(t), other.Roots(t), b.Roots(t), snptest.New("Genoa", "VCEK").Roots(t))
	r, err := snp.Verify(b.Signed(t), b.LeafDER(t), roots, b.At)
	if err != nil {
		t.Fatal(err)
	}
	if r.Root().Fingerprint() != b.Roots(t)[0].Fingerprint() && r.Root().AMD() {
		t.Error("another root")
	}
}

// Independent failures are all told, and each is told once.
func TestVerifyTellsAll(t *testing.T) {
	t.Parallel()
	late := snptest.New("Milan", "VCEK")
	late.Leaf.NotAfter = late.At.Add(-time.Second)
	_, err := late.Verify(t)
	wantCodes(t, err, codes(refusal.Expired))
	late.Report[0x1a0] ^= 1
	late.AfterSign = func(r []byte) { r[0x90] ^= 1 }
	_, err = late.Verify(t)
	wantCodes(t, err, codes(refusal.Expired, refusal.EndorsementsMismatch, refusal.Signature))
}
