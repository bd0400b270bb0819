// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package attest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mutant is one check cut out of the verifier.
type mutant struct{ name, file, old, with string }

// cuts are the checks that are more than the comparison of two values; comparisons are found by their shape.
func cuts() []mutant {
	const chain, environment, index = "chain.go", "environment.go", "index.go"
	skip := func(file, cond string) mutant { return mutant{cond, file, cond + " {", cond + " && false {"} }
	return []mutant{
		skip(chain, "if _, err := c.idx.signed(c.cand.provenance, c.evidence.PublicKey); err != nil"),
		skip(chain, "if _, err := c.idx.signed(c.cand.response.payload, c.evidence.PublicKey); err != nil"),
		skip(chain, "if !slices.EqualFunc(r.Subjects, c.provenance.Subjects, same)"),
		skip(chain, "if register, has := a.Register(); has && register != log.Register()"),
		skip(chain, "if _, has := c.appraisal.Register(); !has && slices.Contains(required, policy.RegisterReplay)"),
		skip(environment, "if err := c.idx.single(digest, q.spki); err != nil"),
		skip(environment, "if n := len(log.Events()); n != len(digests)"),
		skip(environment, "if slices.Contains(required, policy.Token)"),
		skip(environment, "if err := c.req.Policy.Artifacts().Allow(c.provenance.BuilderID, facts, c.req.At); err != nil"),
		{"events of the log", chain, "if i >= len(events) || events[i].Type != t || events[i].Digest != digests[i] {", "if i >= len(events) {"},
		{"quote of the response", chain, "ctx, err := binding.Check(c.quote.Report().ReportData(), c.payload, c.evidence.Binding, binding.Response)",
			"ctx, err := binding.Parse(c.evidence.Binding)"},
		{"quote of the environment's statements", environment, "ctx, err := binding.Check(a.Report().ReportData(), signed, e.Binding, purpose)",
			"ctx, err := binding.Parse(e.Binding)"},
		{"signature of the environment's statements", environment, "signed, err := c.idx.signed(payload, e.PublicKey)",
			"signed, err := c.idx.bundles[payload][0].Payload(), error(nil)"},
		{"RESPONSE belongs to the provenance", index, "r.statement.Provenance == d {", "true {"},
	}
}

// survivors are checks that no attack of these tests needs, with the reason. They stay: a second lock costs nothing.
func survivors() map[string]string {
	return map[string]string{
		"if _, has := c.appraisal.Register(); !has && slices.Contains(required, policy.RegisterReplay)": "every platform of these tests has a register",
		"measurement (environmentStatement)": "one machine has one measurement, and the machine is compared",
		"build ID (checkDispatch)":           "DISPATCH's build ID is made of its facts, each of which is compared with the provenance",
	}
}

// TestMutants cuts one check after the other out of the verifier and demands that an attack then succeeds: no check is
// without its test. It compiles the package some fifty times, so it has a build tag of its own: go test -tags mutants -run TestMutants -timeout 50m ./attest.
func TestMutants(t *testing.T) {
	all := cuts()
	for _, file := range []string{"chain.go", "environment.go"} {
		all = append(all, comparisons(t, file)...)
	}
	for _, m := range all {
		t.Run(m.name, func(t *testing.T) {
			src, err := os.ReadFile(m.file)
			fatal(t, err)
			if bytes.Count(src, []byte(m.old)) != 1 {
				t.Fatalf("%q stands %d times in %s", m.old, bytes.Count(src, []byte(m.old)), m.file)
			}
			out := runMutant(t, m.file, bytes.Replace(src, []byte(m.old), []byte(m.with), 1))
			_, survives := survivors()[m.name]
			switch {
			case strings.Contains(out, "[build failed]"):
				t.Errorf("does not compile:\n%s", out)
			case strings.Contains(out, "\nFAIL") == survives:
				t.Errorf("survives: %v, expected: %v", !strings.Contains(out, "\nFAIL"), survives)
			}
		})
	}
}

// comparisons finds each claim{name, want, got} and makes it compare nothing.
func comparisons(t *testing.T, file string) []mutant {
	t.Helper()
	src, err := os.ReadFile(file)
	fatal(t, err)
	var out []mutant
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
			out = append(out, mutant{
				name + " (" + function + ")", file, line, strings.Replace(line, literal, fmt.Sprintf("{%q, %s, %s}", name, keep, keep), 1),
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

// runMutant runs the attacks against the package with one file replaced at build time.
func runMutant(t *testing.T, file string, src []byte) string {
	t.Helper()
	dir := t.TempDir()
	path, err := filepath.Abs(file)
	fatal(t, err)
	replaced := filepath.Join(dir, file)
	fatal(t, os.WriteFile(replaced, src, 0o600))
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: replaced}})
	fatal(t, err)
	overlayFile := filepath.Join(dir, "overlay.json")
	fatal(t, os.WriteFile(overlayFile, overlay, 0o600))
	cmd := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-count=1", "-overlay", overlayFile, "-run", "^TestAttack", ".")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return string(out)
	}
	return "\nFAIL " + string(out)
}
