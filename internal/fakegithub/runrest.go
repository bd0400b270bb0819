// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kettle/attest/internal/fakegithub/tree"
)

func (s *Server) routeRuns(mux *http.ServeMux) {
	const base = "/repos/{owner}/{repo}/actions/"
	for pattern, h := range map[string]func(*call) error{
		"GET " + base + "runs":                               (*call).listRuns,
		"GET " + base + "runs/{run}":                         (*call).getRun,
		"GET " + base + "runs/{run}/attempts/{attempt}":      (*call).getRun,
		"GET " + base + "runs/{run}/jobs":                    (*call).listJobs,
		"GET " + base + "runs/{run}/attempts/{attempt}/jobs": (*call).listJobs,
		"POST " + base + "runs/{run}/cancel":                 func(c *call) error { return c.cancelRun(false) },
		"POST " + base + "runs/{run}/force-cancel":           func(c *call) error { return c.cancelRun(true) },
		"GET " + base + "jobs/{job}":                         (*call).getJob,
		"GET " + base + "jobs/{job}/logs":                    (*call).getJobLog,
		"POST " + base + "workflows/{file}/dispatches":       (*call).createDispatch,
		"GET " + base + "workflows/{file}/runs":              (*call).listRuns,
	} {
		mux.Handle(pattern, s.rest(h))
	}
}

// runJSON is a workflow run of the REST API.
func (s *Server) runJSON(r *run) map[string]any {
	url := s.repoURL(r.repo) + "/actions/runs/" + decimal(r.id)
	short := strings.TrimPrefix(strings.TrimPrefix(r.ref, "refs/heads/"), "refs/tags/")
	out := map[string]any{
		"id": r.id, "name": r.def.Name, "node_id": node("WFR", r.id), "head_branch": short, "head_sha": r.sha, "path": r.def.Path,
		"display_title": r.def.Name, "run_number": r.number, "event": r.event, "status": r.status, "conclusion": optional(r.conclusion),
		"workflow_id": workflowID(r), "url": url, "html_url": s.runURL(r), "created_at": stamp(r.created), "updated_at": stamp(r.updated),
		"run_attempt": r.attempt, "run_started_at": stamp(r.created), "referenced_workflows": []any{}, "pull_requests": []any{},
		"actor": s.userJSON(r.actor), "triggering_actor": s.userJSON(r.actor), "jobs_url": url + "/jobs", "cancel_url": url + "/cancel",
		"repository": s.repositoryJSON(r.repo), "head_repository": s.repositoryJSON(r.repo), "previous_attempt_url": nil,
		"logs_url": url + "/logs", "artifacts_url": url + "/artifacts", "rerun_url": url + "/rerun",
		"check_suite_url": s.repoURL(r.repo) + "/check-suites/" + decimal(r.id), "workflow_url": s.repoURL(r.repo) + "/actions/workflows/" + decimal(workflowID(r)),
		"head_commit": map[string]any{
			"id": r.sha, "tree_id": r.tree, "message": "Snapshot", "timestamp": tree.Date,
			"author": committer(), "committer": committer(),
		},
	}
	return out
}

// workflowID makes the identifier of a run's workflow.
func workflowID(r *run) int64 { return r.repo.ID*100 + 1 }

// committer is who every commit is by.
func committer() map[string]string {
	return map[string]string{"name": "fakegithub", "email": "noreply@github.demo.test"}
}

// jobJSON is a job of the REST API: runner_id is null until a runner has the job.
func (s *Server) jobJSON(j *job) map[string]any {
	r := j.run
	url := s.repoURL(r.repo) + "/actions/jobs/" + decimal(j.id)
	status := j.status
	if status == statusWaiting {
		status = statusQueued
	}
	started := j.started
	if started.IsZero() {
		started = j.created // it is never null
	}
	out := map[string]any{
		"id": j.id, "run_id": r.id, "run_url": s.repoURL(r.repo) + "/actions/runs/" + decimal(r.id), "run_attempt": r.attempt,
		"node_id": node("CR", j.id), "head_sha": r.sha, "head_branch": strings.TrimPrefix(strings.TrimPrefix(r.ref, "refs/heads/"), "refs/tags/"),
		"url": url, "html_url": s.runURL(r) + "/job/" + decimal(j.id), "check_run_url": s.repoURL(r.repo) + "/check-runs/" + decimal(j.id),
		"status": status, "conclusion": optional(j.conclusion), "name": j.def.Name, "workflow_name": r.def.Name, "labels": j.def.Labels,
		"created_at": stamp(j.created), "started_at": stamp(started), "completed_at": instant(j.completed),
		"runner_id": nil, "runner_name": nil, "runner_group_id": nil, "runner_group_name": nil,
	}
	if id, name := s.shownRunner(j); id != 0 {
		group := max(j.groupID, defaultGroup)
		out["runner_id"], out["runner_name"], out["runner_group_id"], out["runner_group_name"] = id, name, group, s.groupName(group)
	}
	steps := []any{}
	for _, st := range j.steps {
		steps = append(steps, map[string]any{
			"name": st.Name, "number": st.Number, "status": st.Status, "conclusion": optional(st.Conclusion),
			"started_at": instant(st.Started), "completed_at": instant(st.Completed),
		})
	}
	out["steps"] = steps
	return out
}

