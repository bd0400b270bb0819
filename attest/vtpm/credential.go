// SPDX-License-Identifier: Apache-2.0

package vtpm

import (
	"crypto"
	"crypto/aes"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"
)

// The labels of TPM1 annexes B.4 and C.6.1 and clause 24.
const (
	labelIdentity  = "IDENTITY"
	labelStorage   = "STORAGE"
	labelIntegrity = "INTEGRITY"
)

// makeCredential is TPM2_MakeCredential in software (TPM1 24): only the TPM that holds ek and an object named name gets
// the secret out. It gives a TPMS_ID_OBJECT and the content of a TPM2B_ENCRYPTED_SECRET.
func makeCredential(random io.Reader, ek *public, name, secret []byte) (idObject, encryptedSeed []byte, err error) {
	seed, encryptedSeed, err := encapsulate(random, ek)
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(kdfa(ek.hash, seed, labelStorage, name, ek.aesBits))
	if err != nil {
		return nil, nil, fmt.Errorf("making the credential's key: %w", err)
	}
	identity := appendSized(nil, secret)
	firstCFB(block.Encrypt, identity)
	mac := hmac.New(ek.hash.New, kdfa(ek.hash, seed, labelIntegrity, nil, 8*ek.hash.Size()))
	mac.Write(identity)
	mac.Write(name)
	return append(appendSized(nil, mac.Sum(nil)), identity...), encryptedSeed, nil
}

// encapsulate shares a seed with the endorsement key: RSA by OAEP (TPM1 B.4), ECC by one-pass Diffie-Hellman (C.6.1).
func encapsulate(random io.Reader, ek *public) (seed, sealed []byte, err error) {
	switch k := ek.key.(type) {
	case *rsa.PublicKey:
		seed = make([]byte, ek.hash.Size())
		if _, err := io.ReadFull(random, seed); err != nil {
			return nil, nil, fmt.Errorf("reading randomness: %w", err)
		}
		sealed, err = rsa.EncryptOAEP(ek.hash.New(), random, k, seed, []byte(labelIdentity+"\x00"))
		if err != nil {
			return nil, nil, fmt.Errorf("encrypting to the endorsement key: %w", err)
		}
		return seed, sealed, nil
	case *ecdsa.PublicKey:
		return diffieHellman(random, ek.hash, k)
	}
	return nil, nil, errOtherKind
}

func diffieHellman(random io.Reader, h crypto.Hash, key *ecdsa.PublicKey) (seed, sealed []byte, err error) {
	static, err := key.ECDH()
	if err != nil {
		return nil, nil, fmt.Errorf("reading the endorsement key: %w", err)
	}
	ephemeral, err := static.Curve().GenerateKey(random)
	if err != nil {
		return nil, nil, fmt.Errorf("making an ephemeral key: %w", err)
	}
	z, err := ephemeral.ECDH(static)
	if err != nil {
		return nil, nil, fmt.Errorf("agreeing with the endorsement key: %w", err)
	}
	x, y := coordinates(ephemeral.PublicKey().Bytes())
	staticX, _ := coordinates(static.Bytes())
	return kdfe(h, z, labelIdentity, x, staticX), appendSized(appendSized(nil, x), y), nil
}

// coordinates splits an uncompressed point.
func coordinates(point []byte) (x, y []byte) {
	size := (len(point) - 1) / 2
	return point[1 : 1+size], point[1+size:]
}

// kdfa is the KDF of TPM1 11.4.10.2: SP 800-108 in counter mode with HMAC, here with one context.
func kdfa(h crypto.Hash, key []byte, label string, context []byte, keyBits int) []byte {
	var out []byte
	for counter := uint32(1); 8*len(out) < keyBits; counter++ {
		mac := hmac.New(h.New, key)
		mac.Write(binary.BigEndian.AppendUint32(nil, counter))
		mac.Write(append([]byte(label), 0))
		mac.Write(context)
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(keyBits))) //nolint:gosec // 128 to 512.
		out = mac.Sum(out)
	}
	return out[:keyBits/8]
}

// kdfe is the KDF of TPM1 11.4.10.3: SP 800-56A with a hash, here for as many bits as the hash has.
func kdfe(h crypto.Hash, z []byte, label string, partyU, partyV []byte) []byte {
	return digest(h, []byte{0, 0, 0, 1}, z, append([]byte(label), 0), partyU, partyV)
}

// firstCFB encrypts in CFB mode from a zero vector, in place: the key is used once.
func firstCFB(encrypt func(dst, src []byte), data []byte) {
	previous := make([]byte, aes.BlockSize)
	stream := make([]byte, aes.BlockSize)
	for len(data) > 0 {
		encrypt(stream, previous)
		n := subtle.XORBytes(data, data, stream)
		copy(previous, data[:n])
		data = data[n:]
	}
}

// appendSized appends a TPM2B. Nothing here is longer than a key.
func appendSized(to, content []byte) []byte {
	to = binary.BigEndian.AppendUint16(to, uint16(len(content))) //nolint:gosec // at most 512.
	return append(to, content...)
}
