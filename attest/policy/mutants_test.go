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

// TestMutantsOfImages cuts the checks of images, of machines and of what was revoked out, one after the other.
func TestMutantsOfImages(t *testing.T) {
	t.Parallel()
	const images, environments, registers, revoked = "attest/policy/images.go", "attest/policy/environments.go", "attest/policy/registers.go", "attest/policy/revoked.go"
	for test, rows := range map[string][]mutant.Mutant{
		"^TestAttackImageSigner$": {
			{Check: "the issuer", File: images, Old: `demand(who.Issuer != "" && who.Issuer == s.issuer,`, New: `demand(true,`},
			{Check: "the workflow", File: images, Old: `demand(workflow != "" && match(s.workflow, workflow),`, New: `demand(true,`},
			{Check: "the workflow's ref", File: images, Old: `demand(isRef && s.refs.matches(ref),`, New: `demand(isRef || !isRef,`},
			{Check: "the ref that was built", File: images, Old: `demand(who.SourceRef != "" && source.matches(who.SourceRef),`, New: `demand(true,`},
			{Check: "the repository", File: images, Old: `demand(who.Repository != "" && match(s.repository.URL, who.Repository),`, New: `demand(true,`},
			{Check: "the repository's number", File: images, Old: `demand(numeric(who.RepositoryID) && oneOf(who.RepositoryID, s.repository.ID),`, New: `demand(true,`},
			{Check: "the owner's number", File: images, Old: `demand(numeric(who.OwnerID) && oneOf(who.OwnerID, s.repository.OwnerID),`, New: `demand(true,`},
			{Check: "the runner", File: images, Old: `demand(who.RunnerEnvironment != "" && oneOf(who.RunnerEnvironment, runner),`, New: `demand(true,`},
		},
		"^TestAttackUnsignedMachine$": {
			{Check: "an image of known provenance", File: environments, Old: `if err := s.needsImage(env); err != nil {`, New: `if err := s.needsImage(env); false && err != nil {`},
			{Check: "a signed measurement", File: environments, Old: `return env.signed(SignedMeasurement)`, New: `return true`},
			{Check: "a signed register", File: registers, Old: `want == wordSigned && env.signed(name)`, New: `want == wordSigned`},
		},
		"^TestAttackRevoked$": {
			{Check: "a revoked name", File: revoked, Old: `if !slices.Contains(l.values, name) {`, New: `if slices.Contains(l.values, name) || l != nil {`},
			{Check: "a machine on a revoked chip", File: environments, Old: `errs := []error{s.revoked.chip(env.ChipID)}`, New: `var errs []error`},
		},
	} {
		for _, m := range rows {
			t.Run(m.Check, func(t *testing.T) {
				t.Parallel()
				mutant.Run(t, m, "attest/policy", test)
			})
		}
	}
}
