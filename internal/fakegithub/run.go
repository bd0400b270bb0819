// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"slices"
	"strings"
	"time"

	"github.com/kettle/attest/internal/fakegithub/jobmessage"
	"github.com/kettle/attest/internal/fakegithub/workflow"
)

// The statuses and conclusions of jobs and runs.
const (
	statusWaiting    = "waiting" // needs another job; the REST API says queued
	statusQueued     = "queued"
	statusInProgress = "in_progress"
	statusCompleted  = "completed"

	concludedSuccess   = "success"
	concludedFailure   = "failure"
	concludedCancelled = "cancelled"
	concludedSkipped   = "skipped"
)

// run is one run of a workflow.
type run struct {
	id, number int64
	attempt    int
	repo       *repository
	def        *workflow.Workflow
	event      string
	ref        string // full
	sha        string
	tree       string // of the commit
	actor      account
	inputs     []workflow.Value
	payload    jobmessage.Dictionary // github.event
	plan       string
	created    time.Time
	updated    time.Time
	jobs       []*job
	status     string
	conclusion string
	cancelled  bool
}

// job is one job of a run. Its identifier is its check run's as well.
type job struct {
	id          int64
	guid        string
	run         *run
	def         workflow.Job
	permissions workflow.Permissions
	token       string // GITHUB_TOKEN
	system      string // bearer of SystemVssConnection
	runner      *runner
	runnerID    int64 // stays when the registration is gone
	runnerName  string
	groupID     int64
	assigned    time.Time   // when the runner got it
	deadline    time.Time   // when the runner is given up; zero: never
	timer       *time.Timer // looks at the deadline
	granted     int         // acquirejobs
	status      string
	conclusion  string
	outputs     map[string]string
	steps       []Step
	created     time.Time
	started     time.Time
	completed   time.Time
}

// Step is one step of a job as the runner reported it.
type Step struct {
	ID         string // the runner's own identifier of the step
	Number     int
	Name       string
	Status     string
	Conclusion string
	Started    time.Time
	Completed  time.Time
}

// Run is a snapshot of a run.
type Run struct {
	ID         int64
	Number     int64
	Attempt    int
	Owner      string
	Repo       string
	Path       string // of the workflow file
	Event      string
	Ref        string
	SHA        string
	Status     string
	Conclusion string
	URL        string
	Jobs       []Job
}

// Job is a snapshot of a job.
type Job struct {
	ID         int64
	GUID       string
	Key        string
	Name       string
	Status     string
	Conclusion string
	RunnerID   int64 // 0 until a runner has it
	RunnerName string
	Outputs    map[string]string
	Steps      []Step
}

func (s *Server) snapshot(r *run) *Run {
	out := &Run{
		ID: r.id, Number: r.number, Attempt: r.attempt, Owner: r.repo.Owner, Repo: r.repo.Name, Path: r.def.Path, Event: r.event,
		Ref: r.ref, SHA: r.sha, Status: r.status, Conclusion: r.conclusion, URL: s.runURL(r),
	}
	for _, j := range r.jobs {
		out.Jobs = append(out.Jobs, j.snapshot())
	}
	return out
}

func (j *job) snapshot() Job {
	return Job{
		ID: j.id, GUID: j.guid, Key: j.def.Key, Name: j.def.Name, Status: j.status, Conclusion: j.conclusion,
		RunnerID: j.runnerID, RunnerName: j.runnerName, Outputs: j.outputs, Steps: slices.Clone(j.steps),
	}
}

// start takes a job from waiting to queued once all it needs has succeeded, or skips it. The caller holds mu.
func (s *Server) start(r *run) {
	for again := true; again; {
		again = false
		for _, j := range r.jobs {
			if j.status != statusWaiting {
				continue
			}
			switch ready, ok := needs(r, j.def.Needs); {
			case !ready:
			case ok:
				j.status = statusQueued
			default:
				j.status, j.conclusion, j.completed = statusCompleted, concludedSkipped, s.cfg.Now()
				again = true
			}
		}
	}
	s.settle(r)
	s.assign()
	s.touch()
}

// needs reports whether all named jobs are completed, and whether all succeeded.
func needs(r *run, keys []string) (ready, ok bool) {
	ok = true
	for _, j := range r.jobs {
		if !slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, j.def.Key) }) {
			continue
		}
		if j.status != statusCompleted {
			return false, false
		}
		ok = ok && j.conclusion == concludedSuccess
	}
	return true, ok
}

// settle derives the run's status from its jobs. The caller holds mu.
func (s *Server) settle(r *run) {
	r.updated = s.cfg.Now()
	r.status, r.conclusion = statusCompleted, concludedSkipped
	rank := []string{concludedSkipped, concludedSuccess, concludedFailure, concludedCancelled}
	for _, j := range r.jobs {
		if j.status == statusCompleted {
			if slices.Index(rank, j.conclusion) > slices.Index(rank, r.conclusion) {
				r.conclusion = j.conclusion
			}
			continue
		}
		r.status, r.conclusion = statusQueued, ""
		if slices.ContainsFunc(r.jobs, func(j *job) bool { return j.status == statusInProgress || j.conclusion != "" }) {
			r.status = statusInProgress
		}
		return
	}
}

// finish completes a job: its tokens end and the ephemeral registration of its runner is gone. The caller holds mu.
func (s *Server) finish(j *job, conclusion string) {
	if j.status == statusCompleted {
		return
	}
	j.status, j.conclusion, j.completed, j.deadline = statusCompleted, conclusion, s.cfg.Now(), time.Time{}
	if j.timer != nil {
		j.timer.Stop()
	}
	if j.started.IsZero() {
		j.started = j.completed
	}
	delete(s.tokens, j.token)
	if j.runner != nil {
		s.remove(j.runner)
	}
	s.start(j.run)
}

// cancel cancels a run: what no runner has ends at once, runners at work are told. The caller holds mu.
func (s *Server) cancel(r *run) {
	r.cancelled = true
	for _, j := range r.jobs {
		switch {
		case j.status == statusCompleted:
		case j.status == statusInProgress:
			s.tell(j)
		case j.runner != nil: // offered, not acquired: acquirejob will find nothing
			j.runner.drop(j)
			j.runner.job, j.runner = nil, nil
			s.finish(j, concludedCancelled)
		default:
			s.finish(j, concludedCancelled)
		}
	}
	s.touch()
}

// byGUID finds a job by the identifiers the runner's services use. The caller holds mu.
func (s *Server) byGUID(plan, guid string) *job {
	for _, j := range s.jobs {
		if strings.EqualFold(j.guid, guid) && (plan == "" || strings.EqualFold(j.run.plan, plan)) {
			return j
		}
	}
	return nil
}

func (s *Server) runURL(r *run) string {
	return s.urls[serviceServer] + "/" + r.repo.full() + "/actions/runs/" + decimal(r.id)
}
