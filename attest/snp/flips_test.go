// SPDX-License-Identifier: Apache-2.0

//go:build !race

package snp_test

import (
	"slices"
	"testing"

	"github.com/kettle/attest/attest/snp"
)

// TestAttackOneBitFlips flips, in two genuine pieces of evidence, every bit of the report and one bit of each byte of the
// certificate, another one from byte to byte. None may be accepted. It looks for no races, which would make it ten times
// as long.
func TestAttackOneBitFlips(t *testing.T) {
	t.Parallel()
	roots := amdRoots(t)
	for _, name := range []string{"snp-milan-v3", "snp-turin-v5"} {
		v := snpVector(t, name)
		if _, err := snp.Verify(v.report, v.leaf, roots, v.At); err != nil {
			t.Fatal(err)
		}
		for what, part := range map[string][]byte{"report": v.report, "certificate": v.leaf} {
			t.Run(name+" "+what, func(t *testing.T) {
				t.Parallel()
				for bit := range 8 * len(part) {
					if what == "certificate" && bit%8 != bit/8%8 {
						continue
					}
					flipped := slices.Clone(part)
					flipped[bit/8] ^= 1 << (bit % 8)
					report, leaf := flipped, v.leaf
					if what == "certificate" {
						report, leaf = v.report, flipped
					}
					if r, err := snp.Verify(report, leaf, roots, v.At); err == nil || r != nil {
						t.Fatalf("accepted with bit %d of byte %#x flipped", bit%8, bit/8)
					}
				}
			})
		}
	}
}
