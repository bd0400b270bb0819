// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/kettle/attest/dispatch"
	"github.com/kettle/attest/runner/config"
)

// TestScaleSetsAreReaped where the configuration has machines register in them, and there alone.
func TestScaleSetsAreReaped(t *testing.T) {
	t.Parallel()
	for registrar, want := range map[string]bool{"scale-set": true, "rest": false} {
		p := &place{config: &config.Config{}, target: dispatch.Target{APIURL: "https://api.github.com", Scope: "repo", Target: "acme/widget"}}
		p.config.GitHub.Registrar = registrar
		if got := p.reaper(dispatch.DefaultLimits()).Sets; (got != nil) != want {
			t.Errorf("registrar %s: %v", registrar, got)
		}
	}
	if err := (sets{}).Discard(t.Context(), "kettle-0123456789abcdef"); err == nil {
		t.Error("discarded a scale set without a client of GitHub")
	}
}
