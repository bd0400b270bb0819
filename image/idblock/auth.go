// SPDX-License-Identifier: Apache-2.0

package idblock

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/kettle/attest/attest/refusal"
)

const (
	// AuthSize is the size of the authentication information in bytes.
	AuthSize = 4096

	offIDAlgorithm     = 0x000
	offAuthorAlgorithm = 0x004
	offBlockSignature  = 0x040
	offIDKey           = 0x240
	offIDKeySignature  = 0x680
	offAuthorKey       = 0x880

	keySize       = 0x404
	signatureSize = 0x200
	number        = 72 // bytes of a coordinate or half of a signature, least significant first
	scalar        = 48 // bytes of it that P-384 fills

	ecdsaP384SHA384 = 1
	curveP384       = 2
)

// Signed is an identity block and what authenticates it.
type Signed struct {
	Block     [Size]byte
	Auth      [AuthSize]byte
	HasAuthor bool // whether an author key certifies the identity key
}

// Identity is what a signed block says, checked.
type Identity struct {
	Block           Block
	IDKeyDigest     [48]byte // what reports carry as ID_KEY_DIGEST
	AuthorKeyDigest [48]byte // what reports carry as AUTHOR_KEY_DIGEST; zeros without an author key
}

// Sign signs a block with the identity key and, if author is not nil, the identity key with the author key. Both are ECDSA
// keys on P-384, in memory or behind a device. A block without a digest, with debugging or with a migration agent is refused.
func Sign(b Block, id, author crypto.Signer) (*Signed, error) {
	s := &Signed{Block: b.Bytes(), HasAuthor: author != nil}
	if r := b.validate(); r != nil {
		return nil, fmt.Errorf("signing an identity block: %w", r)
	}
	if err := s.seal(s.Block[:], id, offIDKey, offBlockSignature); err != nil {
		return nil, fmt.Errorf("signing an identity block: %w", err)
	}
	binary.LittleEndian.PutUint32(s.Auth[offIDAlgorithm:], ecdsaP384SHA384)
	if author != nil {
		if err := s.seal(s.Auth[offIDKey:][:keySize], author, offAuthorKey, offIDKeySignature); err != nil {
			return nil, fmt.Errorf("certifying an identity key: %w", err)
		}
		binary.LittleEndian.PutUint32(s.Auth[offAuthorAlgorithm:], ecdsaP384SHA384)
	}
	if _, err := Verify(s); err != nil {
		return nil, fmt.Errorf("signing an identity block: the signer signed otherwise: %w", err)
	}
	return s, nil
}

// seal writes a key and its signature over message.
func (s *Signed) seal(message []byte, key crypto.Signer, keyAt, signatureAt int) error {
	if key == nil {
		return errors.New("there is no key")
	}
	public, ok := key.Public().(*ecdsa.PublicKey)
	if !ok {
		return fmt.Errorf("want an ECDSA key on P-384, got %T", key.Public())
	}
	encoded, err := encodeKey(public)
	if err != nil {
		return err
	}
	digest := sha512.Sum384(message)
	random := rand.Reader
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		random = nil // deterministic (RFC 6979), so that the same block gives the same bytes
	}
	der, err := key.Sign(random, digest[:], crypto.SHA384)
	if err != nil {
		return err //nolint:wrapcheck // its caller says what it was at.
	}
	signature, err := encodeSignature(der)
	if err != nil {
		return err
	}
	copy(s.Auth[keyAt:], encoded[:])
	copy(s.Auth[signatureAt:], signature[:])
	return nil
}

// KeyDigest gives what reports carry of a key: the SHA-384 of its 1028 bytes in AMD's form. The key has to be on P-384.
func KeyDigest(key *ecdsa.PublicKey) ([48]byte, error) {
	b, err := encodeKey(key)
	if err != nil {
		return [48]byte{}, fmt.Errorf("hashing an identity key: %w", err)
	}
	return sha512.Sum384(b[:]), nil
}

func encodeKey(key *ecdsa.PublicKey) ([keySize]byte, error) {
	var out [keySize]byte
	if key == nil || key.Curve != elliptic.P384() {
		return out, errors.New("want an ECDSA key on P-384")
	}
	point, err := key.Bytes() // 4, X, Y
	if err != nil {
		return out, err //nolint:wrapcheck // its caller says what it was at.
	}
	binary.LittleEndian.PutUint32(out[:], curveP384)
	copy(out[4:], reversed(point[1:][:scalar]))
	copy(out[4+number:], reversed(point[1+scalar:]))
	return out, nil
}

// encodeSignature gives a DER signature in AMD's form.
func encodeSignature(der []byte) ([signatureSize]byte, error) {
	var out [signatureSize]byte
	var pair struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(der, &pair)
	if err != nil || len(rest) != 0 || pair.R.Sign() <= 0 || pair.S.Sign() <= 0 || max(pair.R.BitLen(), pair.S.BitLen()) > scalar*8 {
		return out, errors.New("the signer gave no ECDSA signature of P-384")
	}
	copy(out[:], reversed(pair.R.FillBytes(make([]byte, scalar))))
	copy(out[number:], reversed(pair.S.FillBytes(make([]byte, scalar))))
	return out, nil
}

func reversed(b []byte) []byte {
	b = bytes.Clone(b)
	slices.Reverse(b)
	return b
}

// QEMU gives the properties of QEMU's object sev-snp-guest, to be put behind a comma.
func (s *Signed) QEMU() string {
	text := "id-block=" + base64.StdEncoding.EncodeToString(s.Block[:]) + ",id-auth=" + base64.StdEncoding.EncodeToString(s.Auth[:])
	if s.HasAuthor {
		text += ",author-key-enabled=on"
	}
	return text
}

// Read gives the signed block of its two files, whose sizes are fixed. It is [Verify] that says whether they are any good.
// There is an author key if its algorithm is named.
func Read(block, auth []byte) (*Signed, error) {
	if len(block) != Size || len(auth) != AuthSize {
		return nil, refuse(refusal.Malformed, fmt.Sprintf("%d and %d bytes", Size, AuthSize), fmt.Sprintf("%d and %d", len(block), len(auth)))
	}
	s := &Signed{HasAuthor: binary.LittleEndian.Uint32(auth[offAuthorAlgorithm:]) != 0}
	copy(s.Block[:], block)
	copy(s.Auth[:], auth)
	return s, nil
}
