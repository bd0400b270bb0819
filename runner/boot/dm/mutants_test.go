// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package dm_test

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts out the checks of this package and demands that the attacks then succeed.
func TestMutants(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		mutant.Mutant
		attack string
	}{
		{mutant.Mutant{
			Check: "a table names one device of /dev", File: "runner/boot/dm/target.go",
			Old: "if !blockDevice.MatchString(path) {", New: "if blockDevice == nil {",
		}, "TestAttackTable"},
		{mutant.Mutant{
			Check: "the buffer of the call is wiped", File: "runner/boot/dm/control.go",
			Old: "defer clear(r)", New: "",
		}, "TestAttackKeyLeftBehind"},
		{mutant.Mutant{
			Check: "the table is wiped", File: "runner/boot/dm/control.go",
			Old: "defer clear(t.parameters)", New: "",
		}, "TestAttackKeyLeftBehind"},
	} {
		t.Run(row.Check, func(t *testing.T) {
			t.Parallel()
			mutant.Run(t, row.Mutant, "runner/boot/dm", "^"+row.attack+"$")
		})
	}
}
