// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package attest_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/internal/mutant"
)

// row is one check cut out of the verifier and the attack that is then no longer stopped where it was. A row without an
// attack survives them, for the reason that it gives; it stays: a second lock costs nothing.
type row struct {
	mutant.Mutant
	attack, survives string
}

// statements are the attacks that survivors are tried with: all that change a statement of the environment.
const statements = "^TestAttack(Dispatch|Boot|StatementKey|Binding)$"

// folder is the package whose attacks are run. The checks are its own, or those of the packages below it that it calls.
const folder = "attest"

// TestMutants cuts one check after the other out of the verifier: none is without its test.
//
//	go test -tags mutants -run 'TestMutants|TestWithoutRegister' ./attest
func TestMutants(t *testing.T) {
	dir := t.TempDir()
	fatal(t, attesttest.Authority().Save(dir))
	t.Setenv(attesttest.AuthorityEnv, dir)
	for _, r := range rows(t) {
		t.Run(r.Check, func(t *testing.T) {
			t.Parallel()
			if r.survives == "" {
				mutant.Run(t, r.Mutant, folder, r.attack)
				return
			}
			if err := mutant.Try(t, r.Mutant, folder, statements); !errors.Is(err, mutant.ErrSurvived) {
				t.Errorf("expected to survive, since %s: %v", r.survives, err)
			}
		})
	}
}

// withoutRegister is a world in which no platform has a run-time register, as it is on SEV-SNP.
func withoutRegister() *mutant.Mutant {
	return &mutant.Mutant{
		Check: "run-time register", File: folder + "/appraise/judge.go", Old: "case q.Platform() == PlatformSim:\n\t\tv :=", New: "case false:\n\t\tv :=",
	}
}

// TestWithoutRegister puts the chains of a compromised machine together where no register resists them: then the
// requirements of the policy decide, as its table says.
func TestWithoutRegister(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), mutant.Build(t, *withoutRegister(), folder), "-test.v", "-test.run=^TestAttackLateCompromise$")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("\n--- PASS: TestAttackLateCompromise ")) {
		t.Errorf("%v:\n%s", err, out)
	}
}

// rows are the checks of cuts, and every comparison of two values that the source has: one that is new has to be named
// in kills or survivors before this passes.
func rows(t *testing.T) []row {
	t.Helper()
	out := append(cuts(), below()...)
	named := map[string]bool{}
	for _, file := range []string{"chain.go", "environment.go", "admitted.go"} {
		for _, m := range comparisons(t, file) {
			r := row{Mutant: m, attack: kills()[m.Check], survives: survivors()[m.Check]}
			if (r.attack == "") == (r.survives == "") {
				t.Errorf("the comparison %q stands in kills or in survivors", m.Check)
				continue
			}
			named[m.Check], out = true, append(out, r)
		}
	}
	for name := range kills() {
		if !named[name] {
			t.Errorf("there is no comparison %q", name)
		}
	}
	return out
}

// skip makes a condition never true.
func skip(check, file, cond, attack string) row {
	return row{Mutant: mutant.Mutant{Check: check, File: folder + "/" + file, Old: cond + " {", New: cond + " && false {"}, attack: attack}
}

// change puts other text in the place of a check.
func change(check, file string, text [2]string, attack string) row {
	return row{Mutant: mutant.Mutant{Check: check, File: folder + "/" + file, Old: text[0], New: text[1]}, attack: attack}
}