// shownRunner is the runner that the jobs API shows for a job; 0 is null.
func (s *Server) shownRunner(j *job) (int64, string) {
	if claim := s.faults.JobRunner; claim != nil {
		return claim(j.snapshot())
	}
	if j.runnerID == 0 || s.cfg.Now().Before(j.assigned.Add(s.faults.RunnerLag)) {
		return 0, ""
	}
	return j.runnerID, j.runnerName
}

func optional(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func instant(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return stamp(t)
}

// theRun finds the run of a request, in its repository and attempt.
func (c *call) theRun(access string) (*run, error) {
	repo, err := c.target("actions", access)
	if err != nil {
		return nil, err
	}
	id, err := c.number("run")
	if err != nil {
		return nil, err
	}
	r := c.s.find(id)
	if r == nil || r.repo != repo {
		return nil, notFound()
	}
	if attempt := c.r.PathValue("attempt"); attempt != "" && attempt != strconv.Itoa(r.attempt) {
		return nil, notFound()
	}
	return r, nil
}

func (c *call) getRun() error {
	r, err := c.theRun("read")
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, c.s.runJSON(r))
}

func (c *call) listRuns() error {
	repo, err := c.target("actions", "read")
	if err != nil {
		return err
	}
	q, file := c.r.URL.Query(), c.r.PathValue("file")
	list := []any{}
	for _, r := range slices.Backward(c.s.runs) {
		fits := func(key, value string) bool { return !q.Has(key) || q.Get(key) == value }
		if r.repo == repo && fits("event", r.event) && fits("head_sha", r.sha) && (fits("status", r.status) || fits("status", r.conclusion)) &&
			(file == "" || strings.HasSuffix(r.def.Path, "/"+file)) {
			list = append(list, c.s.runJSON(r))
		}
	}
	return c.reply(http.StatusOK, map[string]any{"total_count": len(list), "workflow_runs": page(c, list)})
}

func (c *call) listJobs() error {
	r, err := c.theRun("read")
	if err != nil {
		return err
	}
	list := []any{}
	for _, j := range r.jobs {
		list = append(list, c.s.jobJSON(j))
	}
	return c.reply(http.StatusOK, map[string]any{"total_count": len(list), "jobs": page(c, list)})
}

func (c *call) theJob() (*job, error) {
	repo, err := c.target("actions", "read")
	if err != nil {
		return nil, err
	}
	id, err := c.number("job")
	if err != nil {
		return nil, err
	}
	j := c.s.jobByID(id)
	if j == nil || j.run.repo != repo {
		return nil, notFound()
	}
	return j, nil
}

func (c *call) getJob() error {
	j, err := c.theJob()
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, c.s.jobJSON(j))
}

// getJobLog redirects to the log that the runner uploaded for the job; there is none before that.
func (c *call) getJobLog() error {
	j, err := c.theJob()
	if err != nil {
		return err
	}
	if c.who == nil {
		return unauthenticated()
	}
	if b := c.s.blobs[j.logPath("")]; b == nil || b.kind == "" {
		return notFound()
	}
	return c.redirect(c.s.signedURL(j.logPath("")))
}

// cancelRun cancels; by force it does not wait for the runner to agree.
func (c *call) cancelRun(force bool) error {
	r, err := c.theRun("write")
	if err != nil {
		return err
	}
	if r.status == statusCompleted {
		return &apiError{status: http.StatusConflict, message: fmt.Sprintf("Cannot cancel a workflow run that is completed: %d", r.id)}
	}
	c.s.cancel(r)
	if force {
		for _, j := range r.jobs {
			c.s.finish(j, concludedCancelled)
		}
	}
	return c.reply(http.StatusAccepted, struct{}{})
}
