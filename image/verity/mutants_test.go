// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package verity_test

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts out the checks of this package and demands that the attacks then succeed.
func TestMutants(t *testing.T) {
	t.Parallel()
	const file = "image/verity/verity.go"
	for attack, m := range map[string]mutant.Mutant{
		"TestAttackTree/a_bit_of_the_block": {
			Check: "the block has its digest", File: file,
			Old: "if got := sha256.Sum256(block); got != want {", New: "if got := sha256.Sum256(block); got != want && false {",
		},
		"TestAttackTree/the_middle_level": {
			Check: "each level has its digest", File: file,
			Old: "if got := sha256.Sum256(node); got != want {", New: "if got := sha256.Sum256(node); got != want && level != 1 {",
		},
		"TestAttackTree/the_highest_level": {
			Check: "the highest level has the root hash", File: file,
			Old: "if got := sha256.Sum256(node); got != want {", New: "if got := sha256.Sum256(node); got != want && want != root {",
		},
	} {
		t.Run(m.Check, func(t *testing.T) {
			t.Parallel()
			mutant.Run(t, m, "image/verity", "^"+attack+"$")
		})
	}
}
