// SPDX-License-Identifier: Apache-2.0

// Package vectors finds the captured reports, quotes and bundles that tests judge. They lie outside the repository. It is for tests
// only and guarantees that their absence is told: as a skip, or as a failure where KETTLE_REQUIRE_VECTORS=1 demands them.
package vectors

import (
	"os"
	"path/filepath"
	"testing"
)

// TEE gives the folder of captured evidence: tee below KETTLE_VECTORS, by default shared/vectors beside the module.
func TEE(t testing.TB) string {
	t.Helper()
	return folder(t, "tee")
}

// Sigstore gives the folder of Sigstore bundles with their verdicts, which lies beside that of [TEE].
func Sigstore(t testing.TB) string {
	t.Helper()
	return folder(t, "sigstore")
}

func folder(t testing.TB, kind string) string {
	t.Helper()
	dir := os.Getenv("KETTLE_VECTORS")
	if dir == "" {
		root, err := os.Getwd()
		for err == nil {
			if _, statErr := os.Stat(filepath.Join(root, "go.mod")); statErr == nil || root == filepath.Dir(root) {
				break
			}
			root = filepath.Dir(root)
		}
		dir = filepath.Join(root, "..", "shared", "vectors")
	}
	dir = filepath.Join(dir, kind)
	if _, err := os.Stat(dir); err != nil { //nolint:gosec // the folder is named by whoever runs the tests.
		if os.Getenv("KETTLE_REQUIRE_VECTORS") == "1" {
			t.Fatalf("no vectors: %v", err)
		}
		t.Skipf("no vectors, set KETTLE_VECTORS: %v", err)
	}
	return dir
}
