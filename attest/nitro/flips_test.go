// SPDX-License-Identifier: Apache-2.0

package nitro_test

import (
	"slices"
	"testing"

	"github.com/kettle/attest/attest/nitro"
	"github.com/kettle/attest/attest/nitro/nitrotest"
	"github.com/kettle/attest/attest/refusal"
)

// TestEveryBit flips every bit of a short document, and a sample of those of a whole one: each is refused. What stands
// around payload and signature has one form, the payload is signed, its certificates by their issuers, and the root is
// compared.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	short, whole := newScene(t, nitrotest.Config{Short: true}), newScene(t, nitrotest.Config{})
	brief := short.NewDocument().With("pcrs", nitrotest.Registers(1, 0))
	flipAll(t, short, nitrotest.Tagged(18, short.Sign(nitrotest.Open(brief.Payload()))), flipStep)
	flipAll(t, whole, whole.Sign(whole.NewTPMDocument().Payload()), 61*flipStep)
}

func flipAll(t *testing.T, p *scene, doc []byte, step int) {
	t.Helper()
	good(t, p, doc)
	const parts = 4
	for part := range parts {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			flipped := slices.Clone(doc)
			for bit := part * step; bit < 8*len(flipped); bit += parts * step {
				flipped[bit/8] ^= 1 << (bit % 8)
				_, err := nitro.Verify(flipped, p.roots, p.Day())
				flipped[bit/8] ^= 1 << (bit % 8)
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
