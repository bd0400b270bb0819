// SPDX-License-Identifier: Apache-2.0

package vtpm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kettle/attest/attest/refusal"
)

// SecretSize is the size in bytes of the secret that an activation recovers.
const SecretSize = 32

// EK is an endorsement key that a manufacturer's certificate names. Only [CertifiedEK] makes one.
type EK struct {
	public   *public
	leaf     []byte
	notAfter time.Time
}

// CertifiedEK trusts an endorsement key by its manufacturer's certificate. chain and roots are as in [CertifiedAK];
// tpmtPublic is the key's TPMT_PUBLIC, whose key has to be the certificate's: a restricted decryption key of RSA or of
// P-256 or P-384. The certificate has to be for encipherment (RSA) or agreement (ECC) and, where it names extended
// usages, for an endorsement key (EK 3.5). Codes: missing, malformed, chain, expired, endorsements-mismatch.
func CertifiedEK(chain [][]byte, tpmtPublic []byte, roots []*x509.Certificate, at time.Time) (*EK, error) {
	leaf, err := verifyChain(linkEK, chain, roots, at)
	if err != nil {
		return nil, err
	}
	want := x509.KeyUsageKeyEncipherment
	if leaf.PublicKeyAlgorithm == x509.ECDSA {
		want = x509.KeyUsageKeyAgreement
	}
	if leaf.KeyUsage&want == 0 || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return nil, brokenChain(linkEK, "a certificate for encipherment or key agreement", fmt.Sprintf("key usage %#x", int(leaf.KeyUsage)))
	}
	if err := checkExtendedUsage(linkEK, leaf, tcgEK()); err != nil {
		return nil, err
	}
	p, err := parsePublic(linkEK, tpmtPublic)
	if err != nil {
		return nil, err
	}
	if !sameKey(p, leaf) {
		return nil, &refusal.Refusal{
			Link: linkEK, Code: refusal.EndorsementsMismatch, Want: "the public area of the certified key", Got: "another key",
			Next: "bring the endorsement key's own certificate",
		}
	}
	if err := p.checkEndorsementKey(); err != nil {
		return nil, err
	}
	return &EK{public: p, leaf: bytes.Clone(leaf.Raw), notAfter: leaf.NotAfter}, nil
}

func sameKey(p *public, leaf *x509.Certificate) bool {
	switch k := p.key.(type) {
	case *rsa.PublicKey:
		return k.Equal(leaf.PublicKey)
	case *ecdsa.PublicKey:
		return k.Equal(leaf.PublicKey)
	}
	return false
}

// Challenge is what the machine hands to TPM2_ActivateCredential.
type Challenge struct {
	IDObject        []byte // the content of TPM2B_ID_OBJECT, without its size
	EncryptedSecret []byte // the content of TPM2B_ENCRYPTED_SECRET, without its size
}

// Activation is a challenge that waits for its answer. It keeps the secret; it is for one verifier's memory.
type Activation struct {
	ek        *EK
	ak        *public
	challenge Challenge
	secret    [SecretSize]byte
}

// Activate makes a challenge that only the TPM of the endorsement key can answer, and only while it holds the
// attestation key with the given TPMT_PUBLIC. That key has to be a restricted signing key, made in the TPM and fixed to it,
// that signs by RSASSA or ECDSA. random gives the secret. Codes: missing, malformed, chain; a fault of random is no
// refusal.
func Activate(ek *EK, akPublic []byte, random io.Reader) (*Activation, error) {
	if ek == nil || ek.public == nil {
		return nil, brokenChain(linkEK, "a certified endorsement key", "none")
	}
	if random == nil {
		return nil, errors.New("making a challenge: no source of randomness")
	}
	p, err := parsePublic(linkAK, akPublic)
	if err != nil {
		return nil, err
	}
	if err := p.checkAttestationKey(); err != nil {
		return nil, err
	}
	a := &Activation{ek: ek, ak: p}
	if _, err := io.ReadFull(random, a.secret[:]); err != nil {
		return nil, fmt.Errorf("reading randomness: %w", err)
	}
	a.challenge.IDObject, a.challenge.EncryptedSecret, err = makeCredential(random, ek.public, p.name, a.secret[:])
	if err != nil {
		return nil, fmt.Errorf("making a challenge: %w", err)
	}
	return a, nil
}

// Challenge gives what to send to the machine.
func (a *Activation) Challenge() Challenge {
	return Challenge{IDObject: bytes.Clone(a.challenge.IDObject), EncryptedSecret: bytes.Clone(a.challenge.EncryptedSecret)}
}

// Complete takes the secret that the machine recovered. The right one makes the attestation key trusted; any other is
// refused with code chain.
func (a *Activation) Complete(secret []byte) (*AK, error) {
	if a == nil || a.ak == nil || subtle.ConstantTimeCompare(secret, a.secret[:]) != 1 {
		return nil, &refusal.Refusal{
			Link: linkAK, Code: refusal.Chain, Want: "the secret of the challenge", Got: "another", Next: nextReactive,
		}
	}
	ak, err := newAK(Activated, a.ak.key)
	if err != nil {
		return nil, err
	}
	ak.leaf, ak.notAfter = bytes.Clone(a.ek.leaf), a.ek.notAfter
	return ak, nil
}
