// SPDX-License-Identifier: Apache-2.0

package github

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kettle/attest/runner/job"
)

const repoPath = "/api/v3/repos/acme/widget"

func TestJobs(t *testing.T) {
	t.Parallel()
	srv := fake{"GET " + repoPath + "/actions/runs/7/attempts/2/jobs": func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("page") == "2" {
			answer(200, map[string]any{"total_count": 2, "jobs": []any{map[string]any{
				"id": 12, "run_id": 7, "run_attempt": 2, "name": "b", "head_sha": "c2", "status": "in_progress", "runner_id": 42,
				"runner_name": "host-1-2", "labels": []string{"attested-cvm"},
			}}})(w, r)
			return
		}
		w.Header().Set("Link", fmt.Sprintf(`<https://%s%s?page=2>; rel="next"`, r.Host, r.URL.Path))
		answer(200, map[string]any{"total_count": 2, "jobs": []any{map[string]any{"id": 11, "run_id": 7, "runner_id": nil, "status": "queued"}}})(w, r)
	}}.serve(t)
	got, err := client(t, srv, nil).Jobs(t.Context(), "acme/widget", 7, 2)
	if err != nil {
		t.Fatal(err)
	}
	want := []job.WorkflowJob{{ID: 11, RunID: 7, Status: "queued"}, {
		ID: 12, RunID: 7, RunAttempt: 2, Name: "b", HeadSHA: "c2", Status: "in_progress", RunnerID: 42, RunnerName: "host-1-2", Labels: []string{"attested-cvm"},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	repo := map[string]any{"id": 1296269, "full_name": "acme/widget", "owner": map[string]any{"id": 583231, "login": "acme"}}
	srv := fake{"GET " + repoPath + "/actions/runs/7": answer(200, map[string]any{
		"id": 7, "run_attempt": 2, "head_branch": "main", "head_sha": "c2", "path": ".github/workflows/build.yml", "event": "push",
		"actor": map[string]any{"id": 1001, "login": "operator"}, "triggering_actor": map[string]any{"id": 1002, "login": "other"},
		"repository": repo, "head_repository": nil,
		"referenced_workflows": []any{map[string]any{"path": "acme/ci/.github/workflows/x.yml@v1", "sha": "d3", "ref": "refs/tags/v1"}},
	})}.serve(t)
	got, err := client(t, srv, nil).Run(t.Context(), "acme/widget", 7)
	if err != nil {
		t.Fatal(err)
	}
	want := &job.Run{
		ID: 7, Attempt: 2, HeadBranch: "main", HeadSHA: "c2", Path: ".github/workflows/build.yml", Event: "push", Actor: "operator", ActorID: 1001,
		TriggeringActor: "other", TriggeringActorID: 1002,
		Repository: job.Repository{ID: 1296269, FullName: "acme/widget", OwnerID: 583231, Owner: "acme"},
		Referenced: []job.ReferencedWorkflow{{Path: "acme/ci/.github/workflows/x.yml@v1", SHA: "d3", Ref: "refs/tags/v1"}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestResolveRef(t *testing.T) {
	t.Parallel()
	sha := strings.Repeat("ab", 20)
	srv := fake{
		"GET " + repoPath + "/commits/v1":             func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, sha) },
		"GET " + repoPath + "/commits/feature/x":      func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, sha) },
		"GET " + repoPath + "/commits/html":           func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"GET " + repoPath + "/commits/gone":           answer(422, map[string]any{"message": "No commit found for SHA: gone"}),
		"GET /api/v3/repos/acme/elsewhere/commits/v1": answer(404, map[string]any{"message": "Not Found"}),
	}.serve(t)
	cl := client(t, srv, nil)
	for _, ref := range []string{"v1", "feature/x"} {
		if got, err := cl.ResolveRef(t.Context(), "acme/widget", ref); err != nil || got != sha {
			t.Errorf("%s: %s, %v", ref, got, err)
		}
	}
	for repo, ref := range map[string]string{"acme/widget": "html", "acme/elsewhere": "v1", "acme/../x": "v1", "acme": "v1"} {
		if got, err := cl.ResolveRef(t.Context(), repo, ref); err == nil {
			t.Errorf("%s@%s: %s", repo, ref, got)
		}
	}
	if _, err := cl.ResolveRef(t.Context(), "acme/widget", "gone"); !errors.Is(err, ErrRemote) {
		t.Errorf("got %v", err)
	}
}

func TestRepository(t *testing.T) {
	t.Parallel()
	srv := fake{"GET " + repoPath: answer(200, map[string]any{
		"id": 1, "full_name": "acme/widget", "private": true, "fork": true, "owner": map[string]any{"id": 2, "login": "acme"},
	})}.serve(t)
	got, err := client(t, srv, nil).Repository(t.Context(), "acme/widget")
	want := job.Repository{ID: 1, FullName: "acme/widget", Owner: "acme", OwnerID: 2, Private: true, Fork: true}
	if err != nil || got != want {
		t.Fatalf("got %+v, %v", got, err)
	}
}
