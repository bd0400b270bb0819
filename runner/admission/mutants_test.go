// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package admission

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts one check of the client out after the other.
// go test -tags mutants -run TestMutants ./runner/admission.
func TestMutants(t *testing.T) {
	t.Parallel()
	const client, verify, wire = "client.go", "verify.go", "http.go"
	for _, row := range []struct{ check, file, old, with, attack string }{
		{"roots", wire, "RootCAs: c.Roots, ", "RootCAs: c.Roots, InsecureSkipVerify: true, ", "ForeignServer$"},
		{"operators' keys", verify, "payload, err := b.Verify(spki)\n\t\tif err == nil {", "payload, err := b.Payload(), error(nil)\n\t\tif err == nil {", "ForeignOperator$"},
		{"challenge for this environment", client, `claim{"environment key of the challenge", e.Key(), s.EnvironmentKey}, `, "", "OtherConversation$"},
		{"challenge of now", client, `, claim{"fresh bytes of the challenge", fresh, s.Conditions.Fresh}`, "", "OtherConversation$"},
		{"clock", client, "if clock.Apart.Abs() <= c.config.Tolerance {", "if true {", "Clock$"},
		{"summary passed", verify, "if !v.Summary.Has(statement.PropertyEnvironment) {", "if false {", "OtherConversation$"},
		{"summary of this environment", verify, `agree(claim{"environment key of VSA-ENV", e.Key(), v.EnvironmentKey})`, "error(nil)", "OtherConversation$"},
		{"summary of this machine", verify, "if own := e.Instance(); v.Instance != own {", "if own := e.Instance(); false {", "OtherConversation$"},
		{"summary of now", verify, "if at.Before(s.Conditions.Time) || at.After(s.Conditions.Expires) {", "if at.IsZero() {", "OtherConversation$"},
		{"release for this environment", verify, `claim{"environment key of the release", terms.EnvironmentKey, r.EnvironmentKey},`, "", "OtherConversation$"},
		{"release for this nonce", verify, `claim{"nonce of the release", terms.Nonce, r.Conditions.Nonce},`, "", "OtherConversation$"},
		{"release for this key", verify, `claim{"HPKE key of the release", terms.HPKEKey, r.Conditions.HPKEKey},`, "", "OtherConversation$"},
		{"release with this summary", verify, `claim{"VSA-ENV of the release", terms.Summary, r.Summary},`, "", "OtherConversation$"},
	} {
		t.Run(row.check, func(t *testing.T) {
			t.Parallel()
			m := mutant.Mutant{Check: row.check, File: "runner/admission/" + row.file, Old: row.old, New: row.with}
			mutant.Run(t, m, "runner/admission", "^TestAttack"+row.attack)
		})
	}
}
