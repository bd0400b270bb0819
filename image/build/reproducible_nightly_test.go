// SPDX-License-Identifier: Apache-2.0

//go:build reproducible

package build

import (
	"os"
	"testing"
)

// TestReproducibleFromPackages is [TestReproducible] with two base systems of the same packages, each made under its own
// conditions. It takes root and some minutes:
//
//	go test -tags reproducible -run TestReproducibleFromPackages -timeout 30m ./image/build
func TestReproducibleFromPackages(t *testing.T) {
	if os.Getenv(childConfig) != "" {
		return // this process is one of the builds
	}
	if os.Geteuid() != 0 {
		t.Fatal("it takes root")
	}
	reproduce(t, func(side) {})
}
