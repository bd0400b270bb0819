// SPDX-License-Identifier: Apache-2.0

package tdx_test

import (
	"slices"
	"testing"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/tdx"
)

// TestEveryBit flips every bit of two real quotes, one at a time: each is refused at the signature floor already. Header
// and body are signed by the attestation key, key and authentication data are bound by the QE report, that is signed by
// the PCK, the PCK and its CA by their issuers, the root is compared. What nobody signs is refused by its form: types and
// lengths, the armour, line ends and padding bits of the PEM chain, the zeros behind the quote.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"tdx15-v4-uptodate", "tdx15-v5"} {
		v := tdxVector(t, name)
		roots := intelRoots(t)
		const parts = 4
		for part := range parts {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				quote := slices.Clone(v.quote)
				for bit := part * flipStep; bit < 8*len(quote); bit += parts * flipStep {
					quote[bit/8] ^= 1 << (bit % 8)
					_, err := tdx.Verify(quote, roots, v.At)
					quote[bit/8] ^= 1 << (bit % 8)
					all := refusal.All(err)
					if len(all) == 0 {
						t.Fatalf("bit %d of byte %d: accepted", bit%8, bit/8)
					}
					switch all[0].Code {
					case refusal.Malformed, refusal.Chain, refusal.Signature:
					default:
						t.Fatalf("bit %d of byte %d: %v", bit%8, bit/8, err)
					}
				}
			})
		}
	}
}
