// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
)

func TestVerifyAccepts(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		line, key string
		change    func(b *bench)
	}{
		"milan vcek":                {"Milan", "VCEK", func(*bench) {}},
		"genoa vcek":                {"Genoa", "VCEK", func(*bench) {}},
		"turin vcek":                {"Turin", "VCEK", func(*bench) {}},
		"milan vlek":                {"Milan", "VLEK", func(*bench) {}},
		"genoa vlek":                {"Genoa", "VLEK", func(*bench) {}},
		"turin vlek":                {"Turin", "VLEK", func(*bench) {}},
		"siena vcek":                {"Genoa", "VCEK", func(b *bench) { copy(b.report[0x188:], []byte{0x19, 0xa0, 0x02}) }},
		"turin dense":               {"Turin", "VCEK", func(b *bench) { copy(b.report[0x188:], []byte{0x1a, 0x11, 0x00}) }},
		"version 2":                 {"Milan", "VCEK", func(b *bench) { b.report[0] = 2; clear(b.report[0x188:0x18b]) }},
		"version 4":                 {"Milan", "VCEK", func(b *bench) { b.report[0] = 4 }},
		"version 5, mitigations":    {"Milan", "VCEK", func(b *bench) { b.report[0] = 5; b.report[0x1f8], b.report[0x207] = 1, 2 }},
		"chip as octet string":      {"Milan", "VCEK", func(b *bench) { b.hwid = append([]byte{4, 64}, b.hwid...) }},
		"vmpl 3":                    {"Milan", "VCEK", func(b *bench) { b.report[0x30] = 3 }},
		"current above reported":    {"Milan", "VCEK", func(b *bench) { b.report[0x38+7] = 255 }},
		"platform bit 6, as turins": {"Turin", "VCEK", func(b *bench) { b.report[0x40] = 0x65 }},
		"extension of others": {"Turin", "VCEK", func(b *bench) {
			b.extra = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 9999, 1, 5}, Value: []byte{0x16, 1, 'x'}}}
		}},
		"extensions below known ones": {"Turin", "VCEK", func(b *bench) {
			for _, arc := range []int{2, 4, 5} {
				b.extra = append(b.extra, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, arc, 1}, Value: []byte{2, 1, 9}})
			}
			b.extra = append(b.extra, amdExtension(3, 0x16, 1, 'x')...)
		}},
		"turin, chip as octet string": {"Turin", "VCEK", func(b *bench) { b.hwid = append([]byte{4, 8}, b.hwid...) }},
		"chip that looks like an octet string": {"Milan", "VCEK", func(b *bench) {
			copy(b.hwid, []byte{4, 8})
			copy(b.report[0x1a0:], b.hwid)
		}},
		"at the first second": {"Milan", "VCEK", func(b *bench) { b.at = b.leaf.NotBefore }},
		"at the last second":  {"Milan", "VCEK", func(b *bench) { b.at = b.leaf.NotAfter }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(tt.line, tt.key)
			tt.change(b)
			r, err := b.verify(t)
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
	milan := func(change func(b *bench)) func() *bench {
		return func() *bench {
			b := newBench("Milan", "VCEK")
			change(b)
			return b
		}
	}
	byteAt := func(off int, v byte) func() *bench {
		return milan(func(b *bench) { b.report[off] = v })
	}
	tests := map[string]struct {
		make func() *bench
		want refusal.Code
	}{
		"no time":                 {milan(func(b *bench) { b.at = time.Time{} }), refusal.Missing},
		"one byte short":          {milan(func(b *bench) { b.truncate = 1 }), refusal.Malformed},
		"one byte long":           {milan(func(b *bench) { b.trailer = 1 }), refusal.Malformed},
		"reserved tcb, reported":  {milan(func(b *bench) { b.report[0x182], b.spl[4] = 1, 1; b.report[0x3a] = 1 }), refusal.Malformed},
		"reserved tcb, current":   {byteAt(0x3a, 1), refusal.Malformed},
		"reserved tcb, committed": {byteAt(0x1e5, 1), refusal.Malformed},
		"reserved tcb, launch":    {byteAt(0x1f2, 1), refusal.Malformed},
		"unknown processor":       {byteAt(0x188, 0x18), refusal.Chain},
		"unknown model":           {byteAt(0x189, 0x20), refusal.Chain},
		"unknown zen 5 model":     {milan(func(b *bench) { b.report[0x188], b.report[0x189] = 0x1a, 0x20 }), refusal.Chain},
		"version 2 of no product": {milan(func(b *bench) { b.report[0] = 2; clear(b.report[0x188:0x18b]); b.product = "Rome-B0" }), refusal.Chain},
		"other line":              {byteAt(0x189, 0x11), refusal.Chain},
		"vlek bit with a vcek":    {byteAt(0x48, 1<<2), refusal.Chain},
		"signature of zeros":      {milan(func(b *bench) { b.afterSign = func(r []byte) { clear(r[0x2a0:0x330]) } }), refusal.Signature},
		"other key":               {milan(func(b *bench) { b.leafKey = mustKey(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) }), refusal.Signature},

		"leaf below amd's place": {milan(func(b *bench) { b.leaf.Subject.Locality = []string{"Elsewhere"} }), refusal.Chain},

		"leaf not yet valid": {milan(func(b *bench) { b.leaf.NotBefore = b.at.Add(time.Second) }), refusal.Expired},
		"leaf expired":       {milan(func(b *bench) { b.leaf.NotAfter = b.at.Add(-time.Second) }), refusal.Expired},
		"ask not yet valid":  {milan(func(b *bench) { b.ask.NotBefore = b.at.Add(time.Second) }), refusal.Expired},
		"ask expired":        {milan(func(b *bench) { b.ask.NotAfter = b.at.Add(-time.Second) }), refusal.Expired},
		"ark not yet valid":  {milan(func(b *bench) { b.ark.NotBefore = b.at.Add(time.Second) }), refusal.Expired},
		"ark expired":        {milan(func(b *bench) { b.ark.NotAfter = b.at.Add(-time.Second) }), refusal.Expired},

		"other bootloader":       {byteAt(0x180, 3), refusal.EndorsementsMismatch},
		"other tee":              {byteAt(0x181, 1), refusal.EndorsementsMismatch},
		"other snp firmware":     {byteAt(0x186, 23), refusal.EndorsementsMismatch},
		"other microcode":        {byteAt(0x187, 218), refusal.EndorsementsMismatch},
		"other chip":             {byteAt(0x1a0, 0), refusal.EndorsementsMismatch},
		"other chip, last byte":  {byteAt(0x1df, 0), refusal.EndorsementsMismatch},
		"masked chip":            {milan(func(b *bench) { clear(b.report[0x1a0:0x1e0]) }), refusal.EndorsementsMismatch},
		"chip of zeros":          {milan(func(b *bench) { clear(b.report[0x1a0:0x1e0]); b.hwid = make([]byte, 64) }), refusal.EndorsementsMismatch},
		"no chip in leaf":        {milan(func(b *bench) { b.hwid = nil }), refusal.Malformed},
		"short chip in leaf":     {milan(func(b *bench) { b.hwid = b.hwid[:8] }), refusal.Malformed},
		"chip and provider":      {milan(func(b *bench) { b.csp = "CN=provider.test" }), refusal.Malformed},
		"no bootloader level":    {milan(func(b *bench) { delete(b.spl, 1) }), refusal.Malformed},
		"no microcode level":     {milan(func(b *bench) { delete(b.spl, 8) }), refusal.Malformed},
		"no reserved level":      {milan(func(b *bench) { delete(b.spl, 4) }), refusal.Malformed},
		"level above a byte":     {milan(func(b *bench) { b.spl[1] = 260 }), refusal.Malformed},
		"level below zero":       {milan(func(b *bench) { b.spl[1] = -252 }), refusal.Malformed},
		"level as a boolean":     {milan(func(b *bench) { b.spl[2] = false }), refusal.Malformed},
		"level with a trailer":   {milan(func(b *bench) { b.spl[1] = asn1.RawContent{2, 1, 4, 0} }), refusal.Malformed},
		"product not a string":   {milan(func(b *bench) { b.product = nil; b.extra = amdExtension(2, 2, 1, 1) }), refusal.Malformed},
		"provider not a string":  {milan(func(b *bench) { b.extra = amdExtension(5, 2, 1, 1) }), refusal.Malformed},
		"reported above current": {byteAt(0x38+7, 218), refusal.TCB},
		"committed above current": {milan(func(b *bench) {
			b.report[0x1e0+6] = 25
		}), refusal.TCB},
		"vlek of no provider": {func() *bench { b := newBench("Milan", "VLEK"); b.csp = nil; return b }, refusal.Malformed},
		"vlek with a chip":    {func() *bench { b := newBench("Milan", "VLEK"); b.hwid = make([]byte, 64); return b }, refusal.Malformed},
		"vlek of another tcb": {func() *bench { b := newBench("Milan", "VLEK"); b.spl[3] = 25; return b }, refusal.EndorsementsMismatch},
		"turin, product with a trailer": {func() *bench {
			b := newBench("Turin", "VCEK")
			b.product, b.extra = nil, amdExtension(2, 0x16, 1, 'T', 0)
			return b
		}, refusal.Malformed},
		"turin, product not a string": {func() *bench {
			b := newBench("Turin", "VCEK")
			b.product, b.extra = nil, amdExtension(2, 2, 1, 1)
			return b
		}, refusal.Malformed},
		"version 2, leaf below amd's place": {milan(func(b *bench) {
			b.report[0] = 2
			clear(b.report[0x188:0x18b])
			b.leaf.Subject.Locality = []string{"Elsewhere"}
		}), refusal.Chain},
		"turin under milan's root": {func() *bench {
			b := newBench("Turin", "VCEK")
			b.ark.Subject.CommonName, b.ask.Subject.CommonName = "ARK-Milan", "SEV-Milan"
			return b
		}, refusal.Chain},
		"vcek under the root of vleks": {func() *bench {
			b := newBench("Turin", "VCEK")
			b.ask.Subject.CommonName = "SEV-VLEK-Turin"
			return b
		}, refusal.Chain},
		"vlek under the root of vceks": {func() *bench {
			b := newBench("Turin", "VLEK")
			b.ask.Subject.CommonName = "SEV-Turin"
			return b
		}, refusal.Chain},
		"turin without fmc": {func() *bench { b := newBench("Turin", "VCEK"); delete(b.spl, 9); return b }, refusal.Malformed},
		"turin, other fmc":  {func() *bench { b := newBench("Turin", "VCEK"); b.spl[9] = 2; return b }, refusal.EndorsementsMismatch},
		"turin, other chip": {func() *bench { b := newBench("Turin", "VCEK"); b.report[0x1a7] ^= 1; return b }, refusal.EndorsementsMismatch},
		"turin, chip tail":  {func() *bench { b := newBench("Turin", "VCEK"); b.report[0x1a8] = 1; return b }, refusal.EndorsementsMismatch},
		"turin, signature": {func() *bench {
			b := newBench("Turin", "VCEK")
			b.afterSign = func(r []byte) { r[0x90] ^= 1 }
			return b
		}, refusal.Signature},
		"turin, reserved tcb": {func() *bench { b := newBench("Turin", "VCEK"); b.report[0x38+5] = 1; return b }, refusal.Malformed},
		"turin, long chip":    {func() *bench { b := newBench("Turin", "VCEK"); b.hwid = make([]byte, 64); return b }, refusal.Malformed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := tt.make().verify(t)
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
	byteAt := func(off int, v byte) func(b *bench) {
		return func(b *bench) { b.report[off] = v }
	}
	tests := map[string]struct {
		change func(b *bench)
		want   refusal.Code
	}{
		"version 1":             {func(b *bench) { b.report[0] = 1; clear(b.report[0x188:0x18b]) }, refusal.Malformed},
		"version 6":             {byteAt(0, 6), refusal.Malformed},
		"signature algorithm 0": {byteAt(0x34, 0), refusal.Malformed},
		"signature algorithm 2": {byteAt(0x34, 2), refusal.Malformed},
		"policy bit 17 clear":   {func(b *bench) { le.PutUint64(b.report[8:], 1<<16) }, refusal.Malformed},
		"policy bit 26":         {func(b *bench) { le.PutUint64(b.report[8:], 1<<17|1<<26) }, refusal.Malformed},
		"policy bit 63":         {func(b *bench) { le.PutUint64(b.report[8:], 1<<17|1<<63) }, refusal.Malformed},
		"platform bit 8":        {byteAt(0x41, 1), refusal.Malformed},
		"vmpl 4":                {byteAt(0x30, 4), refusal.Malformed},
		"vmpl of the host":      {func(b *bench) { le.PutUint32(b.report[0x30:], 0xffffffff) }, refusal.Malformed},
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
		"byte after signature":  {func(b *bench) { b.afterSign = func(r []byte) { r[0x330] = 1 } }, refusal.Malformed},
		"last byte":             {func(b *bench) { b.afterSign = func(r []byte) { r[1183] = 1 } }, refusal.Malformed},
		"cpuid in version 2":    {byteAt(0, 2), refusal.Malformed},
	}
	for name, tt := range tests {
		for _, line := range []string{"Milan", "Turin"} {
			t.Run(line+", "+name, func(t *testing.T) {
				t.Parallel()
				b := newBench(line, "VCEK")
				tt.change(b)
				r, err := b.verify(t)
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
		change func(b *bench)
		want   refusal.Code
	}{
		"leaf name":            {func(b *bench) { b.leaf.Subject.CommonName = "SEV-VLEK" }, refusal.Chain},
		"leaf of a p-256 key":  {func(b *bench) { b.leafPublic = &mustKey(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)).PublicKey }, refusal.Chain},
		"leaf of an rsa key":   {func(b *bench) { b.leafPublic = &b.arkKey.PublicKey }, refusal.Chain},
		"leaf signed pkcs1":    {func(b *bench) { b.leaf.SignatureAlgorithm = x509.SHA384WithRSA }, refusal.Chain},
		"leaf is an authority": {func(b *bench) { b.leaf.IsCA, b.leaf.BasicConstraintsValid = true, true }, refusal.Chain},
		"leaf critical extension": {func(b *bench) {
			b.extra = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}, refusal.Chain},
		"leaf of another issuer name": {func(b *bench) {
			b.rootsOf = newBench(b.line, b.key)
			b.ask.Subject.Organization = []string{"Other"}
		}, refusal.Chain},
		"leaf signed by another key": {func(b *bench) {
			b.rootsOf = newBench(b.line, b.key)
			b.askKey = b.arkKey
		}, refusal.Chain},
	}
	for name, tt := range tests {
		for _, line := range []string{"Milan", "Turin"} {
			t.Run(line+", "+name, func(t *testing.T) {
				t.Parallel()
				b := newBench(line, "VCEK")
				tt.change(b)
				r, err := b.verify(t)
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
	b := newBench("Milan", "VCEK")
	report, leaf, roots := b.signed(t), b.leafDER(t), b.roots(t)
	tests := map[string]struct {
		report, leaf []byte
		roots        []snp.Root
		want         refusal.Code
	}{
		"no report":         {nil, leaf, roots, refusal.Malformed},
		"no leaf":           {report, nil, roots, refusal.EndorsementsMissing},
		"leaf and a byte":   {report, append(slices.Clone(leaf), 0), roots, refusal.Malformed},
		"leaf in pem":       {report, toPEM(leaf), roots, refusal.Malformed},
		"huge leaf":         {report, make([]byte, 1<<20), roots, refusal.Malformed},
		"no roots":          {report, leaf, nil, refusal.Chain},
		"zero root":         {report, leaf, []snp.Root{{}}, refusal.Chain},
		"amd's roots":       {report, leaf, amdRoots(t), refusal.Chain},
		"the ask as leaf":   {report, b.askDER(t), roots, refusal.Chain},
		"the ark as leaf":   {report, b.arkDER(t), roots, refusal.Chain},
		"roots of vlek":     {report, leaf, newBench("Milan", "VLEK").roots(t), refusal.Chain},
		"roots of genoa":    {report, leaf, newBench("Genoa", "VCEK").roots(t), refusal.Chain},
		"report of a zero":  {make([]byte, snp.ReportSize), leaf, roots, refusal.Malformed},
		"leaf is not a der": {report, []byte("leaf"), roots, refusal.Malformed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := snp.Verify(tt.report, tt.leaf, tt.roots, testTime)
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
	b := newBench("Milan", "VCEK")
	other := newBench("Milan", "VCEK")
	other.arkKey = mustKey(rsa.GenerateKey(rand.Reader, 3072))
	other.askKey = other.arkKey
	roots := slices.Concat(amdRoots(t), other.roots(t), b.roots(t), newBench("Genoa", "VCEK").roots(t))
	r, err := snp.Verify(b.signed(t), b.leafDER(t), roots, b.at)
	if err != nil {
		t.Fatal(err)
	}
	if r.Root().Fingerprint() != b.roots(t)[0].Fingerprint() && r.Root().AMD() {
		t.Error("another root")
	}
}

// Independent failures are all told, and each is told once.
func TestVerifyTellsAll(t *testing.T) {
	t.Parallel()
	late := newBench("Milan", "VCEK")
	late.leaf.NotAfter = late.at.Add(-time.Second)
	_, err := late.verify(t)
	wantCodes(t, err, codes(refusal.Expired))
	late.report[0x1a0] ^= 1
	late.afterSign = func(r []byte) { r[0x90] ^= 1 }
	_, err = late.verify(t)
	wantCodes(t, err, codes(refusal.Expired, refusal.EndorsementsMismatch, refusal.Signature))
}

// TestEveryBitCounts flips single bits of a signed report, on a line that go-sev-guest reads and on one that it does
// not: one bit of each byte, another one from byte to byte. With KETTLE_EXHAUSTIVE=1 it is every bit of every byte,
// about twenty seconds.
func TestEveryBitCounts(t *testing.T) {
	t.Parallel()
	exhaustive := os.Getenv("KETTLE_EXHAUSTIVE") == "1"
	for _, line := range []string{"Turin", "Milan"} {
		b := newBench(line, "VCEK")
		report, leaf, roots := b.signed(t), b.leafDER(t), b.roots(t)
		for part, from := range []int{0, 0x100, 0x200, 0x300} {
			to := []int{0x100, 0x200, 0x300, len(report)}[part]
			t.Run(line, func(t *testing.T) {
				t.Parallel()
				for i := 8 * from; i < 8*to; i++ {
					if !exhaustive && i%8 != i/8%8 {
						continue
					}
					flipped := slices.Clone(report)
					flipped[i/8] ^= 1 << (i % 8)
					if _, err := snp.Verify(flipped, leaf, roots, b.at); err == nil {
						t.Fatalf("accepted with bit %d of byte %#x flipped", i%8, i/8)
					}
				}
			})
		}
	}
}

func TestReportSaysWhatWasSigned(t *testing.T) {
	t.Parallel()
	b := newBench("Genoa", "VCEK")
	le := binary.LittleEndian
	for i := range b.report[0x50:0x180] {
		b.report[0x50+i] = byte(i)
	}
	for i := range 0x20 {
		b.report[0x10+i] = byte(0x80 + i)
	}
	b.report[0] = 5
	le.PutUint32(b.report[0x04:], 77)
	le.PutUint32(b.report[0x30:], 2)
	le.PutUint32(b.report[0x48:], 1)
	le.PutUint64(b.report[0x1f8:], 0x11)
	le.PutUint64(b.report[0x200:], 0x22)
	b.report[0x38+7], b.report[0x1e0+7], b.report[0x1f0+7] = 0x60, 0x58, 0x50
	r, err := b.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	raw := b.report
	author, hasAuthor := r.AuthorKeyDigest()
	launch, current := r.Mitigations()
	instance := r.Instance()
	check := func(what string, ok bool) {
		if !ok {
			t.Errorf("%s is not what was signed", what)
		}
	}
	check("version", r.Version() == 5)
	check("guest svn", r.GuestSVN() == 77)
	check("vmpl", r.VMPL() == 2)
	check("policy", r.Policy() == 0x3001f && r.Policy().SMT() && !r.Policy().Debug() && !r.Policy().MigrationAgent())
	check("platform", r.PlatformInfo() == 0x25 && r.PlatformInfo().SMT() && r.PlatformInfo().AliasCheckComplete() && !r.PlatformInfo().CiphertextHiding())
	check("report data", r.ReportData() == [64]byte(raw[0x50:0x90]))
	check("measurement", r.Measurement() == [48]byte(raw[0x90:0xc0]))
	check("host data", r.HostData() == [32]byte(raw[0xc0:0xe0]))
	check("id key digest", r.IDKeyDigest() == [48]byte(raw[0xe0:0x110]))
	check("author key digest", author == [48]byte(raw[0x110:0x140]) && hasAuthor)
	check("report id", r.ReportID() == [32]byte(raw[0x140:0x160]))
	check("migration agent", r.ReportIDMA() == [32]byte(raw[0x160:0x180]))
	check("family", r.FamilyID() == [16]byte(raw[0x10:0x20]))
	check("image", r.ImageID() == [16]byte(raw[0x20:0x30]))
	check("chip", r.ChipID() == [64]byte(raw[0x1a0:0x1e0]))
	check("instance", instance == [96]byte(slices.Concat(raw[0x140:0x160], raw[0x1a0:0x1e0])))
	check("reported", r.ReportedTCB() == snp.TCB{Bootloader: 10, SNP: 23, Microcode: 0x54})
	check("current", r.CurrentTCB() == snp.TCB{Bootloader: 10, SNP: 23, Microcode: 0x60})
	check("committed", r.CommittedTCB() == snp.TCB{Bootloader: 10, SNP: 23, Microcode: 0x58})
	check("launch", r.LaunchTCB() == snp.TCB{Bootloader: 10, SNP: 23, Microcode: 0x50})
	check("processor", r.CPU() == snp.CPU{Family: 0x19, Model: 0x11, Stepping: 1})
	check("mitigations", launch == 0x11 && current == 0x22)
	check("expiry", r.EndorsementExpires().Equal(b.leaf.NotAfter))
}
