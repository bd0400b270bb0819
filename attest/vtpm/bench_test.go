// SPDX-License-Identifier: Apache-2.0

package vtpm_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/kettle/attest/attest/vtpm"
)

// BenchmarkAzure is all of Azure's evidence but the hardware's report: the paravisor's report, bound and read, and the
// quote of 24 registers.
func BenchmarkAzure(b *testing.B) {
	a := azureVectors(b)[0]
	b.ReportAllocs()
	for b.Loop() {
		h, err := vtpm.ParseHCL(a.hcl)
		if err != nil {
			b.Fatal(err)
		}
		g, err := h.Bind(a.reportData)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := vtpm.VerifyBare(g.AK(), a.attest, a.signature, a.pcrs); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkQuote(b *testing.B) {
	a := azureVectors(b)[0]
	ak := a.guest(b).AK()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := vtpm.VerifyBare(ak, a.attest, a.signature, a.pcrs); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkQuoteGoTPM does the same with go-tpm's decoding.
func BenchmarkQuoteGoTPM(b *testing.B) {
	a := azureVectors(b)[0]
	key, err := x509.ParsePKIXPublicKey(a.guest(b).AK().PublicKey())
	if err != nil {
		b.Fatal(err)
	}
	ak, ok := key.(*rsa.PublicKey)
	if !ok {
		b.Fatal("no RSA key")
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := goTPM(ak, a); err != nil {
			b.Fatal(err)
		}
	}
}

func goTPM(ak *rsa.PublicKey, a azure) error {
	sum := sha256.Sum256(a.attest)
	if err := rsa.VerifyPKCS1v15(ak, crypto.SHA256, sum[:], a.signature); err != nil {
		return err
	}
	attest, err := tpm2.Unmarshal[tpm2.TPMSAttest](a.attest)
	if err != nil {
		return err
	}
	if err := attest.Magic.Check(); err != nil {
		return err
	}
	info, err := attest.Attested.Quote()
	if err != nil {
		return err
	}
	h := sha256.New()
	for _, p := range a.pcrs {
		h.Write(p)
	}
	if len(info.PCRSelect.PCRSelections) != 1 || subtle.ConstantTimeCompare(h.Sum(nil), info.PCRDigest.Buffer) != 1 {
		return errors.New("other registers")
	}
	return nil
}
