// SPDX-License-Identifier: Apache-2.0

package packer_test

import (
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rhysd/actionlint"
)

// workflow is the one whose identity policies pin.
const workflow = "../../.github/workflows/image.yml"

// actions are all that the workflow may use: the commits of these releases' tags.
func actions() []string {
	return []string{
		"actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1",
		"actions/setup-go@b7ad1dad31e06c5925ef5d2fc7ad053ef454303e # v7.0.0",
		"actions/upload-artifact@bbbca2ddaa5d8feaa63e36b76fdaad77386f024f # v7.0.0",
		"actions/download-artifact@3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c # v8.0.1",
	}
}

// permissions are all that each job may have.
func permissions() map[string]map[string]string {
	return map[string]map[string]string{
		"source":  {"id-token": "write"},
		"build":   {"contents": "read"},
		"compare": {},
		"shown":   {"contents": "read"},
		"attest":  {"contents": "read", "id-token": "write", "attestations": "write"},
		"release": {"contents": "write"},
	}
}

func readWorkflow(t testing.TB) (string, *actionlint.Workflow) {
	t.Helper()
	b, err := os.ReadFile(workflow)
	if err != nil {
		t.Fatal(err)
	}
	w, faults := actionlint.Parse(b)
	if len(faults) != 0 {
		t.Fatal(faults)
	}
	return string(b), w
}

// TestWorkflowLints: actionlint has nothing to say.
func TestWorkflowLints(t *testing.T) {
	t.Parallel()
	shellcheck, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Log("this machine has no shellcheck (scripts/apt-packages): the scripts in the workflow are not looked at")
	}
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{Shellcheck: shellcheck})
	if err != nil {
		t.Fatal(err)
	}
	faults, err := linter.LintFile(workflow, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		t.Error(f)
	}
}

// TestWorkflowPins: every action is one of ours, by its commit, with its version beside it.
func TestWorkflowPins(t *testing.T) {
	t.Parallel()
	text, _ := readWorkflow(t)
	used := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^[ -]*uses: *(.*)$`).FindAllStringSubmatch(text, -1) {
		if !slices.Contains(actions(), m[1]) {
			t.Errorf("uses %s", m[1])
		}
		used[m[1]] = true
	}
	for _, a := range actions() {
		if !used[a] {
			t.Errorf("%s is not used: strike it", a)
		}
	}
}

// TestWorkflowPermissions: each job has what is listed and no more, and no token is left on disk.
func TestWorkflowPermissions(t *testing.T) {
	t.Parallel()
	_, w := readWorkflow(t)
	if w.Permissions == nil || w.Permissions.All != nil || len(w.Permissions.Scopes) != 0 {
		t.Error("the workflow as a whole has permissions")
	}
	want := permissions()
	for name, job := range w.Jobs {
		got := map[string]string{}
		if job.Permissions == nil || job.Permissions.All != nil {
			t.Errorf("%s: permissions are not listed", name)
			continue
		}
		for scope, p := range job.Permissions.Scopes {
			got[scope] = p.Value.Value
		}
		for scope, value := range got {
			if want[name][scope] != value {
				t.Errorf("%s has %s: %s", name, scope, value)
			}
		}
		if len(got) != len(want[name]) {
			t.Errorf("%s has %v, want %v", name, got, want[name])
		}
		if job.TimeoutMinutes == nil {
			t.Errorf("%s has no timeout", name)
		}
	}
	if len(w.Jobs) != len(want) {
		t.Errorf("%d jobs, want %d", len(w.Jobs), len(want))
	}
}

// TestAttackWorkflowExpressions: no value from outside becomes part of a script, no secret is asked for, nothing is cached
// where another run could have put it, and checkouts leave no token.
func TestAttackWorkflowExpressions(t *testing.T) {
	t.Parallel()
	text, w := readWorkflow(t)
	if strings.Contains(text, "secrets.") || strings.Contains(text, "actions/cache") {
		t.Error("it uses secrets or a cache")
	}
	scripts := 0
	for name, job := range w.Jobs {
		for _, step := range job.Steps {
			switch e := step.Exec.(type) {
			case *actionlint.ExecRun:
				scripts++
				if strings.Contains(e.Run.Value, "${{") {
					t.Errorf("%s: an expression in a script:\n%s", name, e.Run.Value)
				}
			case *actionlint.ExecAction:
				checkout := strings.HasPrefix(e.Uses.Value, "actions/checkout@")
				if in := e.Inputs["persist-credentials"]; checkout && (in == nil || in.Value.Value != "false") {
					t.Errorf("%s: a checkout keeps its token", name)
				}
				if in := e.Inputs["cache"]; strings.HasPrefix(e.Uses.Value, "actions/setup-go@") && (in == nil || in.Value.Value != "false") {
					t.Errorf("%s: setup-go takes a cache", name)
				}
			}
		}
	}
	if scripts < 8 {
		t.Errorf("only %d scripts were found", scripts)
	}
}

// TestWorkflowOrder: nothing is attested that was not built twice and compared, nothing released that was not attested.
func TestWorkflowOrder(t *testing.T) {
	t.Parallel()
	_, w := readWorkflow(t)
	for job, before := range map[string]string{"build": "source", "compare": "build", "attest": "compare", "release": "attest"} {
		j := w.Jobs[job]
		if j == nil || !slices.ContainsFunc(j.Needs, func(s *actionlint.String) bool { return s.Value == before }) {
			t.Errorf("%s does not need %s", job, before)
		}
	}
	for _, e := range w.On {
		if p, ok := e.(*actionlint.WebhookEvent); ok && (p.Hook.Value != "push" || p.Branches != nil || p.Tags == nil) {
			t.Errorf("it runs on %s", p.Hook.Value)
		}
	}
}
