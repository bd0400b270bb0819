// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/kettle/attest/internal/fakegithub/jobmessage"
	"github.com/kettle/attest/internal/fakegithub/tree"
	"github.com/kettle/attest/internal/fakegithub/workflow"
)

// Dispatch asks for one run of a workflow.
type Dispatch struct {
	Owner    string
	Repo     string
	Workflow string // the file's name, or its path below the repository
	Ref      string // branch or tag, short or full
	Event    string // workflow_dispatch (the default) or push
	Inputs   map[string]string
}

// systemLife is how long the bearer of SystemVssConnection lasts: longer than any job here.
const systemLife = 6 * time.Hour

// Dispatch starts a run as the operator. Its jobs wait for runners with their labels. Errors are what GitHub would answer with
// 404 or 422, an invalid file, or an [*workflow.UnsupportedError].
func (s *Server) Dispatch(ctx context.Context, d Dispatch) (*Run, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	repo := s.repository(d.Owner, d.Repo)
	if repo == nil {
		return nil, fmt.Errorf("dispatching %s/%s: no such repository", d.Owner, d.Repo)
	}
	r, err := s.dispatch(repo, d, account{Login: s.cfg.Operator.Login, ID: s.cfg.Operator.ID})
	if err != nil {
		return nil, fmt.Errorf("dispatching %s of %s/%s: %w", d.Workflow, d.Owner, d.Repo, err)
	}
	return s.snapshot(r), nil
}

func (s *Server) dispatch(repo *repository, d Dispatch, actor account) (*run, error) {
	commit, ref, ok := repo.resolve(d.Ref)
	if !ok || !strings.HasPrefix(ref, "refs/") {
		return nil, unprocessable("No ref found for: %s", d.Ref)
	}
	def, err := load(commit, d.Workflow)
	if err != nil {
		return nil, err
	}
	r := &run{
		number: s.last["number "+repo.full()+def.Path] + 1, attempt: 1, repo: repo, def: def, event: d.Event, ref: ref, sha: commit.SHA, tree: commit.Tree,
		actor: actor, plan: newID(), created: s.cfg.Now(), updated: s.cfg.Now(),
	}
	switch d.Event {
	case "", "workflow_dispatch":
		r.event = "workflow_dispatch"
		if def.Dispatch == nil {
			return nil, unprocessable("Workflow does not have 'workflow_dispatch' trigger")
		}
		if r.inputs, err = def.Dispatch.Values(d.Inputs); err != nil {
			return nil, unprocessable("%s", strings.TrimPrefix(err.Error(), workflow.ErrInputs.Error()+": "))
		}
	case "push":
		if def.Push == nil || !def.Push.Matches(ref) {
			return nil, unprocessable("Workflow is not triggered by a push to %s", ref)
		}
	default:
		return nil, unprocessable("event %s is not one this stand-in can make", d.Event)
	}
	s.forget()
	r.id = s.next("run")
	s.last["number "+repo.full()+def.Path] = r.number
	r.payload = s.payload(r)
	for _, j := range def.Jobs {
		r.jobs = append(r.jobs, s.newJob(r, j))
	}
	s.runs, s.jobs = append(s.runs, r), append(s.jobs, r.jobs...)
	s.start(r)
	return r, nil
}

// load reads a workflow file of a commit.
func load(commit *tree.Commit, name string) (*workflow.Workflow, error) {
	file := strings.TrimPrefix(path.Clean("/"+name), "/")
	if !strings.Contains(file, "/") {
		file = ".github/workflows/" + file
	}
	f, ok := commit.File(file)
	if !ok || path.Dir(file) != ".github/workflows" {
		return nil, notFound()
	}
	return workflow.Parse(file, f.Data)
}

func (s *Server) newJob(r *run, def workflow.Job) *job {
	j := &job{
		id: s.next("job"), guid: newID(), run: r, def: def, permissions: def.Permissions, status: statusWaiting, created: r.created,
		token: "ghs_" + random(18),
	}
	if !def.HasPermissions {
		j.permissions = workflow.DefaultPermissions()
	}
	j.system = s.bearer(map[string]any{
		"orch_id": r.plan + "." + def.Key + ".__default",
		"scp":     "Actions.ExampleScope Actions.Results:" + r.plan + ":" + j.guid,
	}, systemLife)
	s.tokens[j.token] = &principal{kind: jobToken, job: j, permissions: j.permissions}
	s.tokens[j.system] = &principal{kind: jobSystem, job: j, expires: s.steady().Add(systemLife)}
	return j
}

