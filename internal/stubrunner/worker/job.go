// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/kettle/attest/internal/stubrunner/action"
	"github.com/kettle/attest/internal/stubrunner/expr"
	"github.com/kettle/attest/internal/stubrunner/message"
	"github.com/kettle/attest/internal/stubrunner/service"
)

// Job is one job in the making. One goroutine runs it; the fields are its own.
type Job struct {
	config   Config
	message  *message.Job
	system   message.Endpoint
	run      *service.Run
	results  *service.Results // nil without a results service
	fetcher  *action.Fetcher
	environ  map[string]string // the Worker's environment
	tracking string            // RUNNER_TRACKING_ID of every process of the job

	contexts map[string]any // job-wide contexts, github included
	env      *expr.Object   // env of the workflow and the job, then GITHUB_ENV
	paths    []string       // GITHUB_PATH, in the order of writing
	defaults map[string]string
	scopes   map[string]*expr.Object // the steps contexts
	subjects map[string]subject      // declared artifacts
	outputs  map[string]service.OutputValue
	queue    []*task
	post     []*task

	result    message.Result
	noted     bool // noteStop ran
	log       *jobLog
	number    int
	steps     []service.StepResult
	reporting bool // the results service still takes progress

	cancelled <-chan struct{} // the job is to stop, for either reason
	shutdown  <-chan struct{} // the runner is stopping
}

// ErrContainer says that the job asks for containers.
var ErrContainer = errors.New("this stand-in runs no containers: the job asks for 'container' or 'services'")

// New prepares a job.
func New(config Config, msg *message.Job) (*Job, error) {
	system, err := msg.System()
	if err != nil {
		return nil, err
	}
	run, err := service.NewRun(config.Client, msg)
	if err != nil {
		return nil, err
	}
	config.Timing = config.Timing.orGitHub()
	j := &Job{
		config: config, message: msg, system: system, run: run, environ: map[string]string{},
		tracking: "github_" + uuid.NewString(), env: expr.NewCaseSensitive(), defaults: map[string]string{},
		scopes: map[string]*expr.Object{}, subjects: map[string]subject{}, outputs: map[string]service.OutputValue{},
		result: message.None, log: &jobLog{},
	}
	for _, kv := range config.Environ {
		if k, v, ok := strings.Cut(kv, "="); ok {
			j.environ[k] = v
		}
	}
	if base := msg.ResultsURL(); base != "" {
		j.results = service.NewResults(config.Client, service.ResultsConfig{
			Base: base, Token: system.Token(), Plan: msg.Plan.ID, Job: msg.ID,
		})
		j.reporting = true
	}
	j.maskSecrets()
	return j, nil
}

// maskSecrets tells the masker every secret of the message.
func (j *Job) maskSecrets() {
	for _, v := range j.message.Variables {
		if v.Secret {
			j.config.Masker.AddLines(v.Value)
		}
	}
	for _, hint := range j.message.Mask {
		if strings.EqualFold(hint.Type, "regex") {
			j.config.Masker.AddPattern(hint.Value)
		}
	}
	for _, e := range j.message.Resources.Endpoints {
		for _, v := range e.Authorization.Parameters {
			j.config.Masker.Add(v)
		}
	}
}

// Signals are the two ways a job is asked to stop.
type Signals struct {
	// Cancel is closed when the user cancels the job.
	Cancel <-chan struct{}
	// Shutdown is closed when the runner is stopping.
	Shutdown <-chan struct{}
}

// Run runs the job and reports its result to GitHub. The error says that the result could not be reported.
func (j *Job) Run(ctx context.Context, signals Signals) (message.Result, error) {
	either, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-signals.Cancel:
		case <-signals.Shutdown:
		case <-either.Done():
		}
		stop()
	}()
	defer func() { stop(); <-done }()
	j.cancelled, j.shutdown = either.Done(), signals.Shutdown

	if err := j.setUp(either); err != nil {
		j.result = message.Failed
		if either.Err() != nil {
			j.result = message.Canceled
		}
		return j.complete(ctx)
	}
	j.runQueue(ctx)
	j.finish(ctx)
	return j.complete(ctx)
}

// complete uploads the job's log and sends the result, up to five times.
func (j *Job) complete(ctx context.Context) (message.Result, error) {
	j.result = max(j.result, message.Succeeded)
	if j.results != nil {
		text, lines := j.log.content()
		if err := j.results.UploadJobLog(ctx, text, lines); err != nil {
			j.config.Trace.Error("JobRunner", err)
		}
	}
	if err := clearFolder(j.config.temp()); err != nil {
		j.config.Trace.Error("TempDirectoryManager", err)
	}
	completion := service.Completion{
		Conclusion: j.result.Wire(), Outputs: j.outputs, StepResults: j.steps, BillingOwnerID: j.message.BillingOwnerID,
	}
	j.config.Trace.Info("JobRunner", "Raising job completed against run service")
	var failures []error
	for attempt := range 5 {
		err := j.run.Complete(ctx, completion)
		if err == nil {
			return j.result, nil
		}
		j.config.Trace.Error("JobRunner", err)
		failures = append(failures, err)
		if errors.Is(err, service.ErrJobGone) || attempt == 4 {
			break
		}
		if err := pause(ctx, j.config.Timing.Retry); err != nil {
			break
		}
	}
	return j.result, errors.Join(failures...)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func clearFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("reading folder: %w", err)
	}
	var failures []error
	for _, e := range entries {
		failures = append(failures, os.RemoveAll(dir+string(os.PathSeparator)+e.Name()))
	}
	return errors.Join(failures...)
}

func fired(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// noteStop records that the job was asked to stop: Failed when the runner is stopping, else Canceled.
func (j *Job) noteStop() {
	j.noted = true
	if fired(j.shutdown) {
		j.result = message.Failed
	} else {
		j.result = message.Canceled
	}
	j.publishStatus()
}

func (j *Job) publishStatus() {
	if job, ok := j.contexts["job"].(*expr.Object); ok {
		job.Set("status", string(j.result.Status()))
	}
}
