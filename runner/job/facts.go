// SPDX-License-Identifier: Apache-2.0

package job

import (
	"encoding/json"

	"github.com/kettle/attest/attest/statement"
)

// facts are what policy decides on and DISPATCH records.
func (s *sources) facts(server string) statement.Facts {
	r := s.run.Repository
	f := statement.Facts{
		Server: server, Repository: r.FullName, RepositoryID: decimal(r.ID), RepositoryOwnerID: decimal(r.OwnerID),
		RunID: decimal(s.runID), RunAttempt: decimal(s.attempt), JobID: decimal(s.job.ID), Job: s.message.Job,
		WorkflowPath: s.workflowPath(), Ref: s.context("ref"), SHA: s.context("sha"), Event: s.run.Event,
		RunnerID: decimal(s.job.RunnerID), RunnerName: s.job.RunnerName, ActorID: decimal(s.run.ActorID),
		IdentitySource: statement.IdentityJobsAPI, JobMessage: s.message.Digest,
	}
	f.Origins = s.factOrigins()
	if id, origin := s.head(); id != "" {
		f.HeadRepositoryID, f.Origins["headRepositoryId"] = id, origin
	}
	if s.announced != nil {
		f.IdentitySource, f.JobWorkflowRef = statement.IdentityScaleSet, s.announced.WorkflowRef
	}
	if s.signed != nil {
		f.IdentitySource = statement.IdentityToken
		f.JobWorkflowRef, f.JobWorkflowSHA = s.signed.JobWorkflowRef, s.signed.JobWorkflowSHA
	}
	return f
}

// head is the repository that the code of the job may come from, where that is not simply the run's own: for pull
// requests, for what runs after another workflow, and for every event whose run GitHub shows with another repository's
// head. GitHub's run and the event both may name it; if one of them names a foreign one, it is that. Empty is no one's.
func (s *sources) head() (id string, origin statement.Origin) {
	own := s.run.Repository.ID
	var run int64
	if s.run.HeadRepository != nil {
		run = s.run.HeadRepository.ID
	}
	event := s.eventHead()
	switch {
	case run != 0 && run != own:
		return decimal(run), statement.FromGitHub
	case event != 0 && event != own:
		return decimal(event), statement.FromMeasured
	case run == 0, s.run.Event == "workflow_run" && event == 0: // GitHub's run shows the workflow's own repository then
		return "", ""
	case s.run.Event == "workflow_run":
		return decimal(event), statement.FromMeasured
	case s.pullRequest():
		return decimal(run), statement.FromGitHub
	}
	return "", ""
}

// eventHead is the repository that the event names as that of a proposal's code; zero when it names none.
func (s *sources) eventHead() int64 {
	type repository struct {
		ID int64 `json:"id"`
	}
	var e struct {
		PullRequest struct {
			Head struct {
				Repo repository `json:"repo"`
			} `json:"head"`
		} `json:"pull_request"`
		WorkflowRun struct {
			HeadRepository repository `json:"head_repository"`
		} `json:"workflow_run"`
	}
	if json.Unmarshal(s.message.Event, &e) != nil {
		return 0
	}
	if e.WorkflowRun.HeadRepository.ID != 0 {
		return e.WorkflowRun.HeadRepository.ID
	}
	return e.PullRequest.Head.Repo.ID
}

// factOrigins says who vouches for each fact. Ref and commit have GitHub's signature when there is a token. Without one
// they were compared with GitHub's run, but for a pull request, where that can only tell the commit, and rarely does.
func (s *sources) factOrigins() map[string]statement.Origin {
	o := map[string]statement.Origin{"server": statement.FromMeasured, "job": statement.FromMeasured, "jobMessage": statement.FromMeasured}
	for _, name := range []string{
		"repository", "repositoryId", "repositoryOwnerId", "runId", "runAttempt", "jobId", "workflowPath", "event",
		"runnerId", "runnerName", "actorId",
	} {
		o[name] = statement.FromGitHub
	}
	o["ref"], o["sha"] = statement.FromMeasured, statement.FromMeasured
	if !s.pullRequest() {
		o["sha"] = statement.FromGitHub // of the ref, GitHub's run does not tell whether it is a branch or a tag
	} else if s.context("sha") == s.run.HeadSHA {
		o["sha"] = statement.FromGitHub
	}
	if s.announced != nil {
		o["jobWorkflowRef"] = statement.FromGitHub
	}
	if s.signed != nil {
		for _, name := range []string{"ref", "sha", "jobWorkflowRef", "jobWorkflowSha"} {
			o[name] = statement.FromGitHub
		}
	}
	return o
}
