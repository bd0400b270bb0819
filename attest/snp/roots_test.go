// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"slices"
	"testing"

	"github.com/google/go-sev-guest/verify/trust"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/snp/snptest"
)

// TestAMDRootsArePinned holds AMD's ARK certificates by SHA-256. A change of the library that brings others has to be
// compared with https://kdsintf.amd.com/vcek/v1/<line>/cert_chain before these values change.
func TestAMDRootsArePinned(t *testing.T) {
	t.Parallel()
	want := map[snp.Line]string{
		snp.Milan: "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
		snp.Genoa: "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
		snp.Turin: "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
	}
	roots := amdRoots(t)
	if len(roots) != 6 {
		t.Fatalf("%d roots", len(roots))
	}
	for _, r := range roots {
		f := r.Fingerprint()
		if got := hex.EncodeToString(f[:]); got != want[r.Line()] || !r.AMD() {
			t.Errorf("%s: %s, AMD %v", r.Line(), got, r.AMD())
		}
	}
	if (snp.Root{}).Fingerprint() != [32]byte{} || (snp.Root{}).AMD() {
		t.Error("the zero root is something")
	}
}

func TestParseRootsRefuses(t *testing.T) {
	t.Parallel()
	chain := func(change func(b *snptest.Machine)) []byte {
		b := snptest.New("Milan", "VCEK")
		change(b)
		return b.RootsPEM(t)
	}
	good := snptest.New("Milan", "VCEK")
	ask, ark := snptest.PEM(good.ASKDER(t)), snptest.PEM(good.ARKDER(t))
	critical := []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
	withHeader := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"a": "b"}, Bytes: good.ASKDER(t)})
	tests := map[string]struct {
		pem  []byte
		want refusal.Code
	}{
		"empty":                  {nil, refusal.Malformed},
		"white space":            {[]byte(" \n"), refusal.Malformed},
		"one certificate":        {ask, refusal.Malformed},
		"three certificates":     {slices.Concat(ask, ark, ark), refusal.Malformed},
		"text before":            {slices.Concat([]byte("hello\n"), ask, ark), refusal.Malformed},
		"text between":           {slices.Concat(ask, []byte("hello\n"), ark), refusal.Malformed},
		"text after":             {slices.Concat(ask, ark, []byte("hello")), refusal.Malformed},
		"broken block skipped":   {slices.Concat([]byte("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"), ask, ark), refusal.Malformed},
		"header":                 {slices.Concat(withHeader, ark), refusal.Malformed},
		"a key among them":       {slices.Concat(ask, bytes.ReplaceAll(ark, []byte("CERTIFICATE"), []byte("PUBLIC KEY"))), refusal.Malformed},
		"der":                    {good.ARKDER(t), refusal.Malformed},
		"first is no x.509":      {slices.Concat(snptest.PEM([]byte("no")), ark), refusal.Malformed},
		"second is no x.509":     {slices.Concat(ask, snptest.PEM([]byte("no"))), refusal.Malformed},
		"too long":               {append(slices.Concat(ask, ark), bytes.Repeat([]byte("\n"), 1<<17)...), refusal.Malformed},
		"wrong order":            {slices.Concat(ark, ask), refusal.Chain},
		"ark twice":              {slices.Concat(ark, ark), refusal.Chain},
		"ark of no line":         {chain(func(b *snptest.Machine) { b.ARK.Subject.CommonName = "ARK-Rome" }), refusal.Chain},
		"ark without prefix":     {chain(func(b *snptest.Machine) { b.ARK.Subject.CommonName = "Milan" }), refusal.Chain},
		"ask of another line":    {chain(func(b *snptest.Machine) { b.ASK.Subject.CommonName = "SEV-Genoa" }), refusal.Chain},
		"short keys":             {chain(func(b *snptest.Machine) { b.ARKKey = snptest.RSAKey(2048) }), refusal.Chain},
		"short ask key":          {chain(func(b *snptest.Machine) { b.ASKKey = snptest.RSAKey(2048) }), refusal.Chain},
		"ark signed pkcs1":       {chain(func(b *snptest.Machine) { b.ARK.SignatureAlgorithm = x509.SHA384WithRSA }), refusal.Chain},
		"ask signed with sha256": {chain(func(b *snptest.Machine) { b.ASK.SignatureAlgorithm = x509.SHA256WithRSAPSS }), refusal.Chain},
		"ark no authority":       {chain(func(b *snptest.Machine) { b.ARK.IsCA = false }), refusal.Chain},
		"ark cannot sign":        {chain(func(b *snptest.Machine) { b.ARK.KeyUsage = x509.KeyUsageCRLSign }), refusal.Chain},
		"ark critical extension": {chain(func(b *snptest.Machine) { b.ARK.ExtraExtensions = critical }), refusal.Chain},
		"ask critical extension": {chain(func(b *snptest.Machine) { b.ASK.ExtraExtensions = critical }), refusal.Chain},
		"ask of another issuer": {slices.Concat(ask, snptest.PEM(func() []byte {
			b := snptest.New("Milan", "VCEK")
			b.ARK.Subject.Organization = []string{"Other"}
			return b.ARKDER(t)
		}())), refusal.Chain},
		"ask of another key": {slices.Concat(ask, snptest.PEM(func() []byte {
			b := snptest.New("Milan", "VCEK")
			b.ARKKey = b.ASKKey
			return b.ARKDER(t)
		}())), refusal.Chain},
		"ark signed by another": {slices.Concat(ask, snptest.PEM(reSigned(t, good))), refusal.Chain},
		"ecdsa ark": {slices.Concat(ask, snptest.PEM(func() []byte {
			k := snptest.ECDSAKey(elliptic.P384())
			tmpl := snptest.Template("ARK-Milan", true)
			tmpl.SignatureAlgorithm = x509.ECDSAWithSHA384
			return snptest.Certificate(t, tmpl, tmpl, &k.PublicKey, k)
		}())), refusal.Chain},
		"amd's ask signed by another ark": {slices.Concat(snptest.PEM(snptest.Certificate(t, good.ASK, good.ARK, amdKey(t, 0), good.ARKKey)), ark), refusal.Policy},
		"amd's ark as an ask":             {slices.Concat(snptest.PEM(snptest.Certificate(t, good.ASK, good.ARK, amdKey(t, 1), good.ARKKey)), ark), refusal.Policy},
		"amd's milan":                     {trust.AskArkMilanVcekBytes, refusal.Policy},
		"amd's genoa":                     {trust.AskArkGenoaVcekBytes, refusal.Policy},
		"amd's turin":                     {trust.AskArkTurinVcekBytes, refusal.Policy},
		"amd's vlek":                      {trust.AskArkMilanVlekBytes, refusal.Policy},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			roots, err := snp.ParseRoots(tt.pem)
			wantFirst(t, err, tt.want)
			if roots != nil {
				t.Error("roots besides the refusal")
			}
		})
	}
}

