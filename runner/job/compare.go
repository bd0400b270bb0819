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

// workflowPath is the workflow file's path in its repository; empty when the sources differ. The workflow_ref of the job
// message is repository/path@ref, and GitHub's run object has the path alone or with "@ref" or "@branch" behind it. A
// path and a branch may both hold an @, so the path is what is left of the workflow_ref without its known ends, and the
// run has to say exactly that.
func (s *sources) workflowPath() string {
	ref := s.context("ref")
	path, ok := strings.CutPrefix(s.context("workflow_ref"), s.repo+"/")
	if !ok || ref == "" {
		return ""
	}
	if path, ok = strings.CutSuffix(path, "@"+ref); !ok {
		return ""
	}
	switch s.run.Path {
	case path, path + "@" + ref:
		return path
	case path + "@" + s.run.HeadBranch:
		if s.run.HeadBranch != "" {
			return path
		}
	}
	return ""
}

// compareHead holds ref and commit against GitHub's run where no token signs them. For a pull request the run names the
// proposed branch and its commit, not what the job runs on: there both stay the job message's word. A branch and a tag
// of one name are told apart by the job message alone.
func (s *sources) compareHead() error {
	if s.signed != nil || s.pullRequest() {
		return nil
	}
	r, ref, sha := s.run, s.context("ref"), s.context("sha")
	if r.HeadBranch == "" || ref != "refs/heads/"+r.HeadBranch && ref != "refs/tags/"+r.HeadBranch {
		return unsigned(fmt.Sprintf("a job on the branch or tag %.128q of its run", r.HeadBranch), fmt.Sprintf("one on %.128q", ref))
	}
	if sha != r.HeadSHA {
		return unsigned(fmt.Sprintf("a job on the head commit %.64q of its run", r.HeadSHA), fmt.Sprintf("one on %.64q", sha))
	}
	return nil
}

// pullRequest reports whether the event is one of those in which a run's head is a proposal.
func (s *sources) pullRequest() bool { return strings.HasPrefix(s.run.Event, "pull_request") }

func unsigned(want, got string) error {
	return &refusal.Refusal{
		Link: link, Code: refusal.Identity, Want: want, Got: got,
		Next: "give the job the permission id-token: write, so that GitHub signs which ref and commit it runs on.",
	}
}

// isCommit reports whether s is a full commit id in lower-case hex: SHA-1 or SHA-256.
func isCommit(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}
