// SPDX-License-Identifier: Apache-2.0

package vtpm

import "crypto"

// algorithm is a TPM_ALG_ID (TPM2 6.3).
type algorithm uint16

const (
	algRSA    algorithm = 0x0001
	algAES    algorithm = 0x0006
	algSHA256 algorithm = 0x000b
	algSHA384 algorithm = 0x000c
	algNull   algorithm = 0x0010
	algRSASSA algorithm = 0x0014
	algOAEP   algorithm = 0x0017
	algECDSA  algorithm = 0x0018
	algECDH   algorithm = 0x0019
	algECC    algorithm = 0x0023
	algCFB    algorithm = 0x0043
)

// The curves (TPM2 6.4, TPM_ECC_CURVE).
const (
	curveP256 uint16 = 0x0003
	curveP384 uint16 = 0x0004
)

// hash gives the hashes that are trusted here, and false for all others: SHA-1 among them.
func (a algorithm) hash() (crypto.Hash, bool) {
	switch a {
	case algSHA256:
		return crypto.SHA256, true
	case algSHA384:
		return crypto.SHA384, true
	}
	return 0, false
}

// digest hashes the parts one after the other.
func digest(h crypto.Hash, parts ...[]byte) []byte {
	state := h.New()
	for _, p := range parts {
		state.Write(p)
	}
	return state.Sum(nil)
}
