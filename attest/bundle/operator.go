// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/kettle/attest/internal/secret"
)

// maxPEM bounds the text of one key: a P-256 key takes 241 bytes, and comments may stand before it.
const maxPEM = 16 << 10

// Errors of [LoadKey] and [LoadPublicKey]. They never quote what was read.
var (
	ErrNoKey    = errors.New("want one PEM block and nothing behind it")
	ErrKeyKind  = errors.New("want an ECDSA P-256 key")
	ErrKeyBlock = errors.New("wrong kind of PEM block")
)

// LoadKey reads an operator's own long-lived key, with which verification summaries are signed: one PEM block
// `PRIVATE KEY`, a PKCS#8 ECDSA P-256 key without a password. Who may read the file is the caller's to check. The key is
// used as one from [NewKey] is.
func LoadKey(text secret.String) (*Key, error) {
	const want = "PRIVATE KEY"
	der, err := onePEM([]byte(text.Reveal()), want)
	if err != nil {
		return nil, fmt.Errorf("reading private key: %w", err)
	}
	defer clear(der)
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("reading private key: the block is no PKCS#8 key") // the cause may quote the key
	}
	priv, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || priv.Curve != elliptic.P256() {
		return nil, fmt.Errorf("reading private key: %w, got %T", ErrKeyKind, parsed)
	}
	return keyOf(priv)
}

// LoadPublicKey reads an operator's public key, one PEM block `PUBLIC KEY`, and gives its canonical DER
// SubjectPublicKeyInfo, as [Bundle.Verify] takes it.
func LoadPublicKey(text []byte) ([]byte, error) {
	der, err := onePEM(text, "PUBLIC KEY")
	if err != nil {
		return nil, fmt.Errorf("reading public key: %w", err)
	}
	if _, err := keyMaterial(der); err != nil {
		return nil, fmt.Errorf("reading public key: %w in its canonical encoding", ErrKeyKind)
	}
	return der, nil
}

// onePEM gives the content of the one block of this kind. Headers are refused: they mean an encrypted key.
func onePEM(text []byte, kind string) ([]byte, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrNoKey, maxPEM)
	}
	block, rest := pem.Decode(text)
	switch {
	case block == nil || len(bytes.TrimSpace(rest)) > 0:
		return nil, ErrNoKey
	case block.Type != kind || len(block.Headers) > 0:
		return nil, fmt.Errorf("%w: want %s without headers; `openssl pkcs8 -topk8 -nodes` makes a private one", ErrKeyBlock, kind)
	}
	return block.Bytes, nil
}
