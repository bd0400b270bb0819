// SPDX-License-Identifier: Apache-2.0

package vtpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"

	"github.com/kettle/attest/attest/refusal"
)

const (
	minRSABits  = 2048
	maxRSABits  = 4096
	rsaExponent = 65537
	maxRSABytes = maxRSABits / 8
	maxECCBytes = 48 // P-384
)

// signature is a TPMT_SIGNATURE (TPM2 11.3.4), read and not yet checked.
type signature struct {
	scheme algorithm
	hash   crypto.Hash
	rsa    []byte
	r, s   []byte
}

// parseSignature reads a TPMT_SIGNATURE. RSASSA and ECDSA with SHA-256 or SHA-384 are known, nothing else: not SHA-1,
// not the HMAC that shares the structure, not the null signature that a TPM gives for the null key.
func parseSignature(raw []byte) (*signature, error) {
	w := &wire{link: linkQuote, what: "TPMT_SIGNATURE", rest: raw}
	s := &signature{scheme: algorithm(w.u16("sigAlg"))}
	if w.err == nil && s.scheme != algRSASSA && s.scheme != algECDSA {
		w.fail("an RSASSA or ECDSA signature", fmt.Sprintf("algorithm %#04x", uint16(s.scheme)))
	}
	alg := algorithm(w.u16("hash"))
	h, ok := alg.hash()
	if w.err == nil && !ok {
		w.fail("a signature over SHA-256 or SHA-384", fmt.Sprintf("algorithm %#04x", uint16(alg)))
	}
	s.hash = h
	if s.scheme == algRSASSA {
		s.rsa = w.sized(maxRSABytes, "sig")
	} else {
		s.r, s.s = w.sized(maxECCBytes, "signatureR"), w.sized(maxECCBytes, "signatureS")
	}
	if err := w.done(); err != nil {
		return nil, err
	}
	return s, nil
}

var errOtherKind = errors.New("key and signature are of different kinds")

// check verifies the signature over message with the key.
func (s *signature) check(key crypto.PublicKey, message []byte) error {
	var err error
	switch k := key.(type) {
	case *rsa.PublicKey:
		if s.scheme != algRSASSA {
			err = errOtherKind
			break
		}
		err = rsa.VerifyPKCS1v15(k, s.hash, digest(s.hash, message), s.rsa)
	case *ecdsa.PublicKey:
		// The hash has to be the one that fits the curve: a restricted key signs with no other.
		if s.scheme != algECDSA || s.hash != curveHash(k.Curve) {
			err = errOtherKind
			break
		}
		if !ecdsa.Verify(k, digest(s.hash, message), new(big.Int).SetBytes(s.r), new(big.Int).SetBytes(s.s)) {
			err = rsa.ErrVerification
		}
	default:
		err = errOtherKind
	}
	if err == nil {
		return nil
	}
	return (&refusal.Refusal{
		Link: linkQuote, Code: refusal.Signature, Want: "the attestation key's signature over the quote",
		Got: "another signature, or changed bytes", Next: nextFreshQuote,
	}).Because(err)
}

func curveHash(c elliptic.Curve) crypto.Hash {
	if c == elliptic.P384() {
		return crypto.SHA384
	}
	return crypto.SHA256
}

// strongKey accepts RSA of 2048 to 4096 bits with the usual exponent, and ECDSA on P-256 and P-384.
func strongKey(key crypto.PublicKey) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return k.N != nil && k.N.BitLen() >= minRSABits && k.N.BitLen() <= maxRSABits && k.E == rsaExponent
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return false
		}
		_, err := k.ECDH() // says whether the point is on the curve
		return err == nil
	}
	return false
}
