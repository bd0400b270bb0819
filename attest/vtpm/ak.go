// SPDX-License-Identifier: Apache-2.0

package vtpm

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"time"
)

// Origin says why an attestation key is trusted. The zero value is no reason.
type Origin uint8

// The reasons.
const (
	// Paravisor: a hardware report binds the paravisor's report, which names the key.
	Paravisor Origin = iota + 1
	// Certificate: a provider's certificate names the key.
	Certificate
	// Activated: the TPM of a certified endorsement key showed that it holds the key.
	Activated
)

// String gives the word for the reason, "none" for the zero value.
func (o Origin) String() string {
	switch o {
	case Paravisor:
		return "paravisor"
	case Certificate:
		return "certificate"
	case Activated:
		return "activation"
	}
	return "none"
}

// AK is a trusted attestation key. [Guest.AK], [CertifiedAK] and [Activation.Complete] make one; the zero value is
// trusted by nobody and verifies nothing.
type AK struct {
	origin   Origin
	key      crypto.PublicKey
	spki     []byte
	leaf     []byte
	notAfter time.Time
}

// newAK takes a key that strongKey accepted.
func newAK(origin Origin, key crypto.PublicKey) (*AK, error) {
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, brokenChain(linkAK, "a public key that can be encoded", "another").Because(err)
	}
	return &AK{origin: origin, key: key, spki: spki}, nil
}

// Origin says why the key is trusted.
func (k *AK) Origin() Origin { return k.origin }

// Fingerprint is the SHA-256 of the key's SubjectPublicKeyInfo: it names the key whatever vouched for it.
func (k *AK) Fingerprint() [sha256.Size]byte {
	if len(k.spki) == 0 {
		return [sha256.Size]byte{}
	}
	return sha256.Sum256(k.spki)
}

// PublicKey is the key's SubjectPublicKeyInfo in DER.
func (k *AK) PublicKey() []byte { return bytes.Clone(k.spki) }

// CertificateDER is the certificate that vouched for the key, or for the endorsement key that activated it; nil under a
// paravisor.
func (k *AK) CertificateDER() []byte { return bytes.Clone(k.leaf) }

// CertificateExpires is the end of validity of that certificate, zero under a paravisor.
func (k *AK) CertificateExpires() time.Time { return k.notAfter }
