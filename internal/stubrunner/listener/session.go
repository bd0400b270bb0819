// SPDX-License-Identifier: Apache-2.0

package listener

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/kettle/attest/internal/stubrunner/registration"
	"github.com/kettle/attest/internal/stubrunner/service"
	"github.com/kettle/attest/internal/stubrunner/trace"
)

const maxPollErrors = 10

// listen opens the session, takes messages until the job is done, and closes the session.
func (l *Listener) listen(ctx context.Context) (int, error) {
	if err := l.reach(ctx, ctx.Done(), PointStart); err != nil {
		return ExitTerminated, err
	}
	if code, err := l.createSession(ctx); err != nil {
		return code, err
	}
	l.say("Current runner version: '" + l.version() + "'")
	l.say(trace.Now() + ": Listening for Jobs")
	if err := l.reach(ctx, ctx.Done(), PointListening); err != nil {
		return ExitTerminated, err
	}
	state := &loop{listener: l}
	code, err := state.run(ctx)
	var forced *exitError
	if errors.As(err, &forced) {
		return code, err // it leaves everything as it is
	}
	if state.closeSession {
		l.deleteSession(context.WithoutCancel(ctx))
	}
	if state.cleanUp {
		if err := registration.Remove(l.Root); err != nil {
			l.Trace.Error("ConfigurationManager", err)
		}
	}
	return code, err
}

// createSession tries until it succeeds or the answer is final; then the code is the program's.
func (l *Listener) createSession(ctx context.Context) (int, error) {
	for {
		_, err := l.tokens.Get(ctx)
		if err == nil {
			l.say("")
			l.say("√ Connected to GitHub")
			l.say("")
			l.session, err = l.broker.CreateSession(ctx)
		}
		if err == nil {
			l.Trace.Info("BrokerMessageListener", "Session created.")
			return ExitSuccess, nil
		}
		if ctx.Err() != nil {
			return ExitSuccess, ctx.Err()
		}
		l.Trace.Error("BrokerMessageListener", err)
		if code, final := l.sessionFailed(err); final {
			return code, err
		}
		if err := wait(ctx, l.Timing.SessionRetry); err != nil {
			return ExitSuccess, err
		}
	}
}

func (l *Listener) sessionFailed(err error) (code int, final bool) {
	switch {
	case errors.Is(err, service.ErrInvalidClient):
		l.complain("Failed to create a session. The runner registration has been deleted from the server, please " +
			"re-configure. Runner registrations are automatically deleted for runners that have not connected to the " +
			"service recently.")
		return ExitTerminated, true
	case errors.Is(err, service.ErrAccessDenied):
		l.complain("Failed to create session. " + err.Error())
		return ExitTerminated, true
	case errors.Is(err, service.ErrSessionConflict):
		l.complain("A session for this runner already exists.")
		l.conflict += l.Timing.SessionRetry
		if l.conflict >= l.Timing.ConflictLimit {
			l.complain("Stop retry on SessionConflictException after retried for " + l.Timing.ConflictLimit.String() + ".")
			return ExitSessionConflict, true
		}
	default:
		l.complain(trace.Now() + ": Runner connect error: " + err.Error() + ". Retrying until reconnected.")
	}
	return 0, false
}

func (l *Listener) deleteSession(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := l.broker.DeleteSession(ctx); err != nil {
		l.Trace.Error("BrokerMessageListener", err) // the service may have deleted the runner already
	}
}

// pollFailed decides what an error of a poll means; with final the code is the program's.
func (l *Listener) pollFailed(ctx context.Context, err error) (code int, final bool, fault error) {
	l.Trace.Error("BrokerMessageListener", err)
	var status *service.StatusError
	switch {
	case errors.Is(err, service.ErrVersionTooOld):
		l.complain("An error occurred: " + err.Error())
		if truthy(l.Getenv("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE")) {
			return ExitVersionDeprecated, true, err
		}
		return ExitTerminated, true, err
	case errors.Is(err, service.ErrDeprovisioned):
		return ExitSuccess, true, nil
	case errors.Is(err, service.ErrSessionInvalid):
		if l.settings.SkipSessionRecover {
			l.complain("An error occurred: Get next message failed with non-retryable error.")
			return ExitTerminated, true, err
		}
		if code, err := l.createSession(ctx); err != nil {
			return code, true, err
		}
		return 0, false, nil
	case errors.As(err, &status) && status.Code == 401:
		l.complain("An error occurred: Get next message failed with non-retryable error.")
		return ExitTerminated, true, err
	}
	l.errors++
	if l.errors >= maxPollErrors {
		l.complain("An error occurred: " + err.Error())
		return ExitRetryable, true, err
	}
	if l.errors == 1 {
		l.complain(trace.Now() + ": Runner connect error: " + err.Error() + ". Retrying until reconnected.")
	}
	return 0, false, wait(ctx, l.Timing.PollRetry)
}

func truthy(text string) bool {
	switch strings.ToLower(text) {
	case "1", "true", "$true":
		return true
	default:
		return false
	}
}
