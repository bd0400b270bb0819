// SPDX-License-Identifier: Apache-2.0

package vtpm_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/google/go-tpm/tpm2"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/vtpm"
	"github.com/kettle/attest/attest/vtpm/vtpmtest"
)

func randomness() io.Reader { return rand.Reader }

// withKey puts a software key into a template.
func withKey(t testing.TB, template tpm2.TPMTPublic, s *vtpmtest.Signer) []byte {
	t.Helper()
	switch k := s.Public().(type) {
	case *rsa.PublicKey:
		template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: k.N.Bytes()})
	case *ecdsa.PublicKey:
		point, err := k.Bytes() // 4, x, y
		if err != nil {
			t.Fatal(err)
		}
		size := len(point) / 2
		template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1 : 1+size]},
			Y: tpm2.TPM2BECCParameter{Buffer: point[1+size:]},
		})
	}
	return tpm2.Marshal(template)
}

func certifiedEK(t testing.TB, w *world, s *vtpmtest.Signer, public []byte) (*vtpm.EK, error) {
	t.Helper()
	chain, err := w.authority.EK(s.Public())
	if err != nil {
		t.Fatal(err)
	}
	return vtpm.CertifiedEK(chain, public, w.roots(), now)
}

// TestAttackLooseKey: an attestation key that could sign what its TPM did not make, or that could be elsewhere, is not
// challenged at all.
func TestAttackLooseKey(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	ek, err := certifiedEK(t, w, w.otherRSA, withKey(t, tpm2.RSAEKTemplate, w.otherRSA))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vtpm.Activate(ek, withKey(t, rsaAKTemplate(), w.rsa), randomness()); err != nil {
		t.Fatal(err)
	}
	for name, loosen := range map[string]func(*tpm2.TPMAObject){
		"not restricted":       func(a *tpm2.TPMAObject) { a.Restricted = false },
		"not signing":          func(a *tpm2.TPMAObject) { a.SignEncrypt = false },
		"decrypting":           func(a *tpm2.TPMAObject) { a.Decrypt = true },
		"not fixed to the TPM": func(a *tpm2.TPMAObject) { a.FixedTPM = false },
		"not fixed to parent":  func(a *tpm2.TPMAObject) { a.FixedParent = false },
		"imported":             func(a *tpm2.TPMAObject) { a.SensitiveDataOrigin = false },
		"duplicable":           func(a *tpm2.TPMAObject) { a.EncryptedDuplication = true },
		"for certificates":     func(a *tpm2.TPMAObject) { a.X509Sign = true },
		"reserved bit":         func(a *tpm2.TPMAObject) { a.SetReservedBit(31, true) },
	} {
		template := rsaAKTemplate()
		loosen(&template.ObjectAttributes)
		if _, err := vtpm.Activate(ek, withKey(t, template, w.rsa), randomness()); len(refusal.All(err)) == 0 {
			t.Errorf("%s: %v", name, err)
		} else {
			wantFirst(t, err, refusal.Chain)
		}
	}
	// A storage key, a key without scheme, and an ECC key whose hash does not fit.
	noScheme := rsaAKTemplate()
	noScheme.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048})
	for name, public := range map[string][]byte{
		"storage key":    withKey(t, tpm2.RSAEKTemplate, w.rsa),
		"no scheme":      withKey(t, noScheme, w.rsa),
		"hash not right": withKey(t, eccAKTemplate(tpm2.TPMECCNistP256, tpm2.TPMAlgSHA384), w.p256),
	} {
		_, err := vtpm.Activate(ek, public, randomness())
		if wantFirst(t, err, refusal.Chain); err == nil {
			t.Error(name)
		}
	}
}

