// SPDX-License-Identifier: Apache-2.0

package vtpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"

	"github.com/kettle/attest/attest/refusal"
)

// attributes is a TPMA_OBJECT (TPM2 8.3).
type attributes uint32

const (
	fixedTPM             attributes = 1 << 1
	stClear              attributes = 1 << 2
	fixedParent          attributes = 1 << 4
	sensitiveDataOrigin  attributes = 1 << 5
	userWithAuth         attributes = 1 << 6
	adminWithPolicy      attributes = 1 << 7
	firmwareLimited      attributes = 1 << 8
	svnLimited           attributes = 1 << 9
	noDA                 attributes = 1 << 10
	restricted           attributes = 1 << 16
	decrypt              attributes = 1 << 17
	sign                 attributes = 1 << 18
	anyObject                       = stClear | userWithAuth | adminWithPolicy | firmwareLimited | svnLimited | noDA
	bornHere                        = fixedTPM | fixedParent | sensitiveDataOrigin
	attestationAttribute            = bornHere | restricted | sign
	endorsementAttribute            = bornHere | restricted | decrypt
)

// public is a TPMT_PUBLIC (TPM2 12.2.4) of an RSA or ECC key.
type public struct {
	name       []byte // nameAlg and the hash of the whole structure (TPM1 16)
	hash       crypto.Hash
	attributes attributes
	aesBits    int // of the symmetric definition, 0 without one
	scheme     algorithm
	schemeHash crypto.Hash
	key        crypto.PublicKey
}

// parsePublic reads a TPMT_PUBLIC strictly. link says whose it is.
func parsePublic(link string, raw []byte) (*public, error) {
	w := &wire{link: link, what: "TPMT_PUBLIC", rest: raw}
	var p public
	kind := algorithm(w.u16("type"))
	nameAlg := algorithm(w.u16("nameAlg"))
	h, ok := nameAlg.hash()
	if w.err == nil && !ok {
		w.fail("a name by SHA-256 or SHA-384", fmt.Sprintf("algorithm %#04x", uint16(nameAlg)))
	}
	p.hash = h
	p.attributes = attributes(w.u32("objectAttributes"))
	if n := len(w.sized(maxDigest, "authPolicy")); w.err == nil && n != 0 && n != h.Size() {
		w.fail(fmt.Sprintf("an authPolicy of 0 or %d bytes", h.Size()), fmt.Sprintf("%d", n))
	}
	p.aesBits = w.symmetric()
	p.scheme, p.schemeHash = w.scheme()
	switch kind {
	case algRSA:
		p.key = w.rsaKey()
	case algECC:
		p.key = w.eccKey()
	default:
		w.fail("an RSA or ECC key", fmt.Sprintf("type %#04x", uint16(kind)))
	}
	if err := w.done(); err != nil {
		return nil, err
	}
	if !strongKey(p.key) {
		return nil, &refusal.Refusal{
			Link: link, Code: refusal.Malformed, Want: "an RSA key of 2048 to 4096 bits, or a point of P-256 or P-384",
			Got: "another key", Next: nextReactive,
		}
	}
	p.name = binary.BigEndian.AppendUint16(make([]byte, 0, maxName), uint16(nameAlg))
	p.name = append(p.name, digest(h, raw)...)
	return &p, nil
}

// symmetric reads a TPMT_SYM_DEF_OBJECT (TPM2 11.1.7): none, or AES in CFB mode.
func (w *wire) symmetric() int {
	switch alg := algorithm(w.u16("symmetric")); {
	case w.err != nil || alg == algNull:
		return 0
	case alg != algAES:
		w.fail("AES or no symmetric algorithm", fmt.Sprintf("algorithm %#04x", uint16(alg)))
		return 0
	}
	keyBits := int(w.u16("keyBits"))
	mode := algorithm(w.u16("mode"))
	if w.err == nil && (keyBits != 128 && keyBits != 256 || mode != algCFB) {
		w.fail("AES of 128 or 256 bits in CFB mode", fmt.Sprintf("%d bits in mode %#04x", keyBits, uint16(mode)))
	}
	return keyBits
}

