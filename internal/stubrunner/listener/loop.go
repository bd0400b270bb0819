// SPDX-License-Identifier: Apache-2.0

package listener

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/kettle/attest/internal/stubrunner/message"
	"github.com/kettle/attest/internal/stubrunner/service"
	"github.com/kettle/attest/internal/stubrunner/trace"
)

const acknowledgeTime = 5 * time.Second

// loop is the message loop of one session. One goroutine runs it; the job runs in another.
type loop struct {
	listener     *Listener
	job          *running
	closeSession bool
	cleanUp      bool
}

// running is the job in progress.
type running struct {
	id     string
	cancel chan time.Duration
	done   chan struct{}
	result message.Result
	err    error
}

// incoming is the outcome of one poll.
type incoming struct {
	message *message.Broker
	err     error
}

func (s *loop) run(ctx context.Context) (int, error) {
	s.closeSession = true
	polling, stopPolling := context.WithCancel(ctx)
	defer stopPolling()
	for {
		in := make(chan incoming, 1)
		busy := s.job != nil
		go func() {
			msg, err := s.listener.broker.Next(polling, s.listener.session, busy)
			in <- incoming{msg, err}
		}()
		var done chan struct{}
		if s.job != nil {
			done = s.job.done
		}
		select {
		case <-done:
			stopPolling()
			<-in
			return s.finished()
		case got := <-in:
			if code, final, err := s.handle(ctx, got); final {
				s.awaitJob()
				return code, errors.Join(err, s.forced())
			}
		}
		if ctx.Err() != nil {
			s.awaitJob()
			return ExitSuccess, ctx.Err()
		}
	}
}

// awaitJob waits for a running job that was told to stop.
func (s *loop) awaitJob() {
	if s.job != nil {
		<-s.job.done
	}
}

// forced is the end that a fault switch put to the job in progress, if it did.
func (s *loop) forced() error {
	var forced *exitError
	if s.job != nil && errors.As(s.job.err, &forced) {
		return forced
	}
	return nil
}

func (s *loop) finished() (int, error) {
	if err := s.forced(); err != nil {
		return ExitTerminated, err
	}
	s.cleanUp = s.listener.settings.Ephemeral
	if truthy(s.listener.Getenv("ACTIONS_RUNNER_RETURN_JOB_RESULT_FOR_HOSTED")) {
		return s.job.result.ExitCode(), nil
	}
	return ExitSuccess, nil
}

// update ends a runner that may update itself and has no job: its launcher is to start the new version. This stand-in downloads
// nothing.
func (s *loop) update() (code int, final bool, err error) {
	l := s.listener
	switch {
	case l.settings.DisableUpdate:
		l.Trace.Info("Runner", "Refresh message received, skip: updates are disabled.")
		return 0, false, nil
	case s.job != nil:
		l.Trace.Info("Runner", "Refresh message received, skip: a job is running.")
		return 0, false, nil
	}
	l.say("Runner update in progress, do not shutdown runner.")
	l.say("Runner will exit shortly for update, should be back online within 10 seconds.")
	if l.settings.Ephemeral || l.Options.Once {
		return ExitUpdatingOnce, true, nil
	}
	return ExitUpdating, true, nil
}

func (s *loop) handle(ctx context.Context, in incoming) (code int, final bool, err error) {
	l := s.listener
	switch {
	case ctx.Err() != nil:
		return ExitSuccess, true, ctx.Err()
	case errors.Is(in.err, context.DeadlineExceeded):
		return 0, false, nil // a long poll without an answer
	case errors.Is(in.err, service.ErrRunnerNotFound):
		l.Trace.Error("Runner", in.err)
		l.complain("The runner no longer exists on the server. Cleaning up local configuration.")
		s.closeSession, s.cleanUp = false, true
		return ExitSuccess, true, nil
	case in.err != nil:
		return l.pollFailed(ctx, in.err)
	}
	l.errors = 0
	if in.message == nil {
		return 0, false, nil
	}
	l.Trace.Info("Runner", fmt.Sprintf("Message '%d' received: %s", in.message.ID, in.message.Type))
	return s.act(ctx, in.message)
}

