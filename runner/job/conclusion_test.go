// SPDX-License-Identifier: Apache-2.0

package job

import (
	"testing"

	"github.com/kettle/attest/attest/statement"
)

func TestConclusion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	done := []WorkflowJob{{ID: 41000000002, Status: "completed", Conclusion: "success"}, {ID: 41000000001, Status: "completed", Conclusion: "failure"}}
	w.jobs = append(w.jobs, done)
	f := statement.Facts{Repository: "acme/widget", RunID: "7000000001", RunAttempt: "1", JobID: "41000000001"}
	if got, err := w.identifier(t).Conclusion(t.Context(), f); err != nil || got != "failure" {
		t.Fatalf("got %q, %v", got, err)
	}
	w = newWorld(t)
	if got, err := w.identifier(t).Conclusion(t.Context(), f); err == nil {
		t.Fatalf("got %q of a job in progress", got)
	}
	f.RunID = "x"
	if _, err := w.identifier(t).Conclusion(t.Context(), f); err == nil {
		t.Fatal("accepted a bad run id")
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil {
		t.Fatal("accepted an empty configuration")
	}
}

func TestWorkflowPath(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ path, ref, want string }{
		"plain":         {".github/workflows/a.yml", "refs/heads/main", ".github/workflows/a.yml"},
		"with ref":      {".github/workflows/a.yml@refs/heads/main", "refs/heads/main", ".github/workflows/a.yml"},
		"with branch":   {".github/workflows/a.yml@main", "refs/heads/main", ".github/workflows/a.yml"},
		"with an @":     {".github/workflows/a@b.yml", "refs/heads/main", ".github/workflows/a@b.yml"},
		"another":       {".github/workflows/b.yml", "refs/heads/main", ""},
		"foreign ref":   {".github/workflows/a.yml@v2", "refs/heads/main", ""},
		"prefix of one": {".github/workflows/a", "refs/heads/main", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := ".github/workflows/a.yml"
			if tc.want != "" {
				file = tc.want
			}
			s := &sources{
				repo: "acme/widget", run: &Run{Path: tc.path, HeadBranch: "main"},
				message: &Message{GitHub: map[string]any{"ref": tc.ref, "workflow_ref": "acme/widget/" + file + "@" + tc.ref}},
			}
			if got := s.workflowPath(); got != tc.want {
				t.Fatalf("got %q", got)
			}
		})
	}
}
