// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package statement

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts the checks of summaries out, one after the other.
func TestMutants(t *testing.T) {
	t.Parallel()
	const vsa, kinds = "attest/statement/vsa.go", "attest/statement/vsa_kinds.go"
	for test, rows := range map[string][]mutant.Mutant{
		"^TestAttackSummary$": {
			{Check: "a self-made summary is by itself", File: kinds, Old: `if s.Verifier.ID != SelfVerifier {`, New: `if false {`},
			{Check: "nobody grants himself the draft track", File: kinds, Old: "if slices.ContainsFunc(s.Levels, draftLevel) {", New: "if false {"},
			{Check: "revocation is not checked by itself", File: kinds, Old: `!slices.Contains(s.Levels, PropertyRevocationNotChecked) || slices.Contains(s.Levels, PropertyRevocationChecked)`, New: `false`},
			{Check: "an admission is by another", File: kinds, Old: `if s.Verifier.ID == SelfVerifier {`, New: `if false {`},
			{Check: "the environment's own URI", File: kinds, Old: `if want := EnvironmentURI(key); v.ResourceURI != want {`, New: `if want := EnvironmentURI(key); want == "" {`},
			{Check: "one kind", File: kinds, Old: `has != (p == property) && v.Result != Failed`, New: `has && !has`},
			{Check: "exact names of the instance", File: kinds, Old: `if !maps.Equal(InstanceDigest(i), s) {`, New: `if !maps.Equal(s, s) {`},
			{Check: "passed or failed", File: vsa, Old: `if len(v.Levels) != 1 || v.Levels[0] != string(Failed) || v.DependencyLevels != nil {`, New: `if false {`},
			{Check: "SLSA's version", File: vsa, Old: `if p.SLSAVersion != slsaVersion {`, New: `if false {`},
		},
	} {
		for _, m := range rows {
			t.Run(m.Check, func(t *testing.T) {
				t.Parallel()
				mutant.Run(t, m, "attest/statement", test)
			})
		}
	}
}
