// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package reference_test

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts the checks of images out, one after the other, and runs the attack that then succeeds.
func TestMutants(t *testing.T) {
	t.Parallel()
	const reference, find, signer, covers = "attest/reference/reference.go", "attest/reference/find.go", "attest/reference/signer.go", "attest/reference/covers.go"
	for test, rows := range map[string][]mutant.Mutant{
		"^TestAttackImageStatements$": {
			{Check: "whose image", File: reference, Old: `Issuer: s.Issuer, Workflow: s.SAN,`, New: `Issuer: "https://token.actions.githubusercontent.com", Workflow: "https://github.com/kettle/attest/.github/workflows/image.yml@refs/tags/v1",`},
			{Check: "one signer", File: reference, Old: `if signer != signer2 {`, New: `if false {`},
			{Check: "the certificate's word", File: signer, Old: `if c.want == "" || c.got != c.want {`, New: `if false {`},
			{Check: "a certificate that says all", File: signer, Old: `c.want == "" || c.got != c.want`, New: `c.want != "" && c.got != c.want`},
			{Check: "production", File: reference, Old: `if p.External.Image.Build != statement.BuildProduction {`, New: `if false {`},
			{Check: "the time of signing", File: reference, Old: `if img.signedOn.After(r.At.Add(skew)) {`, New: `if false {`},
			{Check: "the later time", File: reference, Old: `if signer2.SignedOn.After(img.signedOn) {`, New: `if false {`},
			{Check: "a time at all", File: reference, Old: `if signer.SignedOn.IsZero() || signer2.SignedOn.IsZero() {`, New: `if false {`},
			{Check: "the same subjects", File: find, Old: `if !ok || !found || have != other {`, New: `if !ok || !found || have == (binding.Digest{}) || other == (binding.Digest{}) {`},
			{Check: "the same number of subjects", File: find, Old: `if len(a) != len(b) {`, New: `if false {`},
		},
		"^TestAttackImageUnsigned$": {
			{Check: "what was signed is what was read", File: reference, Old: `if !bytes.Equal(payload, p.provenance.payload) || !bytes.Equal(values, p.values.payload) {`, New: `if !bytes.Equal(payload, payload) {`},
		},
		"^TestAttackImageRevoked$": {
			{Check: "revoked images", File: reference, Old: `r.Policy.Revoked().Allow(policy.Names{Images: img.Digests()}, r.At)`, New: `r.Policy.Revoked().Allow(policy.Names{}, r.At)`},
		},
		"^TestAttackReferenceValues$": {
			{Check: "the value", File: covers, Old: `if have.Value != r.value {`, New: `if false {`},
			{Check: "the platform", File: covers, Old: `c.Platform != platform || `, New: ``},
			{Check: "the register", File: covers, Old: `c.Register != r.condition || `, New: ``},
			{Check: "one way to boot", File: covers, Old: `c.Boot != "" && c.Boot != way`, New: `c.Boot != "" && way == ""`},
			{Check: "the number of processors", File: covers, Old: `case b.VCPUs != 0 && c.VCPUs != 0 && b.VCPUs != c.VCPUs:`, New: `case false:`},
			{Check: "the type of processors", File: covers, Old: `case b.VCPUType != "" && c.VCPUType != "" && b.VCPUType != c.VCPUType:`, New: `case false:`},
			{Check: "all of the registers", File: covers, Old: `if len(faults) == 0 {`, New: `if len(faults) < len(registers) {`},
			{Check: "components", File: covers, Old: `case got.IsZero() || got != want:`, New: `case false:`},
			{Check: "components that nobody signed", File: covers, Old: `case !ok:`, New: `case !ok && false:`},
			{Check: "the command line", File: covers, Old: `measured[statement.ComponentCommandLine] = binding.Sum(b.CommandLine)`, New: ``},
			{Check: "no debug image", File: covers, Old: `slices.Contains(strings.Fields(string(b.CommandLine)), debugWord)`, New: `strings.Contains("", debugWord)`},
		},
	} {
		for _, m := range rows {
			t.Run(m.Check, func(t *testing.T) {
				t.Parallel()
				mutant.Run(t, m, "attest/reference", test)
			})
		}
	}
}
