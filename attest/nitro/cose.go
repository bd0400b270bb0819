// SPDX-License-Identifier: Apache-2.0

package nitro

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"math/big"

	"github.com/kettle/attest/attest/refusal"
)

const (
	tagSign1    = 0xd2                   // tag 18, COSE_Sign1 (RFC 9052, 4.2); a document may go without
	fourItems   = "\x84"                 // an array of four
	protected   = "\x44\xa1\x01\x38\x22" // a byte string around {1: -35}: ES384 and nothing else
	unprotected = "\xa0"                 // no header that nobody signs

	scalarSize    = 48 // r and s each (RFC 9053, 2.1)
	signatureSize = 2 * scalarSize
	signatureHead = "\x58\x60" // a byte string of 96

	maxPayload  = 16 << 10 // PROCESS 3.1
	maxDocument = maxPayload + 128
)

// envelope is a COSE_Sign1 with the one header that AWS writes.
type envelope struct {
	payload   []byte
	signature [signatureSize]byte
}

// openEnvelope reads a COSE_Sign1. Nobody signs the bytes around payload and signature, so each of them has exactly one
// value here, lengths in their shortest form included: only the tag may be there or not.
func openEnvelope(document []byte) (*envelope, *refusal.Refusal) {
	if len(document) > maxDocument {
		return nil, malformed(fmt.Sprintf("an attestation document of at most %d bytes", maxDocument), fmt.Sprintf("%d", len(document)))
	}
	rest := document
	if len(rest) > 0 && rest[0] == tagSign1 {
		rest = rest[1:]
	}
	for _, part := range [...]struct{ bytes, want string }{
		{fourItems, "a COSE_Sign1, an array of four with tag 18 or none"},
		{protected, "a protected header that says ES384 and nothing else"},
		{unprotected, "an empty unprotected header"},
	} {
		after, ok := bytes.CutPrefix(rest, []byte(part.bytes))
		if !ok {
			return nil, malformed(part.want, fmt.Sprintf("%x", rest[:min(len(rest), len(part.bytes))]))
		}
		rest = after
	}
	payload, rest, ok := cutPayload(rest)
	if !ok {
		return nil, malformed(fmt.Sprintf("a payload of 1 to %d bytes with its length in the shortest form", maxPayload), "something else")
	}
	signature, ok := bytes.CutPrefix(rest, []byte(signatureHead))
	if !ok || len(signature) != signatureSize {
		return nil, malformed("an ES384 signature of 96 bytes and nothing after it", fmt.Sprintf("%d bytes", len(rest)))
	}
	return &envelope{payload: payload, signature: [signatureSize]byte(signature)}, nil
}

// cutPayload takes a byte string off the front whose length is written in the shortest form.
func cutPayload(data []byte) (payload, rest []byte, ok bool) {
	for n := 1; n <= 3; n++ {
		if len(data) < n {
			return nil, nil, false
		}
		length := 0
		switch n {
		case 1:
			length = int(data[0] & 0x1f)
		case 2:
			length = int(data[1])
		case 3:
			length = int(binary.BigEndian.Uint16(data[1:]))
		}
		if bytes.Equal(data[:n], byteStringHead(length)) {
			if length == 0 || length > maxPayload || length > len(data)-n {
				return nil, nil, false
			}
			return data[n : n+length], data[n+length:], true
		}
	}
	return nil, nil, false
}

// byteStringHead is what stands before a byte string of that length, below 64 KiB (RFC 8949, 3).
func byteStringHead(length int) []byte {
	const major, oneByte, twoBytes, short = 2 << 5, 24, 25, 24
	wide := binary.BigEndian.AppendUint64(nil, uint64(max(length, 0)))
	high, low := wide[6], wide[7]
	switch {
	case length < short:
		return []byte{major | low}
	case length <= 0xff:
		return []byte{major | oneByte, low}
	}
	return []byte{major | twoBytes, high, low}
}

// checkSignature demands the key's signature over the Sig_structure of the very bytes of the document (RFC 9052, 4.4):
// ["Signature1", protected, external data of no bytes, payload].
func (e *envelope) checkSignature(key *ecdsa.PublicKey) error {
	h := sha512.New384()
	h.Write([]byte("\x84\x6aSignature1" + protected + "\x40"))
	h.Write(byteStringHead(len(e.payload)))
	h.Write(e.payload)
	r, s := new(big.Int).SetBytes(e.signature[:scalarSize]), new(big.Int).SetBytes(e.signature[scalarSize:])
	if !ecdsa.Verify(key, h.Sum(nil), r, s) {
		return unsigned("a document signed by the key of its certificate", "another signature")
	}
	return nil
}
