// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package locks_test

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts out that a lock has one spelling.
func TestMutants(t *testing.T) {
	t.Parallel()
	mutant.Run(t, mutant.Mutant{
		Check: "a lock is read only as it is written", File: "image/locks/locks.go",
		Old: "if !bytes.Equal(again, data) {", New: "if !bytes.Equal(again, data) && false {",
	}, "image/locks", "^TestAttackSecondSpelling$")
}
