// SPDX-License-Identifier: Apache-2.0

package nitro_test

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/kettle/attest/attest/nitro"
	"github.com/kettle/attest/attest/nitro/nitrotest"
	"github.com/kettle/attest/attest/refusal"
)

// awsFingerprint is what AWS prints in its user guides for enclaves and for NitroTPM.
const awsFingerprint = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"

func TestAWSRoots(t *testing.T) {
	t.Parallel()
	roots := awsRoots(t)
	if len(roots) != 1 || !roots[0].AWS() {
		t.Fatalf("%d roots", len(roots))
	}
	if got := roots[0].Fingerprint(); hex.EncodeToString(got[:]) != awsFingerprint {
		t.Fatalf("fingerprint %x", got)
	}
	c := awsCertificate(t)
	if err := c.CheckSignatureFrom(c); err != nil {
		t.Error(err)
	}
	if end := time.Date(2049, 10, 28, 14, 28, 5, 0, time.UTC); c.Subject.CommonName != "aws.nitro-enclaves" || !c.NotAfter.Equal(end) {
		t.Errorf("root %s until %s", c.Subject, c.NotAfter)
	}
}

func awsCertificate(t testing.TB) *x509.Certificate {
	t.Helper()
	der, err := os.ReadFile("aws_nitro_enclaves_root_g1.der")
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParseRoots(t *testing.T) {
	t.Parallel()
	p := nitrotest.New(nitrotest.Config{})
	text := p.PEM(nitrotest.Root)
	for _, good := range [][]byte{text, bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")), append([]byte("\n \n"), text...)} {
		roots, err := nitro.ParseRoots(good)
		if err != nil || len(roots) != 1 || roots[0].AWS() || roots[0].Fingerprint() == [32]byte{} {
			t.Fatalf("%d roots: %v", len(roots), err)
		}
	}
	if (nitro.Root{}).Fingerprint() != [32]byte{} || (nitro.Root{}).AWS() {
		t.Error("the zero root is a root")
	}
	changed := func(change func(t *x509.Certificate)) []byte {
		return nitrotest.New(nitrotest.Config{Change: func(name string, template *x509.Certificate) {
			if name == nitrotest.Root {
				change(template)
			}
		}}).PEM(nitrotest.Root)
	}
	block, _ := pem.Decode(text)
	for name, c := range map[string]struct {
		text []byte
		code refusal.Code
	}{
		"nothing":              {nil, refusal.Malformed},
		"no PEM":               {[]byte("root"), refusal.Malformed},
		"two certificates":     {slices.Concat(text, text), refusal.Malformed},
		"text before":          {append([]byte("root:\n"), text...), refusal.Malformed},
		"text after":           {append(slices.Clone(text), "root"...), refusal.Malformed},
		"a key":                {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: block.Bytes}), refusal.Malformed},
		"a header":             {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"a": "b"}, Bytes: block.Bytes}), refusal.Malformed},
		"no certificate":       {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), refusal.Malformed},
		"far too much":         {bytes.Repeat([]byte("\n"), 1<<20), refusal.Malformed},
		"an intermediate":      {p.PEM(nitrotest.Zonal), refusal.Chain},
		"a leaf":               {p.PEM(nitrotest.Leaf), refusal.Chain},
		"no CA":                {changed(func(t *x509.Certificate) { t.IsCA = false }), refusal.Chain},
		"signs no certificate": {changed(func(t *x509.Certificate) { t.KeyUsage = x509.KeyUsageDigitalSignature }), refusal.Chain},
		"over SHA-256":         {changed(func(t *x509.Certificate) { t.SignatureAlgorithm = x509.ECDSAWithSHA256 }), refusal.Chain},
		"signed by another":    {nitrotest.New(nitrotest.Config{Issuers: map[string]string{nitrotest.Root: "another"}}).PEM(nitrotest.Root), refusal.Chain},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			roots, err := nitro.ParseRoots(c.text)
			if roots != nil {
				t.Fatal("roots")
			}
			wantCodes(t, err, c.code)
			if refusal.All(err)[0].Link != "root" {
				t.Fatal(err)
			}
		})
	}
}
