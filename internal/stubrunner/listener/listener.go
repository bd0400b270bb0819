// SPDX-License-Identifier: Apache-2.0

package listener

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/kettle/attest/internal/stubrunner/message"
	"github.com/kettle/attest/internal/stubrunner/registration"
	"github.com/kettle/attest/internal/stubrunner/service"
	"github.com/kettle/attest/internal/stubrunner/trace"
)

// The exit codes (Constants.cs of actions/runner).
const (
	ExitSuccess           = 0
	ExitTerminated        = 1
	ExitRetryable         = 2
	ExitUpdating          = 3
	ExitUpdatingOnce      = 4
	ExitSessionConflict   = 5
	ExitVersionDeprecated = 7
)

// Dispatch runs a job and returns its result. The job message is as the run service sent it. Stop tells it that the
// runner is stopping; the cancellations of the job come over the channel.
type Dispatch func(ctx context.Context, job Assignment) (message.Result, error)

// Assignment is a job to run.
type Assignment struct {
	// Message is the job message as the run service sent it.
	Message []byte
	// Job is the same, read.
	Job *message.Job
	// Cancel delivers the time a cancelled job may take to stop.
	Cancel <-chan time.Duration
	// Stop is closed when the runner is stopping.
	Stop <-chan struct{}
}

// Config is what a Listener needs.
type Config struct {
	// Root is the runner's folder, which holds bin.
	Root string
	// Options is the command line.
	Options Options
	// Out and Err are the console.
	Out, Err io.Writer
	// Getenv reads the environment, .env included.
	Getenv func(string) string
	// Client sends all requests.
	Client *http.Client
	// Trace is the diagnostic file; nil writes none.
	Trace *trace.Log
	// Dispatch runs the job; nil starts a Worker process.
	Dispatch Dispatch
	// Faults are the fault switches.
	Faults Faults
	// Timing holds the waits; the zero value means GitHub's.
	Timing Timing
}

// Timing holds the waits of a Listener.
type Timing struct {
	// SessionRetry is the wait after a session that could not be made; ConflictLimit ends the retries after conflicts.
	SessionRetry, ConflictLimit time.Duration
	// PollRetry is the wait after a poll that went wrong.
	PollRetry time.Duration
	// Renew is the time between renewals of a running job.
	Renew time.Duration
	// Stop is how long a job may take when the runner stops.
	Stop time.Duration
}

// orGitHub fills what is zero with the waits of the real runner.
func (t Timing) orGitHub() Timing {
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&t.SessionRetry, 30*time.Second)
	set(&t.ConflictLimit, 4*time.Minute)
	set(&t.PollRetry, 20*time.Second)
	set(&t.Renew, time.Minute)
	set(&t.Stop, 30*time.Second)
	return t
}

// Listener is one run of the program.
type Listener struct {
	Config
	settings registration.Settings
	tokens   *service.Tokens
	broker   *service.Broker
	session  string
	errors   int // polls that went wrong, in a row
	conflict time.Duration
}

// Run is the program: it returns the exit code. The context ends when the runner is asked to stop.
func Run(ctx context.Context, config Config) int {
	l := &Listener{Config: config}
	l.Timing = l.Timing.orGitHub()
	if l.Dispatch == nil {
		l.Dispatch = l.dispatchWorker
	}
	for _, arg := range l.Options.Unknown {
		l.complain("Unrecognized command-line input arguments for command run: '" + arg + "'. For usage refer to: ./config.sh --help")
	}
	if code, ok := l.configure(); !ok {
		return code
	}
	code, err := l.listen(ctx)
	var forced *exitError
	if errors.As(err, &forced) {
		return forced.code
	}
	if ctx.Err() != nil {
		l.Trace.Info("Listener", "Runner execution been cancelled.")
		return ExitSuccess
	}
	if err != nil {
		l.Trace.Error("Listener", err)
	}
	l.Trace.Info("Listener", fmt.Sprintf("Runner execution has finished with return code %d", code))
	return code
}

func (l *Listener) say(line string) {
	_, _ = fmt.Fprintln(l.Out, line) // the console may be closed
	l.Trace.Info("Terminal", "WRITE LINE: "+line)
}

func (l *Listener) complain(line string) {
	_, _ = fmt.Fprintln(l.Err, line)
	l.Trace.Info("Terminal", "WRITE ERROR: "+line)
}

// configure writes and reads the registration; false ends the program with the code.
func (l *Listener) configure() (int, bool) {
	if l.Options.JIT != "" {
		if err := registration.Save(l.Root, l.Options.JIT); err != nil {
			l.complain(err.Error())
			return ExitTerminated, false
		}
	}
	if !l.Options.Run {
		l.say("Usage: ./run.sh")
		return ExitSuccess, false
	}
	settings, err := registration.Load(l.Root)
	if errors.Is(err, registration.ErrNotConfigured) {
		l.complain("Runner is not configured.")
		l.say("Usage: ./run.sh")
		return ExitTerminated, false
	}
	var credential service.Credential
	if err == nil {
		credential, err = registration.Credential(l.Root)
	}
	if err != nil {
		l.complain("An error occurred: " + err.Error())
		return ExitTerminated, false
	}
	if err := os.MkdirAll(settings.WorkFolder, 0o755); err != nil { //nolint:gosec // As the real runner's folder.
		l.complain("Fail to create and validate runner's work directory '" + settings.WorkFolder + "'.")
		return ExitTerminated, false
	}
	if !settings.V2 {
		l.complain("An error occurred: this stand-in speaks protocol version 2 only (UseV2Flow)")
		return ExitTerminated, false
	}
	l.settings = settings
	l.tokens = service.NewTokens(l.Client, credential)
	l.broker = service.NewBroker(l.Client, settings.BrokerURL, l.tokens, service.Agent{
		ID: settings.AgentID, Name: settings.AgentName, Version: l.version(), Owner: owner(), OSDescription: "Linux",
		Ephemeral: settings.Ephemeral, DisableUpdate: settings.DisableUpdate,
	})
	return ExitSuccess, true
}

// version is the version that the runner claims to have.
func (l *Listener) version() string { return cmp.Or(l.Faults.Version, service.Version) }

func owner() string {
	host, err := os.Hostname()
	if err != nil {
		host = "RUNNER"
	}
	return fmt.Sprintf("%s (PID: %d)", host, os.Getpid())
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
