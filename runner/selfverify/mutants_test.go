// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package selfverify_test

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts out one check after the other, and demands that the attack it stops then succeeds.
func TestMutants(t *testing.T) {
	t.Parallel()
	const file = "runner/selfverify/selfverify.go"
	for _, row := range []struct{ check, old, with, attack string }{
		{"the policy judges the machine", "if _, err := quote.Meets(v.Policy.Environments(), at, image.Match().Signed()...); err != nil {", "if false {", "a_machine_of_another_policy"},
		{"the platform is allowed", "if !slices.Contains(v.Allowed, quote.Platform()) {", "if !slices.Contains(v.Allowed, quote.Platform()) && false {", "another_platform"},
		{"the age of the image", "at.After(last) {", "at.After(last) && false {", "beyond_the_age"},
		{"the command line is compared", "CommandLine: v.Machine.CommandLine, ", "", "another_command_line"},
		{"the components are compared", ", Components: v.Machine.Components,", ",", "another_kettled"},
	} {
		t.Run(row.check, func(t *testing.T) {
			t.Parallel()
			mutant.Run(t, mutant.Mutant{Check: row.check, File: file, Old: row.old, New: row.with}, "runner/selfverify", "^TestAttackSelf$/^"+row.attack+"$")
		})
	}
}
