// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package main

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts what stands between an image and its start out.
// go test -tags mutants -run TestMutants ./cmd/kettle.
func TestMutants(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ check, file, old, with, attack string }{
		{"somebody looks at the image", "image_run.go", `case !f.unverified && (f.policy == "" || f.trustedRoot == ""):`, "case false:", "^TestAttackImageRun$"},
		{
			"what was refused is not started", "image_run.go", "return nil, errors.Join(a.showImageVerdict(f.imageVerifyFlags, v), &cli.ReportedError{Err: v.err})",
			"return v.folder.manifest, a.showImageVerdict(f.imageVerifyFlags, v)", "^TestAttackImageRun$",
		},
	} {
		t.Run(row.check, func(t *testing.T) {
			t.Parallel()
			mutant.Run(t, mutant.Mutant{Check: row.check, File: "cmd/kettle/" + row.file, Old: row.old, New: row.with}, "cmd/kettle", row.attack)
		})
	}
}
