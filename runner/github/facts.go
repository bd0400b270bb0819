// SPDX-License-Identifier: Apache-2.0

package github

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	gogithub "github.com/google/go-github/v60/github"

	"github.com/kettle/attest/runner/job"
)

// maxJobPages bounds a run's list of jobs: GitHub allows 256 jobs of a matrix and pages of 100.
const maxJobPages = 50

// Jobs lists the jobs of one attempt of a run.
func (c *Client) Jobs(ctx context.Context, repo string, runID, attempt int64) ([]job.WorkflowJob, error) {
	doing := fmt.Sprintf("listing the jobs of run %d, attempt %d", runID, attempt)
	owner, name, err := split(repo)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	var jobs []job.WorkflowJob
	opts := &gogithub.ListOptions{PerPage: 100}
	for range maxJobPages {
		page, resp, err := c.api.Actions.ListWorkflowJobsAttempt(polled(ctx), owner, name, runID, attempt, opts)
		if err != nil {
			return nil, remote(doing, reading("Actions", repo), resp, err)
		}
		for _, j := range page.Jobs {
			jobs = append(jobs, job.WorkflowJob{
				ID: j.GetID(), RunID: j.GetRunID(), RunAttempt: j.GetRunAttempt(), Name: j.GetName(), HeadSHA: j.GetHeadSHA(),
				Status: j.GetStatus(), Conclusion: j.GetConclusion(), RunnerID: j.GetRunnerID(), RunnerName: j.GetRunnerName(), Labels: j.Labels,
			})
		}
		if resp.NextPage == 0 {
			return jobs, nil
		}
		opts.Page = resp.NextPage
	}
	return nil, fmt.Errorf("%s: more than %d pages", doing, maxJobPages)
}

// run is GitHub's run object as far as it is used; go-github v60 lacks path and referenced_workflows.
type run struct {
	ID             int64       `json:"id"`
	RunAttempt     int64       `json:"run_attempt"`
	HeadBranch     string      `json:"head_branch"`
	HeadSHA        string      `json:"head_sha"`
	Path           string      `json:"path"`
	Event          string      `json:"event"`
	Actor          account     `json:"actor"`
	Triggering     account     `json:"triggering_actor"`
	Repository     repository  `json:"repository"`
	HeadRepository *repository `json:"head_repository"`
	Referenced     []struct {
		Path string `json:"path"`
		SHA  string `json:"sha"`
		Ref  string `json:"ref"`
	} `json:"referenced_workflows"`
}

type account struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
}

type repository struct {
	ID       int64   `json:"id"`
	FullName string  `json:"full_name"`
	Private  bool    `json:"private"`
	Fork     bool    `json:"fork"`
	Owner    account `json:"owner"`
}

func (r repository) fact() job.Repository {
	return job.Repository{ID: r.ID, FullName: r.FullName, OwnerID: r.Owner.ID, Owner: r.Owner.Login, Private: r.Private, Fork: r.Fork}
}

// Run reads a workflow run. GitHub shows the latest attempt.
func (c *Client) Run(ctx context.Context, repo string, runID int64) (*job.Run, error) {
	var r run
	err := c.get(ctx, fetch{
		doing: fmt.Sprintf("asking for run %d", runID), repo: repo, path: fmt.Sprintf("/actions/runs/%d", runID), permission: "Actions",
	}, &r)
	if err != nil {
		return nil, err
	}
	out := &job.Run{
		ID: r.ID, Attempt: r.RunAttempt, HeadBranch: r.HeadBranch, HeadSHA: r.HeadSHA, Path: r.Path, Event: r.Event,
		ActorID: r.Actor.ID, Actor: r.Actor.Login, TriggeringActorID: r.Triggering.ID, TriggeringActor: r.Triggering.Login,
		Repository: r.Repository.fact(),
	}
	if r.HeadRepository != nil {
		head := r.HeadRepository.fact()
		out.HeadRepository = &head
	}
	for _, w := range r.Referenced {
		out.Referenced = append(out.Referenced, job.ReferencedWorkflow{Path: w.Path, SHA: w.SHA, Ref: w.Ref})
	}
	return out, nil
}

// Repository reads a repository's identifiers.
func (c *Client) Repository(ctx context.Context, repo string) (job.Repository, error) {
	var r repository
	err := c.get(ctx, fetch{doing: "asking for repository " + repo, repo: repo, permission: "Metadata"}, &r)
	return r.fact(), err
}

// ResolveRef gives the commit that a branch, tag or abbreviated commit names now.
func (c *Client) ResolveRef(ctx context.Context, repo, ref string) (string, error) {
	doing := fmt.Sprintf("resolving %s@%s", repo, ref)
	owner, name, err := split(repo)
	if err != nil {
		return "", fmt.Errorf("%s: %w", doing, err)
	}
	sha, resp, err := c.api.Repositories.GetCommitSHA1(ctx, owner, name, ref, "")
	if err != nil {
		return "", remote(doing, reading("Contents", repo), resp, err)
	}
	sha = strings.TrimSpace(sha)
	if raw, err := hex.DecodeString(sha); err != nil || (len(raw) != 20 && len(raw) != 32) || sha != strings.ToLower(sha) {
		return "", fmt.Errorf("%s: GitHub answered %.64q, which is no commit", doing, sha)
	}
	return sha, nil
}

// fetch is one GET below a repository.
type fetch struct {
	doing, repo, path, permission string
}

func (c *Client) get(ctx context.Context, f fetch, out any) error {
	owner, name, err := split(f.repo)
	if err != nil {
		return fmt.Errorf("%s: %w", f.doing, err)
	}
	req, err := c.api.NewRequest(http.MethodGet, "repos/"+url.PathEscape(owner)+"/"+url.PathEscape(name)+f.path, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", f.doing, err)
	}
	resp, err := c.api.Do(polled(ctx), req, out)
	if err != nil {
		return remote(f.doing, reading(f.permission, f.repo), resp, err)
	}
	return nil
}

// reading is what it takes to read something of a repository.
func reading(permission, repo string) need {
	return need{permission + ": read", "repo", "repository " + repo}
}

// split reads "owner/repository". The parts go into a URL's path, so nothing but GitHub's own alphabet is let through.
func split(repo string) (owner, name string, err error) {
	if !job.ValidRepository(repo) {
		return "", "", fmt.Errorf("%.64q is no owner/repository", repo)
	}
	owner, name, _ = strings.Cut(repo, "/")
	return owner, name, nil
}