// amdKey gives the public key of AMD's ASK (0) or ARK (1) for Milan.
func amdKey(t *testing.T, i int) any {
	t.Helper()
	first, rest := pem.Decode(trust.AskArkMilanVcekBytes)
	second, _ := pem.Decode(rest)
	return parsed(t, [][]byte{first.Bytes, second.Bytes}[i]).PublicKey
}

// reSigned gives the ARK with the ASK's signature over it: x509.CreateCertificate would refuse to make it in one step.
func reSigned(t *testing.T, b *snptest.Machine) []byte {
	t.Helper()
	named := *b.ARK
	return snptest.Certificate(t, b.ARK, &named, &b.ARKKey.PublicKey, b.ASKKey)
}

func TestParseRootsAccepts(t *testing.T) {
	t.Parallel()
	b := snptest.New("Milan", "VLEK")
	for name, data := range map[string][]byte{
		"as written":   b.RootsPEM(t),
		"carriage":     bytes.ReplaceAll(b.RootsPEM(t), []byte("\n"), []byte("\r\n")),
		"white space":  slices.Concat([]byte("\n"), b.RootsPEM(t), []byte("\r\n\r\n")),
		"no last line": bytes.TrimSpace(b.RootsPEM(t)),
	} {
		roots, err := snp.ParseRoots(data)
		if err != nil || len(roots) != 1 || roots[0].AMD() || roots[0].Line() != snp.Milan {
			t.Errorf("%s: %v %v", name, roots, err)
		}
	}
}

func TestEndorsementKey(t *testing.T) {
	t.Parallel()
	b := snptest.New("Milan", "VCEK")
	leaf, rest := b.LeafDER(t), b.RootsPEM(t)
	for name, data := range map[string][]byte{"alone": snptest.PEM(leaf), "with its chain": append(snptest.PEM(leaf), rest...)} {
		if got, err := snp.EndorsementKey(data); err != nil || !bytes.Equal(got, leaf) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, tt := range map[string]struct {
		data []byte
		want refusal.Code
	}{
		"nothing":      {nil, refusal.EndorsementsMissing},
		"white space":  {[]byte("\n "), refusal.EndorsementsMissing},
		"der":          {leaf, refusal.Malformed},
		"text":         {append([]byte("x"), snptest.PEM(leaf)...), refusal.Malformed},
		"text at end":  {append(snptest.PEM(leaf), 'x'), refusal.Malformed},
		"five of them": {bytes.Repeat(snptest.PEM(leaf), 5), refusal.Malformed},
	} {
		got, err := snp.EndorsementKey(tt.data)
		wantFirst(t, err, tt.want)
		if got != nil {
			t.Errorf("%s: a certificate besides the refusal", name)
		}
	}
}