func (s *loop) act(ctx context.Context, msg *message.Broker) (code int, final bool, err error) {
	switch msg.Type {
	case message.TypeJobRequest:
		return s.offer(ctx, msg)
	case message.TypeJobCancellation:
		s.cancelJob(msg)
	case message.TypeHostedShutdown:
		s.closeSession = false
		return ExitSuccess, true, nil
	case message.TypeForceTokenRefresh:
		s.listener.tokens.Forget()
	case message.TypeRunnerRefresh, message.TypeAgentRefresh:
		return s.update()
	default:
		s.listener.Trace.Info("Runner", "Received message with unsupported message type "+msg.Type)
	}
	return 0, false, nil
}

// offer takes a job: acknowledge, acquire, start. A job that is gone leaves the runner listening.
func (s *loop) offer(ctx context.Context, msg *message.Broker) (code int, final bool, err error) {
	l := s.listener
	if s.job != nil {
		l.Trace.Info("Runner", "A one time used runner takes no second job.")
		return 0, false, nil
	}
	var offer message.JobRequest
	if err := json.Unmarshal([]byte(msg.Body), &offer); err != nil {
		l.complain("An error occurred: " + err.Error())
		return ExitRetryable, true, err
	}
	if offer.ShouldAcknowledge {
		ackCtx, cancel := context.WithTimeout(ctx, acknowledgeTime)
		err := l.broker.Acknowledge(ackCtx, l.session, offer.RunnerRequestID)
		cancel()
		if errors.Is(err, service.ErrJobNotFound) && l.settings.Ephemeral {
			s.cleanUp = true
			return ExitSuccess, true, nil
		}
		if err != nil {
			l.Trace.Error("Runner", fmt.Errorf("best-effort acknowledge: %w", err))
		}
	}
	if l.Faults.Ghost {
		l.Trace.Info("Faults", "the offer is ignored")
		return 0, false, nil
	}
	if err := l.reach(ctx, ctx.Done(), PointOffered); err != nil {
		return ExitTerminated, true, err
	}
	raw, err := service.Acquire(ctx, l.Client, l.tokens, offer)
	var job message.Job
	if err == nil {
		err = json.Unmarshal(raw, &job)
	}
	if err != nil {
		l.Trace.Error("Runner", fmt.Errorf("skipping message job: %w", err))
		return 0, false, nil
	}
	if err := l.reach(ctx, ctx.Done(), PointAcquired); err != nil {
		return ExitTerminated, true, err
	}
	s.start(ctx, raw, &job)
	return 0, false, nil
}

func (s *loop) start(ctx context.Context, raw []byte, job *message.Job) {
	l := s.listener
	r := &running{id: job.ID, cancel: make(chan time.Duration, 1), done: make(chan struct{}), result: message.Failed}
	s.job = r
	l.say(trace.Now() + ": Running job: " + job.DisplayName)
	go func() {
		defer close(r.done)
		result, err := l.Dispatch(context.WithoutCancel(ctx), Assignment{Message: raw, Job: job, Cancel: r.cancel, Stop: ctx.Done()})
		if err != nil {
			l.Trace.Error("JobDispatcher", err)
		}
		r.result, r.err = result, errors.Join(err, l.reach(context.WithoutCancel(ctx), ctx.Done(), PointFinished))
	}()
}

func (s *loop) cancelJob(msg *message.Broker) {
	var c message.JobCancellation
	if err := json.Unmarshal([]byte(msg.Body), &c); err != nil {
		s.listener.Trace.Error("Runner", fmt.Errorf("reading cancellation: %w", err))
		return
	}
	if s.job == nil || s.job.id != c.JobID {
		s.listener.Trace.Info("Runner", "The job to cancel is not running.")
		return
	}
	limit, err := c.Duration()
	if err != nil {
		s.listener.Trace.Error("Runner", err)
		limit = 5 * time.Minute
	}
	select {
	case s.job.cancel <- limit:
	default: // cancelled already
	}
}
