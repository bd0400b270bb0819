// SPDX-License-Identifier: Apache-2.0

package idblock

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/kettle/attest/internal/secret"
)

// ParseKey reads a private key for [Sign]: one PEM block and nothing else, PKCS#8 (RFC 5958) or SEC 1 (RFC 5915), on P-384. No
// error repeats a part of it.
func ParseKey(text secret.String) (*ecdsa.PrivateKey, error) {
	block, rest := pem.Decode([]byte(text.Reveal()))
	if block == nil || len(rest) != 0 {
		return nil, errors.New("reading an identity key: want one PEM block and nothing else")
	}
	defer clear(block.Bytes)
	var parsed any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("reading an identity key: want PRIVATE KEY or EC PRIVATE KEY, got a block of %.40q", block.Type)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok || key.Curve != elliptic.P384() { // the cause may quote the key
		return nil, fmt.Errorf("reading an identity key: want an ECDSA key on P-384, got %T", parsed)
	}
	return key, nil
}
