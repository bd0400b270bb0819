// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package admission

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants takes what a seal is bound to away, one part after the other.
// go test -tags mutants -run TestMutants ./attest/admission.
func TestMutants(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ check, old, with string }{
		{"nonce", "t.Nonce[:], t.EnvironmentKey[:], t.HPKEKey[:]}", "t.EnvironmentKey[:], t.HPKEKey[:]}"},
		{"environment", "t.Nonce[:], t.EnvironmentKey[:], t.HPKEKey[:]}", "t.Nonce[:], t.HPKEKey[:]}"},
		{"summary", "return t.Summary[:]", "return nil"},
	} {
		t.Run(row.check, func(t *testing.T) {
			t.Parallel()
			m := mutant.Mutant{Check: row.check, File: "attest/admission/seal.go", Old: row.old, New: row.with}
			mutant.Run(t, m, "attest/admission", "^TestAttackOtherTerms$")
		})
	}
}