func TestRefusedPublicAreas(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	ek, err := certifiedEK(t, w, w.otherRSA, withKey(t, tpm2.RSAEKTemplate, w.otherRSA))
	if err != nil {
		t.Fatal(err)
	}
	good := withKey(t, rsaAKTemplate(), w.rsa)
	ecc := withKey(t, eccAKTemplate(tpm2.TPMECCNistP256, tpm2.TPMAlgSHA256), w.p256)
	set := func(b []byte, at int, v ...byte) []byte { b = bytes.Clone(b); copy(b[at:], v); return b }
	// type 2, nameAlg 2, attributes 4, authPolicy 2, symmetric 2, scheme 2+2, then RSA: keyBits 2, exponent 4, size 2.
	for name, public := range map[string][]byte{
		"empty":           nil,
		"cut":             good[:len(good)-1],
		"trailing":        append(bytes.Clone(good), 0),
		"type":            set(good, 0, 0, 0x08),
		"name by SHA-1":   set(good, 2, 0, 4),
		"no name":         set(good, 2, 0, 0x10),
		"authPolicy":      append(append(bytes.Clone(good[:8]), 0, 1, 9), good[10:]...),
		"symmetric":       set(good, 10, 0, 0x26),
		"RSAPSS":          set(good, 12, 0, 0x16),
		"scheme by SHA-1": set(good, 14, 0, 4),
		"bits":            set(good, 16, 0x0c, 0),
		"exponent 3":      set(good, 18, 0, 0, 0, 3),
		"endless modulus": set(good, 22, 0xff, 0xff),
		"short modulus":   set(good, 24, 0),
		"curve P-521":     set(ecc, 16, 0, 5),
		"KDF":             set(ecc, 18, 0, 0x20),
		"off the curve":   set(ecc, 30, ecc[30]^1),
		"long coordinate": set(ecc, 20, 0, 33),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := vtpm.Activate(ek, public, randomness())
			wantFirst(t, err, refusal.Malformed)
			_, err = vtpm.Name(public)
			wantFirst(t, err, refusal.Malformed)
		})
	}
}

func TestRefusedEndorsementKeys(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	good := withKey(t, tpm2.RSAEKTemplate, w.rsa)
	if _, err := certifiedEK(t, w, w.rsa, good); err != nil {
		t.Fatal(err)
	}
	if _, err := certifiedEK(t, w, w.p256, withKey(t, tpm2.ECCEKTemplate, w.p256)); err != nil {
		t.Fatal(err)
	}
	_, err := certifiedEK(t, w, w.otherRSA, good)
	wantFirst(t, err, refusal.EndorsementsMismatch)
	_, err = certifiedEK(t, w, w.p256, good)
	wantFirst(t, err, refusal.EndorsementsMismatch)
	_, err = certifiedEK(t, w, w.rsa, good[1:])
	wantFirst(t, err, refusal.Malformed)
	_, err = certifiedEK(t, w, w.rsa, withKey(t, rsaAKTemplate(), w.rsa)) // a signing key
	wantFirst(t, err, refusal.Chain)
	open := tpm2.RSAEKTemplate
	open.ObjectAttributes.Restricted = false
	_, err = certifiedEK(t, w, w.rsa, withKey(t, open, w.rsa))
	wantFirst(t, err, refusal.Chain)

	akChain, err := w.authority.AK(w.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	_, err = vtpm.CertifiedEK(akChain, good, w.roots(), now) // an attestation key's certificate
	wantFirst(t, err, refusal.Chain)
	ekChain, err := w.authority.EK(w.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	_, err = vtpm.CertifiedAK(ekChain, w.roots(), now) // and the other way round
	wantFirst(t, err, refusal.Chain)
	_, err = vtpm.CertifiedEK(ekChain, good, w.roots(), expires.AddDate(1, 0, 0))
	wantFirst(t, err, refusal.Expired)
	server, err := w.authority.Issue(w.rsa.Public(), &x509.Certificate{
		KeyUsage: x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = vtpm.CertifiedEK(server, good, w.roots(), now)
	wantFirst(t, err, refusal.Chain)
}

func TestActivateNeedsAll(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	ak := withKey(t, rsaAKTemplate(), w.rsa)
	for _, ek := range []*vtpm.EK{nil, {}} {
		_, err := vtpm.Activate(ek, ak, randomness())
		wantFirst(t, err, refusal.Chain)
	}
	for name, s := range map[string]*vtpmtest.Signer{"rsa": w.otherRSA, "p256": w.p256} {
		template := tpm2.RSAEKTemplate
		if name == "p256" {
			template = tpm2.ECCEKTemplate
		}
		ek, err := certifiedEK(t, w, s, withKey(t, template, s))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := vtpm.Activate(ek, ak, nil); err == nil {
			t.Error("a challenge without randomness")
		}
		broken := errors.New("no entropy")
		for _, n := range []int64{0, 16, 40} {
			random := io.MultiReader(io.LimitReader(rand.Reader, n), iotest.ErrReader(broken))
			if a, err := vtpm.Activate(ek, ak, random); err == nil && (n < 32 || name == "rsa") {
				t.Errorf("%s: a challenge from %d random bytes: %v", name, n, a)
			}
		}
	}
}
