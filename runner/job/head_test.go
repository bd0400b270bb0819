// SPDX-License-Identifier: Apache-2.0

package job

import (
	"errors"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

func TestWorkflowPath(t *testing.T) {
	t.Parallel()
	const hostile = ".github/workflows/a.yml@evil.yml"
	for name, tc := range map[string]struct{ path, ref, branch, file, want string }{
		"plain":                       {".github/workflows/a.yml", "refs/heads/main", "main", ".github/workflows/a.yml", ".github/workflows/a.yml"},
		"with ref":                    {".github/workflows/a.yml@refs/heads/main", "refs/heads/main", "main", ".github/workflows/a.yml", ".github/workflows/a.yml"},
		"with branch":                 {".github/workflows/a.yml@main", "refs/heads/main", "main", ".github/workflows/a.yml", ".github/workflows/a.yml"},
		"with an @":                   {".github/workflows/a@b.yml", "refs/heads/main", "main", ".github/workflows/a@b.yml", ".github/workflows/a@b.yml"},
		"another":                     {".github/workflows/b.yml", "refs/heads/main", "main", ".github/workflows/a.yml", ""},
		"foreign ref":                 {".github/workflows/a.yml@v2", "refs/heads/main", "main", ".github/workflows/a.yml", ""},
		"prefix of one":               {".github/workflows/a", "refs/heads/main", "main", ".github/workflows/a.yml", ""},
		"no branch":                   {".github/workflows/a.yml@", "refs/heads/main", "", ".github/workflows/a.yml", ""},
		"no ref":                      {".github/workflows/a.yml", "", "main", ".github/workflows/a.yml", ""},
		"no path":                     {"", "refs/heads/main", "main", "", ""},
		"file like a ref":             {hostile, "refs/heads/evil.yml", "evil.yml", hostile, hostile},
		"the same, with branch":       {hostile + "@evil.yml", "refs/heads/evil.yml", "evil.yml", hostile, hostile},
		"the same, in a pull request": {hostile, "refs/pull/7/merge", "evil.yml", hostile, hostile},
		"pull request":                {".github/workflows/a.yml", "refs/pull/7/merge", "evil.yml", ".github/workflows/a.yml", ".github/workflows/a.yml"},
		"run shows the hostile file":  {hostile, "refs/pull/7/merge", "x", ".github/workflows/a.yml", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &sources{
				repo: "acme/widget", run: &Run{Path: tc.path, HeadBranch: tc.branch},
				message: &Message{GitHub: map[string]any{"ref": tc.ref, "workflow_ref": "acme/widget/" + tc.file + "@" + tc.ref}},
			}
			if got := s.workflowPath(); got != tc.want {
				t.Fatalf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestHostileWorkflowFile runs a file whose name ends like the branch that holds it: it is never the file before the @.
func TestHostileWorkflowFile(t *testing.T) {
	t.Parallel()
	const file = ".github/workflows/build.yml@evil.yml"
	for name, ref := range map[string]string{"push": "refs/heads/evil.yml", "pull_request": "refs/pull/7/merge"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.withoutToken()
			w.edit("build.yml@refs/heads/main", "build.yml@evil.yml@"+ref)
			w.edit(`"v": "refs/heads/main"`, `"v": "`+ref+`"`)
			w.edit(`"v": "workflow_dispatch"`, `"v": "`+name+`"`)
			w.question.Claims.Values["GITHUB_REF"], w.question.Claims.Values["GITHUB_EVENT_NAME"] = ref, name
			w.run.Event, w.run.HeadBranch, w.run.Path = name, "evil.yml", file
			got, err := w.identifier(t).Identify(t.Context(), w.question)
			if err != nil || got.Facts.WorkflowPath != file {
				t.Fatalf("got %+v, %v", got, err)
			}
		})
	}
}

// TestForgedHead changes ref or commit in everything that the runner says, in a job without a token.
func TestForgedHead(t *testing.T) {
	t.Parallel()
	other := strings.Repeat("ab", 20)
	ref := func(ref string) func(*world) {
		return func(w *world) {
			w.edit("refs/heads/main", ref)
			w.question.Claims.Values["GITHUB_REF"] = ref
		}
	}
	for name, tc := range map[string]struct {
		change func(*world)
		ok     bool
	}{
		"branch":           {func(*world) {}, true},
		"tag":              {ref("refs/tags/main"), true},
		"another branch":   {ref("refs/heads/release"), false},
		"another tag":      {ref("refs/tags/v1"), false},
		"longer branch":    {ref("refs/heads/x/main"), false},
		"pull request":     {ref("refs/pull/7/merge"), false},
		"short name":       {ref("main"), false},
		"run without head": {func(w *world) { ref("refs/heads/")(w); w.run.HeadBranch = "" }, false},
		"another commit": {func(w *world) {
			w.edit(sourceSHA, other)
			w.question.Claims.Values["GITHUB_SHA"] = other
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.withoutToken()
			tc.change(w)
			got, err := w.identifier(t).Identify(t.Context(), w.question)
			if tc.ok {
				if err != nil || got.Facts.Origins["sha"] != statement.FromGitHub {
					t.Fatalf("got %+v, %v", got, err)
				}
				return
			}
			var r *refusal.Refusal
			if !errors.As(err, &r) || r.Code != refusal.Identity || !strings.Contains(r.Next, "id-token: write") || got != nil {
				t.Fatalf("got %v", err)
			}
		})
	}
}
