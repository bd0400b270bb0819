// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"crypto/ecdsa"
	"crypto/sha512"
	"math/big"

	"github.com/kettle/attest/attest/refusal"
)

// signatureHalf is the width of R and of S in a report, least significant byte first (ABI, "ECDSA P-384 with SHA-384").
const signatureHalf = 72

// checkSignature demands the endorsement key's signature over everything before the signature field. It has to be given
// a report that parse accepted. P-384 fills 48 of the 72 bytes; a larger number is out of the curve's range and refused.
func checkSignature(report []byte, key *ecdsa.PublicKey) error {
	digest := sha512.Sum384(report[:offSignature])
	r, s := littleEndian(report[offSignature:][:signatureHalf]), littleEndian(report[offSignature+signatureHalf:][:signatureHalf])
	if !ecdsa.Verify(key, digest[:], r, s) {
		return &refusal.Refusal{
			Link: linkReport, Code: refusal.Signature, Want: "the endorsement key's signature over the report",
			Got: "another signature, or changed bytes", Next: nextFreshReport,
		}
	}
	return nil
}

func littleEndian(b []byte) *big.Int {
	var big72 [signatureHalf]byte
	for i, v := range b {
		big72[len(big72)-1-i] = v
	}
	return new(big.Int).SetBytes(big72[:])
}
