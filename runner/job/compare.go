// SPDX-License-Identifier: Apache-2.0

package job

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kettle/attest/attest/refusal"
)

// sameAs pairs a claim of the hook with the field of the github context that it must equal. Both come from the runner;
// one went through the sandbox.
func sameAs() map[string]string {
	return map[string]string{
		"GITHUB_REPOSITORY": "repository", "GITHUB_REPOSITORY_ID": "repository_id", "GITHUB_REPOSITORY_OWNER_ID": "repository_owner_id",
		"GITHUB_RUN_ID": "run_id", "GITHUB_RUN_ATTEMPT": "run_attempt", "GITHUB_REF": "ref", "GITHUB_SHA": "sha",
		"GITHUB_EVENT_NAME": "event_name", "GITHUB_WORKFLOW_REF": "workflow_ref", "GITHUB_WORKFLOW_SHA": "workflow_sha",
		"GITHUB_ACTOR_ID": "actor_id", "GITHUB_SERVER_URL": "server_url",
	}
}

// pair is one value from two sources.
type pair struct{ what, want, got string }

func differ(pairs []pair) error {
	for _, p := range pairs {
		if p.want != p.got {
			return refuse(refusal.Identity, fmt.Sprintf("%s %.128q", p.what, p.want), fmt.Sprintf("%.128q", p.got))
		}
	}
	return nil
}

// compare holds the hook's claims, the job message and GitHub's answers against one another.
func (s *sources) compare() error {
	if err := s.compareClaims(); err != nil {
		return err
	}
	r, j := s.run, s.job
	pairs := []pair{
		{"run", decimal(s.runID), decimal(r.ID)},
		{"run of the job", decimal(s.runID), decimal(j.RunID)},
		{"attempt", decimal(s.attempt), decimal(r.Attempt)},
		{"attempt of the job", decimal(s.attempt), decimal(j.RunAttempt)},
		{"repository", s.repo, r.Repository.FullName},
		{"head commit of the job", r.HeadSHA, j.HeadSHA},
		{"repository in the job message", s.repo, s.context("repository")},
		{"run in the job message", decimal(s.runID), s.context("run_id")},
		{"attempt in the job message", decimal(s.attempt), s.context("run_attempt")},
		{"event in the job message", r.Event, s.context("event_name")},
	}
	if s.message.CheckRunID != "" {
		pairs = append(pairs, pair{"job in the job message", decimal(j.ID), s.message.CheckRunID})
	}
	if id := s.context("repository_id"); id != "" {
		pairs = append(pairs, pair{"repository id in the job message", decimal(r.Repository.ID), id})
	}
	if id := s.context("repository_owner_id"); id != "" {
		pairs = append(pairs, pair{"owner id in the job message", decimal(r.Repository.OwnerID), id})
	}
	if err := differ(pairs); err != nil {
		return err
	}
	return s.complete()
}

func (s *sources) compareClaims() error {
	values := s.question.Claims.Values
	var pairs []pair
	for claim, field := range sameAs() {
		if got, ok := values[claim]; ok {
			pairs = append(pairs, pair{claim + " as in the job message", s.context(field), got})
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int { return strings.Compare(a.what, b.what) })
	if key, ok := values["GITHUB_JOB"]; ok {
		pairs = append(pairs, pair{"GITHUB_JOB as in the job message", s.message.Job, key})
	}
	pairs = append(pairs, pair{"RUNNER_NAME", s.question.Runner.Name, values["RUNNER_NAME"]})
	return differ(pairs)
}

// complete refuses answers that lack what every fact needs.
func (s *sources) complete() error {
	for what, has := range map[string]bool{
		"the job's key": s.message.Job != "", "a repository id": s.run.Repository.ID > 0, "an owner id": s.run.Repository.OwnerID > 0,
		"a job id": s.job.ID > 0, "an event": s.run.Event != "", "a ref": s.context("ref") != "", "a commit": isCommit(s.context("sha")),
		"a workflow path": s.workflowPath() != "",
	} {
		if !has {
			return refuse(refusal.Missing, what, "an answer without")
		}
	}
	return nil
}

// compareToken holds the signed claims that attest/token does not compare against what the other sources said.
func (s *sources) compareToken() error {
	c := s.signed
	if err := differ([]pair{{"workflow in the token", s.context("workflow_ref"), c.WorkflowRef}}); err != nil {
		return err
	}
	if c.JobWorkflowRef == "" || !isCommit(c.JobWorkflowSHA) {
		return refuse(refusal.Missing, "job_workflow_ref and job_workflow_sha in the token", "a token without")
	}
	return nil
}

// context gives a field of the github context as text.
func (s *sources) context(field string) string {
	switch v := s.message.GitHub[field].(type) {
	case string:
		return v
	case float64:
		id, _ := identifier(v)
		return id
	}
	return ""
}

// workflowPath is the workflow file's path in its repository. GitHub's run object sometimes has "@ref" behind it; the
// workflow_ref of the job message is repository/path@ref. A path may hold an @ itself, so the ends are cut by what they
// must be, never by searching.
func (s *sources) workflowPath() string {
	path := s.run.Path
	for _, suffix := range []string{"@" + s.context("ref"), "@" + s.run.HeadBranch, "@" + s.run.HeadSHA} {
		if len(suffix) > 1 && strings.HasSuffix(path, suffix) {
			path = strings.TrimSuffix(path, suffix)
			break
		}
	}
	if !strings.HasPrefix(s.context("workflow_ref"), s.repo+"/"+path+"@") {
		return ""
	}
	return path
}

// isCommit reports whether s is a full commit id in lower-case hex: SHA-1 or SHA-256.
func isCommit(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}