// payload is github.event: the part of the webhook that jobs use.
func (s *Server) payload(r *run) jobmessage.Dictionary {
	owner := jobmessage.Dictionary{{Key: "login", Value: r.repo.Owner}, {Key: "id", Value: r.repo.OwnerID}}
	repository := jobmessage.Dictionary{
		{Key: "id", Value: r.repo.ID}, {Key: "name", Value: r.repo.Name}, {Key: "full_name", Value: r.repo.full()},
		{Key: "private", Value: r.repo.Private}, {Key: "owner", Value: owner}, {Key: "html_url", Value: s.urls[serviceServer] + "/" + r.repo.full()},
		{Key: "default_branch", Value: r.repo.branch}, {Key: "visibility", Value: r.repo.visibility()},
	}
	sender := jobmessage.Dictionary{{Key: "login", Value: r.actor.Login}, {Key: "id", Value: r.actor.ID}}
	if r.event == "push" {
		head := jobmessage.Dictionary{{Key: "id", Value: r.sha}, {Key: "message", Value: "Snapshot"}, {Key: "timestamp", Value: tree.Date}}
		return jobmessage.Dictionary{
			{Key: "after", Value: r.sha}, {Key: "before", Value: strings.Repeat("0", 40)}, {Key: "head_commit", Value: head},
			{Key: "ref", Value: r.ref}, {Key: "repository", Value: repository}, {Key: "sender", Value: sender},
		}
	}
	var inputs jobmessage.Dictionary
	for _, v := range r.inputs {
		inputs = inputs.Set(v.Name, v.Text)
	}
	return jobmessage.Dictionary{
		{Key: "inputs", Value: inputs}, {Key: "ref", Value: r.ref}, {Key: "repository", Value: repository}, {Key: "sender", Value: sender},
		{Key: "workflow", Value: r.def.Path},
	}
}

// createDispatch answers POST …/actions/workflows/{file}/dispatches.
func (c *call) createDispatch() error {
	repo, err := c.target("actions", "write")
	if err != nil {
		return err
	}
	var ask struct {
		Ref    string         `json:"ref"`
		Inputs map[string]any `json:"inputs"`
	}
	if err := c.decode(&ask); err != nil {
		return err
	}
	if ask.Ref == "" {
		return unprocessable("Invalid request.\n\n\"ref\" wasn't supplied.")
	}
	inputs := map[string]string{}
	for k, v := range ask.Inputs {
		switch v.(type) {
		case string, bool, float64:
			inputs[k] = fmt.Sprint(v)
		default:
			return unprocessable("Invalid value for input '%s'", k)
		}
	}
	d := Dispatch{Workflow: c.r.PathValue("file"), Ref: ask.Ref, Inputs: inputs}
	_, err = c.s.dispatch(repo, d, c.actor())
	var known *apiError
	if err != nil && !errors.As(err, &known) {
		return unprocessable("%s", err.Error())
	}
	if err != nil {
		return err
	}
	return c.status(http.StatusNoContent)
}

// Wait waits until a run is completed and returns its last snapshot.
func (s *Server) Wait(ctx context.Context, r *Run) (*Run, error) {
	return s.WaitFor(ctx, r, func(now *Run) bool { return now.Status == statusCompleted })
}

// WaitFor waits until a condition holds for a run and returns the snapshot that fulfilled it.
func (s *Server) WaitFor(ctx context.Context, r *Run, condition func(*Run) bool) (*Run, error) {
	var last *Run
	_, err := s.await(ctx, 0, func() bool {
		found := s.find(r.ID)
		if found == nil {
			return false
		}
		last = s.snapshot(found)
		return condition(last)
	})
	if err != nil {
		return last, fmt.Errorf("waiting for run %d: %w", r.ID, err)
	}
	return last, nil
}

// Cancel cancels a run, as the button does.
func (s *Server) Cancel(r *Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.find(r.ID); found != nil {
		s.cancel(found)
	}
}

// Runs returns all runs, oldest first.
func (s *Server) Runs() []*Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*Run, 0, len(s.runs))
	for _, r := range s.runs {
		out = append(out, s.snapshot(r))
	}
	return out
}

func (s *Server) find(id int64) *run {
	for _, r := range s.runs {
		if r.id == id {
			return r
		}
	}
	return nil
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
