// SPDX-License-Identifier: Apache-2.0

package job

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/runner"
)

// maxPoll is the longest pause between two looks, and maxTries how often a single question is asked of a GitHub that
// does not answer well.
const (
	maxPoll  = 4 * time.Second
	maxTries = 4
)

// awaitJob looks at the jobs API until it shows our runner at a job of the claimed run. GitHub fills runner_id in some
// time after the runner has the job; under load that is a minute.
func (i *Identifier) awaitJob(ctx context.Context, s *sources) error {
	began := time.Now()
	err := i.poll(ctx, jobsOf{s.repo, s.runID, s.attempt}, s.pick)
	if !errors.Is(err, errNeverShown) {
		return err
	}
	return refuse(refusal.Identity,
		fmt.Sprintf("a job in progress on runner %d (%s) in run %d of %s", s.question.Runner.ID, s.question.Runner.Name, s.runID, s.repo),
		fmt.Sprintf("no such job in %s", time.Since(began).Round(time.Millisecond)))
}

// Conclusion implements [runner.Identifier]: it waits until GitHub shows how the job ended.
func (i *Identifier) Conclusion(ctx context.Context, f statement.Facts) (string, error) {
	run, err := positive(map[string]string{"runId": f.RunID}, "runId")
	if err != nil {
		return "", err
	}
	attempt, err := positive(map[string]string{"runAttempt": f.RunAttempt}, "runAttempt")
	if err != nil {
		return "", err
	}
	var conclusion string
	err = i.poll(ctx, jobsOf{f.Repository, run, attempt}, func(jobs []WorkflowJob) (bool, error) {
		for _, j := range jobs {
			if decimal(j.ID) == f.JobID && j.Status == "completed" && j.Conclusion != "" {
				conclusion = j.Conclusion
			}
		}
		return conclusion != "", nil
	})
	if err != nil {
		return "", fmt.Errorf("asking how the job ended: %w", err)
	}
	return conclusion, nil
}

// jobsOf names an attempt of a run.
type jobsOf struct {
	repo         string
	run, attempt int64
}

var errNeverShown = errors.New("GitHub did not show it in time")

// poll looks at the jobs of an attempt until look is content.
func (i *Identifier) poll(ctx context.Context, of jobsOf, look func([]WorkflowJob) (bool, error)) error {
	return i.until(ctx, "identifying the job", func(ctx context.Context) (bool, error) {
		jobs, err := i.config.API.Jobs(ctx, of.repo, of.run, of.attempt)
		if err != nil {
			return false, fmt.Errorf("identifying the job: %w", err)
		}
		i.config.Log.DebugContext(ctx, "looking at the jobs API", slog.Int64("run", of.run), slog.Int("jobs", len(jobs)))
		return look(jobs)
	})
}

// until looks again and again, with pauses, until look is content or fails for good. When the time is over, it returns
// what look failed with last, and [errNeverShown] when it did not fail.
func (i *Identifier) until(ctx context.Context, doing string, look func(context.Context) (bool, error)) error {
	wait, cancel := ctx, context.CancelFunc(func() {})
	if i.config.Wait > 0 {
		wait, cancel = context.WithTimeout(ctx, i.config.Wait)
	}
	defer cancel()
	var last error
	for next := i.config.Poll; ; next = min(2*next, maxPoll) {
		done, err := look(wait)
		switch {
		case done || err != nil && wait.Err() == nil && !errors.Is(err, runner.ErrTryAgain):
			return err
		case wait.Err() == nil:
			last = err
		}
		if pause(wait, max(next, later(err))) == nil {
			continue
		}
		switch {
		case errors.Is(ctx.Err(), context.Canceled):
			return fmt.Errorf("%s: %w", doing, ctx.Err())
		case last != nil:
			return last
		}
		return errNeverShown
	}
}

// persist asks one question, and again when that may help.
func (i *Identifier) persist(ctx context.Context, doing string, question func() error) error {
	for try := 1; ; try++ {
		err := question()
		if err == nil {
			return nil
		}
		if try == maxTries || !errors.Is(err, runner.ErrTryAgain) || pause(ctx, max(i.config.Poll<<try, later(err))) != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
	}
}

// later is the pause that an error asks for.
func later(err error) time.Duration {
	var l runner.Later
	if errors.As(err, &l) {
		return l.RetryAfter()
	}
	return 0
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pick finds the job of our runner. Two jobs that claim one ephemeral runner, by its id or by its name, or our name with
// another id, cannot be.
func (s *sources) pick(jobs []WorkflowJob) (bool, error) {
	var claim []string
	found := false
	for _, j := range jobs {
		ours, named := j.RunnerID == s.question.Runner.ID && j.RunnerID > 0, j.RunnerName == s.question.Runner.Name
		if !ours && !named {
			continue
		}
		if j.RunnerID > 0 && ours != named {
			return false, refuse(refusal.Identity, fmt.Sprintf("runner %d named %q", s.question.Runner.ID, s.question.Runner.Name),
				fmt.Sprintf("runner %d named %.64q at job %d", j.RunnerID, j.RunnerName, j.ID))
		}
		if claim = append(claim, strconv.FormatInt(j.ID, 10)); len(claim) > 1 {
			return false, refuse(refusal.Identity, "one job of this ephemeral runner", "jobs "+strings.Join(claim, " and ")+", which both say that they run on it")
		}
		if ours && j.Status == "completed" {
			return false, refuse(refusal.Identity, "a job in progress", fmt.Sprintf("job %d, which is completed", j.ID))
		}
		if ours && j.Status == "in_progress" {
			s.job, found = j, true
		}
	}
	return found, nil
}
