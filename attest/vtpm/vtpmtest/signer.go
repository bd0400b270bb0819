// SPDX-License-Identifier: Apache-2.0

package vtpmtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // SHA-384 behind crypto.Hash
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/kettle/attest/attest/vtpm"
)

// Signer is an attestation key outside any TPM.
type Signer struct {
	rsa *rsa.PrivateKey
	ecc *ecdsa.PrivateKey
}

// NewRSA makes an RSA key of 2048 bits, which signs by RSASSA with SHA-256.
func NewRSA() (*Signer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("making an RSA key: %w", err)
	}
	return &Signer{rsa: key}, nil
}

// NewECC makes a key on P-256 or P-384, which signs by ECDSA with SHA-256 or SHA-384.
func NewECC(curve elliptic.Curve) (*Signer, error) {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making an ECC key: %w", err)
	}
	return &Signer{ecc: key}, nil
}

// Public is the public key.
func (s *Signer) Public() crypto.PublicKey {
	if s.rsa != nil {
		return &s.rsa.PublicKey
	}
	return &s.ecc.PublicKey
}

// Quote is what to quote. Its zero value, with registers, is a fine quote.
type Quote struct {
	ExtraData []byte
	PCRs      map[int][sha256.Size]byte // by register of the SHA-256 bank, below 24
	Clock     vtpm.Clock
	Firmware  uint64
}

// Evidence is a quote as evidence carries it.
type Evidence struct {
	Attest    []byte   // TPMS_ATTEST
	Signature []byte   // TPMT_SIGNATURE
	PCRs      [][]byte // the values of the quoted registers in ascending order
}

// Quote signs a quote.
func (s *Signer) Quote(q Quote) (*Evidence, error) {
	e := &Evidence{}
	var selection [3]byte
	state := s.hash().New() // the digest is by the hash of the signature
	for _, i := range slices.Sorted(maps.Keys(q.PCRs)) {
		if i < 0 || i > 23 {
			return nil, fmt.Errorf("quoting register %d: there is none", i)
		}
		value := q.PCRs[i]
		selection[i/8] |= 1 << (i % 8)
		state.Write(value[:])
		e.PCRs = append(e.PCRs, value[:])
	}
	b := []byte{0xff, 'T', 'C', 'G', 0x80, 0x18}
	signer := sha256.Sum256([]byte("qualified signer"))
	b = sized(b, append([]byte{0, 0x0b}, signer[:]...))
	b = sized(b, q.ExtraData)
	b = binary.BigEndian.AppendUint64(b, q.Clock.Milliseconds)
	b = binary.BigEndian.AppendUint32(b, q.Clock.ResetCount)
	b = binary.BigEndian.AppendUint32(b, q.Clock.RestartCount)
	safe := byte(0)
	if q.Clock.Safe {
		safe = 1
	}
	b = append(b, safe)
	b = binary.BigEndian.AppendUint64(b, q.Firmware)
	b = append(b, 0, 0, 0, 1, 0, 0x0b, 3)
	b = append(b, selection[:]...)
	e.Attest = sized(b, state.Sum(nil))
	var err error
	e.Signature, err = s.Sign(e.Attest)
	return e, err
}

func (s *Signer) hash() crypto.Hash {
	if s.ecc != nil && s.ecc.Curve == elliptic.P384() {
		return crypto.SHA384
	}
	return crypto.SHA256
}

// Sign gives a TPMT_SIGNATURE over any bytes, well-formed or not.
func (s *Signer) Sign(message []byte) ([]byte, error) {
	if s.rsa != nil {
		bare, err := s.SignBare(message)
		if err != nil {
			return nil, err
		}
		return sized([]byte{0, 0x14, 0, 0x0b}, bare), nil
	}
	alg, size := byte(0x0b), 32
	if s.hash() == crypto.SHA384 {
		alg, size = 0x0c, 48
	}
	x, y, err := ecdsa.Sign(rand.Reader, s.ecc, s.digest(message))
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	b := sized([]byte{0, 0x18, 0, alg}, x.FillBytes(make([]byte, size)))
	return sized(b, y.FillBytes(make([]byte, size))), nil
}

// SignBare gives the value of an RSASSA signature alone.
func (s *Signer) SignBare(message []byte) ([]byte, error) {
	if s.rsa == nil {
		return nil, errors.New("signing: only an RSA signature comes bare")
	}
	bare, err := rsa.SignPKCS1v15(rand.Reader, s.rsa, crypto.SHA256, s.digest(message))
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return bare, nil
}

func (s *Signer) digest(message []byte) []byte {
	state := s.hash().New()
	state.Write(message)
	return state.Sum(nil)
}

// sized appends a TPM2B.
func sized(to, content []byte) []byte {
	to = binary.BigEndian.AppendUint16(to, uint16(len(content))) //nolint:gosec // short by construction.
	return append(to, content...)
}
