// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package token

import (
	"strings"
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts one check of a token out after the other.
func TestMutants(t *testing.T) {
	t.Parallel()
	const token, claims = "attest/token/token.go", "attest/token/claims.go"
	rows := map[mutant.Mutant]string{
		{Check: "the algorithm", File: token, Old: "[]jose.SignatureAlgorithm{jose.RS256}", New: "[]jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.RS384, jose.HS256}"}:                                                   "Forged",
		{Check: "the key", File: token, Old: "if !ok || id == \"\" {", New: "for _, key = range k.byID {\n\t\tok = true\n\t}\n\tif !ok {"}:                                                                                      "Forged",
		{Check: "the signature", File: token, Old: "parsed.Claims(key, &c); errors.Is(err, jose.ErrCryptoFailure) {", New: "parsed.UnsafeClaimsWithoutVerification(&c); key == nil || errors.Is(err, jose.ErrCryptoFailure) {"}: "Forged",
		{Check: "the form", File: token, Old: "if strings.Trim(raw, compact) != \"\" {", New: "if strings.Trim(raw, compact) == \"\\x00\" {"}:                                                                                   "Forged",
		{Check: "the issuer", File: claims, Old: "if c.Issuer != want.Issuer {", New: "if c.Issuer == \"\\x00\" {"}:                                                                                                             "Foreign",
		{Check: "the audience", File: claims, Old: "c.Audience[0] != want.Audience {", New: "false {"}:                                                                                                                          "Foreign",
		{Check: "one audience", File: claims, Old: "len(c.Audience) != 1 ||", New: "len(c.Audience) == 0 ||"}:                                                                                                                   "Foreign",
		{Check: "the actor", File: claims, Old: "c.ActorID != f.ActorID {", New: "false {"}:                                                                                                                                     "Foreign",
		{Check: "the deployment environment", File: claims, Old: `if c.Environment != "" {`, New: `if c.Environment == "\x00" {`}:                                                                                               "Foreign",
		{Check: "the workflow file", File: claims, Old: "c.WorkflowRef != workflow {", New: "false {"}:                                                                                                                          "Foreign",
		{Check: "all times", File: claims, Old: "if c.IssuedAt == nil || c.Expiry == nil || c.NotBefore == nil {", New: "if c.IssuedAt == nil || c.Expiry == nil || c.NotBefore == nil {\n\t\treturn nil\n\t}\n\tif false {"}:   "Foreign",
		{Check: "expiry", File: claims, Old: "if !at.Before(expires.Add(Skew)) {", New: "if false {"}:                                                                                                                           "Foreign",
		{Check: "beginning", File: claims, Old: "if from.After(at.Add(Skew)) {", New: "if false {"}:                                                                                                                             "Foreign",
		{Check: "age", File: claims, Old: " || issued.Before(at.Add(-MaxAge)) {", New: " {"}:                                                                                                                                    "Foreign",
		{Check: "a token of later", File: claims, Old: "if issued.After(at.Add(Skew)) || issued", New: "if issued"}:                                                                                                             "Foreign",
		{Check: "a number without a sign", File: claims, Old: `strings.Trim(string(b), "0123456789") != "" {`, New: `string(b) == "" {`}:                                                                                        "Foreign",
	}
	for name, fields := range map[string][2]string{
		"runner_environment": {"selfHosted", "c.RunnerEnvironment"}, "repository": {"f.Repository", "c.Repository"},
		"repository_id": {"f.RepositoryID", "c.RepositoryID"}, "repository_owner_id": {"f.RepositoryOwnerID", "c.RepositoryOwnerID"},
		"run_id": {"f.RunID", "string(c.RunID)"}, "run_attempt": {"f.RunAttempt", "string(c.RunAttempt)"},
		"check_run_id": {"f.JobID", "string(c.CheckRunID)"}, "ref": {"f.Ref", "c.Ref"}, "sha": {"f.SHA", "c.SHA"},
		"event_name": {"f.Event", "c.EventName"}, "job_workflow_ref": {"f.JobWorkflowRef", "c.JobWorkflowRef"},
		"job_workflow_sha": {"f.JobWorkflowSHA", "c.JobWorkflowSHA"},
	} {
		row := `{"` + name + `", ` + fields[0] + ", " + fields[1] + "}"
		rows[mutant.Mutant{Check: name, File: claims, Old: row, New: strings.Replace(row, fields[1], fields[0], 1)}] = "Foreign"
	}
	for m, attack := range rows {
		t.Run(m.Check, func(t *testing.T) {
			t.Parallel()
			mutant.Run(t, m, "attest/token", "^TestAttack"+attack+"Token$")
		})
	}
}