// scheme reads a TPMT_RSA_SCHEME or TPMT_ECC_SCHEME (TPM2 11.2.4.2, 11.2.5.6): none, or a signing scheme with its hash.
func (w *wire) scheme() (algorithm, crypto.Hash) {
	alg := algorithm(w.u16("scheme"))
	switch {
	case w.err != nil || alg == algNull:
		return alg, 0
	case alg != algRSASSA && alg != algECDSA:
		w.fail("RSASSA, ECDSA or no scheme", fmt.Sprintf("algorithm %#04x", uint16(alg)))
		return alg, 0
	}
	hashAlg := algorithm(w.u16("the scheme's hash"))
	h, ok := hashAlg.hash()
	if w.err == nil && !ok {
		w.fail("a scheme over SHA-256 or SHA-384", fmt.Sprintf("algorithm %#04x", uint16(hashAlg)))
	}
	return alg, h
}

func (w *wire) rsaKey() *rsa.PublicKey {
	keyBits := int(w.u16("keyBits"))
	if exponent := w.u32("exponent"); w.err == nil && exponent != 0 && exponent != rsaExponent {
		w.fail("exponent 65537", fmt.Sprintf("%d", exponent)) // 0 stands for it (TPM2 12.2.3.5)
	}
	n := w.sized(maxRSABytes, "the modulus")
	if w.err == nil && 8*len(n) != keyBits {
		w.fail(fmt.Sprintf("a modulus of %d bits", keyBits), fmt.Sprintf("%d bytes", len(n)))
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: rsaExponent}
}

func (w *wire) eccKey() *ecdsa.PublicKey {
	curve := elliptic.P256()
	switch id := w.u16("curveID"); {
	case id == curveP384:
		curve = elliptic.P384()
	case w.err == nil && id != curveP256:
		w.fail("curve P-256 or P-384", fmt.Sprintf("curve %#04x", id))
	}
	if kdf := algorithm(w.u16("kdf")); w.err == nil && kdf != algNull {
		w.fail("no KDF", fmt.Sprintf("algorithm %#04x", uint16(kdf)))
	}
	size := (curve.Params().BitSize + 7) / 8
	x, y := w.sized(size, "x"), w.sized(size, "y")
	point := make([]byte, 1+2*size) // uncompressed; a TPM may leave out zeros in front
	point[0] = 4
	copy(point[1+size-len(x):], x)
	copy(point[1+2*size-len(y):], y)
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if w.err == nil && err != nil {
		w.fail("a point of the curve", "another")
	}
	return key
}

// checkAttestationKey demands a restricted signing key that was made in the TPM and cannot leave it: such a key signs
// nothing that starts with TPM_GENERATED but what the TPM made (TPM1 25.1).
func (p *public) checkAttestationKey() error {
	if err := p.checkAttributes(linkAK, attestationAttribute); err != nil {
		return err
	}
	want := algRSASSA
	if k, isECC := p.key.(*ecdsa.PublicKey); isECC {
		want = algECDSA
		if p.schemeHash != curveHash(k.Curve) {
			want = algNull
		}
	}
	if p.scheme != want || p.schemeHash == 0 || p.aesBits != 0 {
		return brokenChain(linkAK, "a key that signs by RSASSA or ECDSA with a hash that fits", "another scheme")
	}
	return nil
}

// checkEndorsementKey demands a restricted decryption key that was made in the TPM and cannot leave it.
func (p *public) checkEndorsementKey() error {
	if err := p.checkAttributes(linkEK, endorsementAttribute); err != nil {
		return err
	}
	if p.scheme != algNull || p.aesBits == 0 {
		return brokenChain(linkEK, "a storage key: AES in CFB mode and no scheme", "another definition")
	}
	return nil
}

// checkAttributes demands all of want and, beside what any object may have, nothing else: reserved bits are clear.
func (p *public) checkAttributes(link string, want attributes) error {
	if p.attributes&^anyObject == want {
		return nil
	}
	return brokenChain(link, fmt.Sprintf("object attributes %#08x", uint32(want)), fmt.Sprintf("%#08x", uint32(p.attributes)))
}

// Name gives the name of the TPM object with this TPMT_PUBLIC: its name algorithm, two bytes, and the digest of the
// structure. Refusals have the code malformed.
func Name(tpmtPublic []byte) ([]byte, error) {
	p, err := parsePublic(linkAK, tpmtPublic)
	if err != nil {
		return nil, err
	}
	return slices.Clone(p.name), nil
}