// cuts are the checks that are more than the comparison of two values.
func cuts() []row {
	const chain, environment, index = "chain.go", "environment.go", "index.go"
	required := skip("register where the policy requires one", chain,
		"if !replayed && slices.Contains(required, policy.RegisterReplay)", "^TestAttackLateCompromise$")
	required.World = withoutRegister()
	return []row{
		required,
		skip("signature of the provenance", chain, "if _, err := c.idx.signed(c.cand.provenance, c.evidence.PublicKey); err != nil",
			"^TestAttackStatementKey$/^provenance_by_another_key$"),
		skip("signature of the RESPONSE", chain, "if _, err := c.idx.signed(c.cand.response.payload, c.evidence.PublicKey); err != nil",
			"^TestAttackStatementKey$/^response_by_another_key$"),
		skip("subjects of the RESPONSE", chain, "if !slices.EqualFunc(r.Subjects, c.provenance.Subjects, same)", "^TestAttackResponse$/^more_subjects$"),
		change("register is the replay", "appraise/judge.go", [2]string{"if want == got {", "if want == got || want != \"\" {"},
			"^TestAttackEventLog$/^register_extended_by_something_else$"),
		skip("register of every quote", environment, "if replayed != c.replayed", "^TestAttackOtherMachine$/^tdx$"),
		change("events of the log", chain, [2]string{"if i >= len(events) || events[i].Type != t || events[i].Digest != digests[i] {", "if i >= len(events) {"},
			"^TestAttackEventLog$/^another_machine's_log$"),
		change("quote of the response", chain, [2]string{
			"ctx, err := c.quote.Binds(c.payload, c.evidence.Binding, binding.Response)",
			"ctx, err := binding.Parse(c.evidence.Binding)",
		}, "^TestAttackBinding$/^provenance_not_quoted$"),
		change("quote of the environment's statements", environment, [2]string{
			"ctx, err := a.Quote().Binds(signed, e.Binding, purpose)", "ctx, err := binding.Parse(e.Binding)",
		}, "^TestAttackBoot$/^purpose$"),
		change("signature of the environment's statements", environment, [2]string{
			"signed, err := c.idx.signed(payload, e.PublicKey)", "signed, err := c.idx.bundles[payload][0].Payload(), error(nil)",
		}, "^TestAttackStatementKey$/^dispatch_by_another_key$"),
		skip("one DISPATCH", environment, "if err := c.idx.single(digest, q.spki); err != nil", "^TestAttackDispatch$/^second_dispatch$"),
		skip("no event too many", environment, "if n := len(log.Events()); n != len(digests)", "^TestAttackEventLog$/^dispatch_log_says_too_much$"),
		skip("token where the policy requires one", environment, "if slices.Contains(required, policy.Token)",
			"^TestAttackToken$/^required_and_not_there$"),
		skip("builder and job", environment, "if err := c.req.Policy.Artifacts().Allow(c.provenance.BuilderID, facts, c.req.At); err != nil",
			"^TestAttackIdentity$/^repository$"),
		change("all of the machine's names", environment, [2]string{"want := c.appraisal.Instance()", "want := i"},
			"^TestAttackDispatch$/^quote_of_another_machine$"),
		change("whose image", "reference/reference.go", [2]string{"errs = append(errs, r.Policy.Environments().AllowImage(", "_ = append(errs, r.Policy.Environments().AllowImage("},
			"^TestAttackImage$/^another_workflow$"),
		change("the configuration is the image's", chain, [2]string{
			"map[string]binding.Digest{statement.ComponentConfiguration: c.configuration()}", "map[string]binding.Digest{}",
		}, "^TestAttackImage$/^another_configuration$"),
		skip("nothing is revoked", chain, "if err := c.checkRevoked(); err != nil", "^TestAttackRevokedMachine$"),
		skip("the summary says that it passed", "admitted.go", "if !v.Summary.Has(statement.PropertyEnvironment)", "^TestAttackAdmission$/^refused$"),
		skip("admitted before its job", "admitted.go", "v.Summary.TimeVerified.After(at.Add(clockSkew))", "^TestAttackAdmission$/^after_dispatch$"),
		change("an operator of the policy admitted it", "admitted.go", [2]string{
			"payload, err := c.idx.signed(digest, key.SPKI)", "payload, err := c.idx.bundles[digest][0].Payload(), error(nil)",
		}, "^TestAttackAdmission$/^another_operator$"),
		change("admission where the policy requires it", "admitted.go", [2]string{
			"if !slices.Contains(required, policy.Admission) {", "if !slices.Contains(required, policy.Admission) || true {",
		}, "^TestAttackAdmission$/^no_summary$"),
		change("RESPONSE belongs to the provenance", index, [2]string{"r.statement.Provenance == d {", "true {"},
			"^TestAttackResponse$/^other_provenance$"),
	}
}

// below are checks of the packages that the verifier calls, on which claims of the formal model stand (docs/formal). The
// packages' own tests have the others.
func below() []row {
	forKey := change("audience names the environment key", "token/token.go", [2]string{
		"sum := sha256.Sum256(append(environmentKey[:], nonce[:]...))", "sum := sha256.Sum256(nonce[:])",
	}, "^TestAttackLateCompromise$")
	forKey.World = withoutRegister()
	erased := change("signature of the environment's statements, late", "environment.go", [2]string{
		"signed, err := c.idx.signed(payload, e.PublicKey)", "signed, err := c.idx.bundles[payload][0].Payload(), error(nil)",
	}, "^TestAttackLateCompromise$")
	erased.World = withoutRegister()
	return []row{
		forKey, erased,
		change("audience names the nonce", "token/token.go", [2]string{
			"sum := sha256.Sum256(append(environmentKey[:], nonce[:]...))", "sum := sha256.Sum256(environmentKey[:])",
		}, "^TestAttackToken$/^other_nonce$"),
		skip("audience", "token/claims.go", "if len(c.Audience) != 1 || c.Audience[0] != want.Audience", "^TestAttackToken$/^audience$"),
		change("claim runner_environment", "token/claims.go", [2]string{"selfHosted, c.RunnerEnvironment}", "selfHosted, selfHosted}"},
			"^TestAttackToken$/^hosted_runner$"),
		change("claim check_run_id", "token/claims.go", [2]string{"f.JobID, string(c.CheckRunID)}", "f.JobID, f.JobID}"},
			"^TestAttackToken$/^of_another_job$"),
		skip("purpose", "binding/binding.go", "if c.Purpose != purpose", "^TestAttackBoot$/^purpose$"),
		change("kind of statement", "statement/scai.go", [2]string{
			"if len(pred.Attributes) != 1 || pred.Attributes[0].Attribute != attribute {", "if len(pred.Attributes) != 1 {",
		}, "^TestAttackBoot$/^of_another_kind$"),
	}
}

