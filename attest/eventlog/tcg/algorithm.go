// SPDX-License-Identifier: Apache-2.0

package tcg

import (
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
)

// Algorithm is a hash algorithm by its TPM_ALG_ID (TCG Algorithm Registry, table 3).
type Algorithm uint16

// The hash algorithms that a log may declare. Only the SHA-2 ones can be replayed.
const (
	SHA1     Algorithm = 0x0004
	SHA256   Algorithm = 0x000b
	SHA384   Algorithm = 0x000c
	SHA512   Algorithm = 0x000d
	SM3      Algorithm = 0x0012
	SHA3x256 Algorithm = 0x0027
	SHA3x384 Algorithm = 0x0028
	SHA3x512 Algorithm = 0x0029
)

// Size gives the length of a digest in bytes, and 0 for an algorithm that is not a hash of the registry.
func (a Algorithm) Size() int {
	switch a {
	case SHA1:
		return 20
	case SHA256, SM3, SHA3x256:
		return 32
	case SHA384, SHA3x384:
		return 48
	case SHA512, SHA3x512:
		return 64
	}
	return 0
}

// String gives the name of the registry without TPM_ALG_.
func (a Algorithm) String() string {
	switch a {
	case SHA1:
		return "SHA1"
	case SHA256:
		return "SHA256"
	case SHA384:
		return "SHA384"
	case SHA512:
		return "SHA512"
	case SM3:
		return "SM3_256"
	case SHA3x256:
		return "SHA3_256"
	case SHA3x384:
		return "SHA3_384"
	case SHA3x512:
		return "SHA3_512"
	}
	return fmt.Sprintf("algorithm %#04x", uint16(a))
}

// Replays reports whether a register of this algorithm can be replayed. SHA-1 is refused for its collisions.
func (a Algorithm) Replays() bool { return a == SHA256 || a == SHA384 || a == SHA512 }

// hash gives a fresh state. The caller asked Replays first; anything else would be an error of this package, and
// SHA-512 then makes digests of a length that equals nothing.
func (a Algorithm) hash() hash.Hash {
	switch a {
	case SHA256:
		return sha256.New()
	case SHA384:
		return sha512.New384()
	}
	return sha512.New()
}

// sum hashes the parts, one after the other.
func (a Algorithm) sum(parts ...[]byte) []byte {
	h := a.hash()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}
