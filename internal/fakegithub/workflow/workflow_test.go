// SPDX-License-Identifier: Apache-2.0

package workflow_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kettle/attest/internal/fakegithub/jobmessage"
	"github.com/kettle/attest/internal/fakegithub/workflow"
)

const path = ".github/workflows/x.yml"

// job wraps the body of one job, given as lines at its own indent.
func job(body string) string {
	return "on: workflow_dispatch\njobs:\n  a:\n    runs-on: x\n    " + strings.ReplaceAll(strings.TrimSpace(body), "\n", "\n    ") + "\n"
}

func step(body string) string {
	return job("steps:\n  - " + strings.ReplaceAll(strings.TrimSpace(body), "\n", "\n    "))
}

func parse(t *testing.T, text string) *workflow.Workflow {
	t.Helper()
	w, err := workflow.Parse(path, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestScalars(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		value, lit, expr string
	}{
		"literal":        {"plain text", "plain text", ""},
		"empty":          {"''", "", ""},
		"number":         {"0", "0", ""},
		"boolean":        {"true", "true", ""},
		"expression":     {"${{ inputs.x }}", "", "inputs.x"},
		"no spaces":      {"${{inputs.x}}", "", "inputs.x"},
		"mixed":          {"v${{ github.run_number }}-${{ inputs.x }}", "", "format('v{0}-{1}', github.run_number, inputs.x)"},
		"quotes, braces": {`"it's {0} ${{ inputs.x }} }"`, "", "format('it''s {{0}} {0} }}', inputs.x)"},
		"two alone":      {"${{ inputs.x }}${{ inputs.y }}", "", "format('{0}{1}', inputs.x, inputs.y)"},
		"braces quoted":  {"\"${{ format('{0}}}', inputs.x) }}\"", "", "format('{0}}}', inputs.x)"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := parse(t, step("run: 'true'\nenv:\n  V: "+test.value))
			got := w.Jobs[0].Steps[0].Environment.Lookup("V")
			kind := jobmessage.KindString
			if test.expr != "" {
				kind = jobmessage.KindExpression
			}
			if got.Kind != kind || got.Lit != test.lit || got.Expr != test.expr || got.Pos.Line == 0 {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"":                                "success()",
		"if: always()":                    "always()",
		"if: ${{ failure() }}":            "failure()",
		"if: inputs.x == 'y'":             "success() && (inputs.x == 'y')",
		"if: ${{ inputs.x }}":             "success() && (inputs.x)",
		"if: inputs.x && !Cancelled()":    "inputs.x && !Cancelled()",
		"if: contains('always()', 'a')":   "success() && (contains('always()', 'a'))",
		"if: ${{ inputs.x }} == 'stable'": "success() && (format('{0} == ''stable''', inputs.x))",
	} {
		w := parse(t, step("run: 'true'\n"+given))
		if got := w.Jobs[0].Steps[0].Condition; got != want {
			t.Errorf("%q: got %q, want %q", given, got, want)
		}
	}
}

func TestSteps(t *testing.T) {
	t.Parallel()
	w := parse(t, job(`
steps:
  - run: a
  - run: b
    id: __run_2
  - run: c
  - uses: actions/checkout@v4
  - uses: actions/checkout/sub/dir@v4
  - uses: ./local
  - uses: docker://alpine:3
`))
	empty, sub, local := "", "sub/dir", "./local"
	want := []struct {
		name string
		ref  jobmessage.Reference
	}{
		{"__run", jobmessage.Reference{Type: "script"}},
		{"__run_2", jobmessage.Reference{Type: "script"}},
		{"__run_3", jobmessage.Reference{Type: "script"}},
		{"__actions_checkout", jobmessage.Reference{Type: "repository", Name: "actions/checkout", Ref: "v4", RepositoryType: "GitHub", Path: &empty}},
		{"__actions_checkout_2", jobmessage.Reference{Type: "repository", Name: "actions/checkout", Ref: "v4", RepositoryType: "GitHub", Path: &sub}},
		{"__self", jobmessage.Reference{Type: "repository", RepositoryType: "self", Path: &local}},
		{"__alpine_3", jobmessage.Reference{Type: "containerRegistry", Image: "alpine:3"}},
	}
	for i, s := range w.Jobs[0].Steps {
		if diff := cmp.Diff(want[i].ref, s.Reference); s.Name != want[i].name || s.ContextName != s.Name || diff != "" {
			t.Errorf("step %d: %q %s", i, s.Name, diff)
		}
	}
}

func TestJobs(t *testing.T) {
	t.Parallel()
	w := parse(t, `
name: CI
on: {push: {branches: ['v*', '!v0']}, pull_request: {}}
permissions: read-all
env: {A: 1}
jobs:
  b:
    runs-on: [self-hosted, x]
    env: {B: 2}
    permissions: {id-token: write, contents: none}
    steps: [{run: 'true'}]
  a:
    name: The second
    needs: [b]
    runs-on: x
    steps: [{run: 'true', continue-on-error: true, timeout-minutes: 1.5}]
`)
	if w.Name != "CI" || w.Dispatch != nil || len(w.Jobs) != 2 || w.Jobs[0].Key != "b" || w.Jobs[1].Name != "The second" {
		t.Fatalf("workflow %+v", w)
	}
	b, a := w.Jobs[0], w.Jobs[1]
	if len(b.Env) != 2 || len(a.Env) != 1 || len(b.Labels) != 2 || len(a.Needs) != 1 {
		t.Errorf("jobs %+v %+v", b, a)
	}
	if !b.Permissions.Allows("id-token", "write") || b.Permissions.Allows("contents", "read") || b.Permissions.Allows("actions", "read") {
		t.Errorf("permissions of b: %v", b.Permissions)
	}
	if !a.Permissions.Allows("contents", "read") || a.Permissions.Allows("contents", "write") || a.Permissions.Allows("id-token", "write") {
		t.Errorf("permissions of a: %v", a.Permissions)
	}
	if s := a.Steps[0]; !s.ContinueOnError.Bool || s.TimeoutInMinutes.Num != 1.5 {
		t.Errorf("step %+v", s)
	}
	for ref, want := range map[string]bool{"refs/heads/v1": true, "refs/heads/v0": false, "refs/heads/main": false, "refs/tags/v1": false, "v1": false} {
		if got := w.Push.Matches(ref); got != want {
			t.Errorf("push to %s: %v", ref, got)
		}
	}
	if w := parse(t, job("permissions: {}\nsteps: [{run: 'true'}]")); !w.Jobs[0].HasPermissions || w.Jobs[0].Permissions.Allows("contents", "read") {
		t.Errorf("empty permissions: %v", w.Jobs[0].Permissions)
	}
}

func TestInputs(t *testing.T) {
	t.Parallel()
	w := parse(t, `
on:
  workflow_dispatch:
    inputs:
      z: {type: choice, options: [one, two]}
      must: {required: true, default: ''}
      flag: {type: boolean}
      count: {type: number, default: 3}
      text: {default: hello}
jobs: {a: {runs-on: x, steps: [{run: 'true'}]}}
`)
	got, err := w.Dispatch.Values(map[string]string{"must": "1", "flag": "true"})
	if err != nil {
		t.Fatal(err)
	}
	want := []workflow.Value{
		{Name: "z", Text: "one", Typed: "one"}, {Name: "must", Text: "1", Typed: "1"}, {Name: "flag", Text: "true", Typed: true},
		{Name: "count", Text: "3", Typed: 3.0}, {Name: "text", Text: "hello", Typed: "hello"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for name, given := range map[string]map[string]string{
		"required missing": {}, "required empty": {"must": ""}, "undeclared": {"must": "1", "x": "y"},
		"no boolean": {"must": "1", "flag": "yes"}, "no number": {"must": "1", "count": "many"}, "no option": {"must": "1", "z": "three"},
		"empty option": {"must": "1", "z": ""},
	} {
		if _, err := w.Dispatch.Values(given); !errors.Is(err, workflow.ErrInputs) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	invalid := map[string]string{
		"not YAML":         "{",
		"empty":            "",
		"no jobs":          "on: push\n",
		"unknown key":      step("run: 'true'\nrunn: x"),
		"no steps":         job("steps: []"),
		"run and uses":     step("run: a\nuses: a/b@c"),
		"no runs-on":       "on: push\njobs: {a: {steps: [{run: a}]}}",
		"id twice":         job("steps: [{run: a, id: x}, {run: b, id: X}]"),
		"uses without ref": step("uses: actions/checkout"),
		"bad expression":   step("run: ${{ inputs. }}"),
		"open expression":  step("run: ${{ inputs.x"),
		"bad condition":    step("run: a\nif: 'inputs.x =='"),
		"unknown need":     job("needs: b\nsteps: [{run: a}]"),
		"job needs itself": job("needs: a\nsteps: [{run: a}]"),
		"bad input type":   "on: {workflow_dispatch: {inputs: {x: {type: thing}}}}\njobs: {a: {runs-on: x, steps: [{run: a}]}}",
		"permissions":      job("permissions: 7\nsteps: [{run: a}]"),
		"permission":       job("permissions: {everything: write}\nsteps: [{run: a}]"),
		"access":           job("permissions: {contents: all}\nsteps: [{run: a}]"),
	}
	for name, text := range invalid {
		if _, err := workflow.Parse(path, []byte(text)); !errors.Is(err, workflow.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	unsupported := map[string]string{
		"matrix":             job("strategy: {matrix: {x: [1]}}\nsteps: [{run: a}]"),
		"reusable workflow":  "on: push\njobs: {a: {uses: ./.github/workflows/y.yml}}",
		"job condition":      job("if: github.ref == 'x'\nsteps: [{run: a}]"),
		"environment":        job("environment: prod\nsteps: [{run: a}]"),
		"runs-on expression": "on: push\njobs: {a: {runs-on: '${{ inputs.x }}', steps: [{run: a}]}}",
		"runs-on group":      "on: push\njobs: {a: {runs-on: {group: g}, steps: [{run: a}]}}",
		"name expression":    job("name: ${{ inputs.x }}\nsteps: [{run: a}]"),
		"push paths":         "on: {push: {paths: [a]}}\njobs: {a: {runs-on: x, steps: [{run: a}]}}",
		"expression as key":  step("run: a\nenv:\n  ${{ inputs.x }}: y"),
	}
	for name, text := range unsupported {
		var fault *workflow.UnsupportedError
		if _, err := workflow.Parse(path, []byte(text)); !errors.As(err, &fault) || fault.Line == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"build.yml", "two.yml"} {
		raw, err := os.ReadFile("../testdata/widget/.github/workflows/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(raw))
	}
	f.Add(step("run: ${{ '}}' }}\nif: ${{ always() }} x"))
	f.Fuzz(func(t *testing.T, text string) {
		w, err := workflow.Parse(path, []byte(text))
		if err != nil {
			return
		}
		for _, j := range w.Jobs {
			if _, err := json.Marshal(j.Steps); err != nil {
				t.Errorf("a parsed file cannot be sent: %v", err)
			}
		}
	})
}
