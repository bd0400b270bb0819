// SPDX-License-Identifier: Apache-2.0

package vtpm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
	"time"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/vtpm"
	"github.com/kettle/attest/attest/vtpm/vtpmtest"
)

func TestCertifiedAK(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	ak := w.certified(t, w.rsa)
	chain, err := w.authority.AK(w.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(w.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	if ak.Origin() != vtpm.Certificate || !bytes.Equal(ak.PublicKey(), spki) || !ak.CertificateExpires().Equal(expires) {
		t.Errorf("%v until %v", ak.Origin(), ak.CertificateExpires())
	}
	if c, err := x509.ParseCertificate(ak.CertificateDER()); err != nil || c.Issuer.CommonName != "test TPM issuer" || len(chain) != 2 {
		t.Errorf("certificate: %v", err)
	}
	if new(vtpm.AK).Fingerprint() != ([32]byte{}) || new(vtpm.AK).Origin().String() != "none" {
		t.Error("a key that nobody trusts has a name")
	}
}

func TestRefusedCertificates(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	good, err := w.authority.AK(w.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := vtpmtest.NewAuthority(issued, expires)
	if err != nil {
		t.Fatal(err)
	}
	strange, err := stranger.AK(w.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	roots := w.roots()
	for name, tt := range map[string]struct {
		chain [][]byte
		roots []*x509.Certificate
		at    time.Time
		code  refusal.Code
	}{
		"no time":              {good, roots, time.Time{}, refusal.Missing},
		"no roots":             {good, nil, now, refusal.Chain},
		"nil root":             {good, []*x509.Certificate{nil}, now, refusal.Chain},
		"no certificate":       {nil, roots, now, refusal.Chain},
		"other root":           {good, []*x509.Certificate{stranger.Root()}, now, refusal.Chain},
		"own chain":            {append(strange, stranger.Root().Raw), roots, now, refusal.Chain},
		"without issuer":       {good[:1], roots, now, refusal.Chain},
		"issuer first":         {[][]byte{good[1], good[0]}, roots, now, refusal.Chain},
		"root itself":          {[][]byte{w.authority.Root().Raw}, roots, now, refusal.Chain},
		"before":               {good, roots, issued.Add(-time.Second), refusal.Expired},
		"after":                {good, roots, expires.Add(time.Second), refusal.Expired},
		"not a certificate":    {[][]byte{[]byte("certificate")}, roots, now, refusal.Malformed},
		"trailing byte":        {[][]byte{append(bytes.Clone(good[0]), 0), good[1]}, roots, now, refusal.Malformed},
		"empty":                {[][]byte{{}}, roots, now, refusal.Malformed},
		"huge":                 {[][]byte{make([]byte, 1<<20)}, roots, now, refusal.Malformed},
		"too many":             {append(make([][]byte, 9), good...), roots, now, refusal.Malformed},
		"issuer not a certifi": {[][]byte{good[0], {0x30}}, roots, now, refusal.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ak, err := vtpm.CertifiedAK(tt.chain, tt.roots, tt.at)
			wantFirst(t, err, tt.code)
			if ak != nil {
				t.Error("a key besides the refusal")
			}
		})
	}
}

// TestCertificatesForOtherUses: under a trusted root, only certificates for this purpose count.
func TestCertificatesForOtherUses(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tcg := func(last int) []asn1.ObjectIdentifier { return []asn1.ObjectIdentifier{{2, 23, 133, 8, last}} }
	san := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: []byte{0x30, 0x07, 0xa4, 0x05, 0x30, 0x03, 0x31, 0x01, 0x30}}
	for name, tt := range map[string]struct {
		key      crypto.PublicKey
		template x509.Certificate
		good     bool
	}{
		"for an AK":           {nil, x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, UnknownExtKeyUsage: tcg(3)}, true},
		"Google's":            {nil, x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, UnknownExtKeyUsage: tcg(1)}, true},
		"plain":               {nil, x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature}, true},
		"no usage":            {nil, x509.Certificate{UnknownExtKeyUsage: tcg(3)}, false},
		"encipherment":        {nil, x509.Certificate{KeyUsage: x509.KeyUsageKeyEncipherment, UnknownExtKeyUsage: tcg(3)}, false},
		"both":                {nil, x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment}, false},
		"a web server's":      {nil, x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, false},
		"platform's":          {nil, x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, UnknownExtKeyUsage: tcg(2)}, false},
		"an authority's":      {nil, x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, IsCA: true, BasicConstraintsValid: true}, false},
		"odd curve":           {p521.Public(), x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature}, false},
		"directory name":      {nil, x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: []pkix.Extension{san}}, true},
		"unknown restriction": {nil, x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.key == nil {
				tt.key = w.rsa.Public()
			}
			chain, err := w.authority.Issue(tt.key, &tt.template)
			if err != nil {
				t.Fatal(err)
			}
			_, err = vtpm.CertifiedAK(chain, w.roots(), now)
			if tt.good && err != nil {
				t.Error(err)
			}
			if !tt.good {
				wantFirst(t, err, refusal.Chain)
			}
		})
	}
}

// TestAttackWeakKey: RSA of 1024 bits under a trusted authority.
func TestAttackWeakKey(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	w := theWorld(t)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := w.authority.AK(weak.Public())
	if err != nil {
		t.Fatal(err)
	}
	_, err = vtpm.CertifiedAK(chain, w.roots(), now)
	wantFirst(t, err, refusal.Chain)
}
