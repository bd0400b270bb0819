// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore-go/pkg/sign"

	"github.com/kettle/attest/attest/binding"
)

// ErrErased is returned when a key is asked to sign after [Key.Erase].
var ErrErased = errors.New("signing key was erased")

// Key is an ECDSA P-256 signing key: made by [NewKey], it lives in the memory of the environment and nowhere else; read
// by [LoadKey], it is an operator's. It prints as its digest. It is safe for concurrent use.
type Key struct {
	spki []byte
	mu   sync.Mutex
	priv *ecdsa.PrivateKey // nil once erased; mu
}

var _ sign.Keypair = (*Key)(nil)

// NewKey makes a key from the system's random source.
func NewKey() (*Key, error) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making signing key: %w", err)
	}
	return keyOf(priv)
}

func keyOf(priv *ecdsa.PrivateKey) (*Key, error) {
	spki, err := x509.MarshalPKIXPublicKey(&priv.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("encoding public key: %w", err)
	}
	return &Key{spki: spki, priv: priv}, nil
}

// SPKI gives the DER SubjectPublicKeyInfo.
func (k *Key) SPKI() []byte { return append([]byte(nil), k.spki...) }

// Digest names the key: SHA-256 of its SPKI.
func (k *Key) Digest() binding.Digest { return binding.Sum(k.spki) }

// Erase overwrites the private scalar and forgets the key; signing fails from then on. The Go runtime may hold copies
// that it made while signing, so erasing narrows the window in which a key can leak but is not a proof of absence.
func (k *Key) Erase() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.priv == nil {
		return
	}
	clear(k.priv.D.Bits()) //nolint:staticcheck // the scalar itself is what must go.
	k.priv = nil
}

// String names the key by its digest and never shows the scalar.
func (k *Key) String() string { return "key " + k.Digest().String() }

// LogValue implements [slog.LogValuer].
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// GetHashAlgorithm implements [sign.Keypair].
func (k *Key) GetHashAlgorithm() protocommon.HashAlgorithm {
	return protocommon.HashAlgorithm_SHA2_256
}

// GetSigningAlgorithm implements [sign.Keypair].
func (k *Key) GetSigningAlgorithm() protocommon.PublicKeyDetails {
	return protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256
}

// GetHint implements [sign.Keypair]: base64 of the key's digest, as Sigstore's own clients write it.
func (k *Key) GetHint() []byte { return []byte(hint(k.spki)) }

// GetKeyAlgorithm implements [sign.Keypair].
func (k *Key) GetKeyAlgorithm() string { return "ECDSA" }

// GetPublicKey implements [sign.Keypair].
func (k *Key) GetPublicKey() crypto.PublicKey {
	pub, err := x509.ParsePKIXPublicKey(k.spki)
	if err != nil {
		return nil // cannot happen: NewKey encoded it
	}
	return pub
}

// GetPublicKeyPem implements [sign.Keypair].
func (k *Key) GetPublicKeyPem() (string, error) {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.spki})), nil
}

// SignData implements [sign.Keypair]: an ASN.1 ECDSA signature over SHA-256 of data, and that digest.
func (k *Key) SignData(_ context.Context, data []byte) (signature, digest []byte, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.priv == nil {
		return nil, nil, ErrErased
	}
	sum := sha256.Sum256(data)
	signature, err = ecdsa.SignASN1(rand.Reader, k.priv, sum[:])
	if err != nil {
		return nil, nil, fmt.Errorf("signing: %w", err)
	}
	return signature, sum[:], nil
}

func hint(spki []byte) string {
	sum := sha256.Sum256(spki)
	return base64.StdEncoding.EncodeToString(sum[:])
}