// kills names an attack for each comparison, by its name and function.
func kills() map[string]string {
	const response, bound, log = "^TestAttackResponse$/", "^TestAttackBinding$/", "^TestAttackEventLog$/"
	const dispatch, boot = "^TestAttackDispatch$/", "^TestAttackBoot$/"
	out := map[string]string{
		"build ID (checkResponse)":                    response + "^other_build$",
		"a quote of platform (checkQuote)":            "^TestAttackQuote$/^simulator_as_snp$",
		"statement key (checkBinding)":                "^TestAttackStatementKey$/^key_swapped_in_evidence$",
		"environment key (checkBinding)":              bound + "^environment_key$",
		"build ID (checkBinding)":                     bound + "^build_ID$",
		"DISPATCH statement (checkBinding)":           bound + "^dispatch$",
		"sequence (checkBinding)":                     response + "^other_sequence$",
		"head of the event log (checkEventLog)":       log + "^head$",
		"events of earlier responses (checkEventLog)": log + "^second_response_as_the_first$",
		"environment key (environmentStatement) 2":    boot + "^quoted_key$",
		"environment key (environmentStatement)":      "^TestAttackStatementKey$/^boot_key_swapped$",
		"platform (sameInstance)":                     dispatch + "^other_platform$",
		"report ID (sameInstance)":                    dispatch + "^other_instance$",
		"attestation key (sameInstance)":              "^TestAttackOtherTPM$",
		"chip ID (sameInstance)":                      dispatch + "^other_chip$",
		"environment key (checkDispatch)":             dispatch + "^other_environment_key$",
		"build ID of its quote (checkDispatch)":       dispatch + "^quoted_build$",
		"BOOT evidence (checkDispatch)":               dispatch + "^quoted_boot$",
		"environment key (checkBoot)":                 boot + "^environment_key$",
		"configuration (checkBoot)":                   boot + "^configuration$",
		"environment key (admittedBy)":                "^TestAttackAdmission$/^another_environment$",
		"measurement (admittedBy)":                    "^TestAttackAdmission$/^another_launch$",
	}
	for claim, attack := range map[string]string{
		"workflow.repository": "said_repository", "workflow.path": "said_path", "workflow.ref": "said_ref", "job": "said_job",
		"event": "said_event", "event_name": "said_event_name", "repository_id": "repository_ID", "repository_owner_id": "owner_ID",
		"run_id": "said_run", "run_attempt": "said_attempt", "job_id": "said_job_ID", "runner_name": "runner",
		"job_workflow_ref": "called_workflow", "job_workflow_sha": "called_commit", "actor_id": "actor",
		"identitySource": "said_identity_source", "policy": "said_policy", "source": "said_source", "source commit": "said_commit",
	} {
		out[claim+" (jobClaims)"] = dispatch + "^" + attack + "$"
	}
	return out
}

// survivors are comparisons that no attack needs, with the reason.
func survivors() map[string]string {
	return map[string]string{
		"measurement (environmentStatement)": "one machine has one measurement, and the machine is compared",
		"build ID (checkDispatch)":           "DISPATCH's build ID is made of its facts, each of which is compared with the provenance",
	}
}

// comparisons finds each claim{name, want, got} and makes it compare nothing. Its name is the claim's and the function's, with a
// number when the function has another of that name.
func comparisons(t *testing.T, file string) []mutant.Mutant {
	t.Helper()
	src, err := os.ReadFile(file)
	fatal(t, err)
	var out []mutant.Mutant
	times := map[string]int{}
	function := ""
	for _, line := range strings.Split(string(src), "\n") {
		if name, ok := strings.CutPrefix(line, "func (c *chain) "); ok {
			function, _, _ = strings.Cut(name, "(")
		} else if name, ok := strings.CutPrefix(line, "func "); ok {
			function, _, _ = strings.Cut(name, "(")
		}
		for rest := line; ; {
			i := strings.Index(rest, `{"`)
			if i < 0 || !strings.HasPrefix(strings.TrimSpace(line), "{") && !strings.Contains(line, "claim{") {
				break
			}
			end := closing(rest[i:])
			literal := rest[i : i+end]
			rest = rest[i+end:]
			args := strings.SplitN(literal, ", ", 3)
			if len(args) != 3 || strings.Count(string(src), line) != 1 {
				continue
			}
			name := strings.Trim(args[0], `{"`)
			keep := strings.TrimSuffix(args[2], "}")
			check := name + " (" + function + ")"
			if times[check]++; times[check] > 1 {
				check += fmt.Sprintf(" %d", times[check])
			}
			out = append(out, mutant.Mutant{
				Check: check, File: folder + "/" + file, Old: line,
				New: strings.Replace(line, literal, fmt.Sprintf("{%q, %s, %s}", name, keep, keep), 1),
			})
		}
	}
	return out
}

// closing gives the length of the literal that starts with the brace at 0.
func closing(s string) int {
	depth := 0
	for i, r := range s {
		switch r {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(s)
}
