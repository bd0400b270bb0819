// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package policy

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts the checks of events out, one after the other.
func TestMutants(t *testing.T) {
	t.Parallel()
	const identity, check = "attest/policy/identity.go", "attest/policy/check.go"
	for _, m := range []mutant.Mutant{
		{Check: "code of another repository", File: identity, Old: "if !own && (", New: "if false && !own && ("},
		{Check: "a head that is named", File: identity, Old: `f.HeadRepositoryID != "" || `, New: ""},
		{Check: "pull requests", File: identity, Old: `strings.HasPrefix(f.Event, "pull_request") || `, New: `strings.HasPrefix(f.Event, "-") || `},
		{Check: "runs after a workflow", File: identity, Old: ` || f.Event == "workflow_run"`, New: ""},
		{Check: "the list of events", File: identity, Old: "!i.Events.has(event)", New: "event == \"\""},
		{Check: "no word for all events", File: check, Old: `name == wordAny || strings.Trim(name, `, New: `strings.Trim(name, `},
	} {
		t.Run(m.Check, func(t *testing.T) {
			t.Parallel()
			mutant.Run(t, m, "attest/policy", "^TestAttackEvents$")
		})
	}
}
