// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package uki_test

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants: go test -tags mutants -run TestMutants ./image/uki.
func TestMutants(t *testing.T) {
	t.Parallel()
	for attack, m := range map[string]mutant.Mutant{
		"TestAttackSignerChangesImage": {
			Check: "what comes back signed is the image that was to be signed", File: "image/uki/sign.go",
			Old: "if !bytes.Equal(before, after) {", New: "if !bytes.Equal(before, after) && false {",
		},
	} {
		t.Run(m.Check, func(t *testing.T) {
			t.Parallel()
			mutant.Run(t, m, "image/uki", "^"+attack+"$")
		})
	}
}
