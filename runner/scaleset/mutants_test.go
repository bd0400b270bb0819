// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package scaleset

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts one check of the scale set's session out after the other.
// go test -tags mutants -run TestMutants ./runner/scaleset.
func TestMutants(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ check, file, old, with, attack string }{
		{"job that was acquired", "register.go", "if s.request == 0 || s.started != nil || ", "if true || ", "RemovedBesideItsJob$"},
		{"one job", "listen.go", "} else if *r.seat.started != told {", "} else if false {", "TwoStarts$"},
		{"job of our runner", "listen.go", "if j == nil || int64(j.RunnerID) != r.seat.reg.ID && j.RunnerName != r.seat.reg.Name {", "if j == nil {", "TwoStarts$"},
		{"credential is not the library's", "wire.go", "if r.Header.Get(\"Authorization\") == \"Bearer \"+placeholder {", "if false {", "Credential$"},
		{"runner that was asked for", "register.go", "if answer.Runner.Name != name || ", "if ", "OtherRunner$/^of_another_name"},
		{"scale set of the runner", "register.go", " || answer.Runner.RunnerScaleSetID != r.set {", " {", "OtherRunner$/^of_another_set"},
	} {
		t.Run(row.check, func(t *testing.T) {
			t.Parallel()
			m := mutant.Mutant{Check: row.check, File: "runner/scaleset/" + row.file, Old: row.old, New: row.with}
			mutant.Run(t, m, "runner/scaleset", "^TestAttack"+row.attack)
		})
	}
}
