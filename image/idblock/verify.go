// SPDX-License-Identifier: Apache-2.0

package idblock

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"math/big"

	"github.com/kettle/attest/attest/refusal"
)

// Verify checks a signed block as the firmware does, and that every byte without a meaning is zero. Whether its keys are ones to
// trust is for the caller: compare the digests of the result. Refusals have the link "identity block" and the codes malformed,
// signature, debug and policy.
func Verify(s *Signed) (*Identity, error) {
	if s == nil {
		return nil, refuse(refusal.Missing, "a signed identity block", "none")
	}
	block, bad := parse(s.Block[:])
	if bad != nil {
		return nil, bad
	}
	if bad := s.checkShape(); bad != nil {
		return nil, bad
	}
	id := &Identity{Block: block}
	if bad := s.checkSeal(s.Block[:], offIDKey, offBlockSignature); bad != nil {
		return nil, bad
	}
	id.IDKeyDigest = sha512.Sum384(s.Auth[offIDKey:][:keySize])
	if s.HasAuthor {
		if bad := s.checkSeal(s.Auth[offIDKey:][:keySize], offAuthorKey, offIDKeySignature); bad != nil {
			return nil, bad
		}
		id.AuthorKeyDigest = sha512.Sum384(s.Auth[offAuthorKey:][:keySize])
	}
	return id, nil
}

// checkShape demands the algorithms, and zeros wherever nothing is.
func (s *Signed) checkShape() *refusal.Refusal {
	le := binary.LittleEndian
	if got := le.Uint32(s.Auth[offIDAlgorithm:]); got != ecdsaP384SHA384 {
		return refuse(refusal.Malformed, "an identity key of ECDSA P-384 with SHA-384", fmt.Sprintf("algorithm %d", got))
	}
	want := uint32(0)
	if s.HasAuthor {
		want = ecdsaP384SHA384
	}
	if got := le.Uint32(s.Auth[offAuthorAlgorithm:]); got != want {
		return refuse(refusal.Malformed, fmt.Sprintf("algorithm %d for the author key", want), fmt.Sprintf("%d", got))
	}
	used := [][2]int{{0, 8}}
	for _, at := range []int{offBlockSignature, offIDKeySignature} {
		used = append(used, [2]int{at, at + 2*number})
	}
	for _, at := range []int{offIDKey, offAuthorKey} {
		used = append(used, [2]int{at, at + 4 + 2*number})
	}
	rest := s.Auth
	for _, u := range used {
		if u[0] >= offIDKeySignature && !s.HasAuthor {
			continue // an author's part has to be zero as well
		}
		clear(rest[u[0]:u[1]])
	}
	if rest != [AuthSize]byte{} {
		return refuse(refusal.Malformed, "zeros in the reserved bytes", "others")
	}
	return nil
}

// checkSeal demands the signature over message of the key at keyAt.
func (s *Signed) checkSeal(message []byte, keyAt, signatureAt int) *refusal.Refusal {
	key, bad := decodeKey(s.Auth[keyAt:][:keySize])
	if bad != nil {
		return bad
	}
	signature := s.Auth[signatureAt:][:2*number]
	r, t := new(big.Int).SetBytes(reversed(signature[:number])), new(big.Int).SetBytes(reversed(signature[number:]))
	digest := sha512.Sum384(message)
	if !ecdsa.Verify(key, digest[:], r, t) {
		return refuse(refusal.Signature, "the signature of the key beside it", "another signature, or changed bytes")
	}
	return nil
}

func decodeKey(b []byte) (*ecdsa.PublicKey, *refusal.Refusal) {
	x, y := b[4:][:number], b[4+number:][:number]
	if curve := binary.LittleEndian.Uint32(b); curve != curveP384 {
		return nil, refuse(refusal.Malformed, "a key on P-384", fmt.Sprintf("curve %d", curve))
	}
	zeros := make([]byte, number-scalar)
	if !bytes.Equal(x[scalar:], zeros) || !bytes.Equal(y[scalar:], zeros) {
		return nil, refuse(refusal.Malformed, "a point on P-384", "coordinates that are too large")
	}
	point := append([]byte{4}, reversed(x[:scalar])...)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), append(point, reversed(y[:scalar])...))
	if err != nil {
		return nil, refuse(refusal.Malformed, "a point on P-384", "another").Because(err)
	}
	return key, nil
}
