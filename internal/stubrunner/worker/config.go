// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"net/http"
	"path/filepath"
	"time"

	"github.com/kettle/attest/internal/stubrunner/mask"
	"github.com/kettle/attest/internal/stubrunner/trace"
)

// Config is what a job needs from its surroundings.
type Config struct {
	// Work is the work folder, absolute.
	Work string
	// AgentName is the runner's name.
	AgentName string
	// Environ is the Worker's own environment, as "K=V"; the hooks' paths are read from it.
	Environ []string
	// Client sends all requests.
	Client *http.Client
	// Masker hides secrets; it is filled from the job message.
	Masker *mask.Masker
	// Trace is the diagnostic file; nil writes none.
	Trace *trace.Log
	// Timing holds the waits; the zero value means GitHub's.
	Timing Timing
}

// Timing holds the waits of a job.
type Timing struct {
	// Interrupt is the wait after SIGINT, Terminate the wait after SIGTERM.
	Interrupt, Terminate time.Duration
	// Drain is how long output is read after a process has ended.
	Drain time.Duration
	// Retry is the wait before the result is sent again.
	Retry time.Duration
}

// orGitHub fills what is zero with the waits of the real runner (ProcessInvoker.cs, JobRunner.cs).
func (t Timing) orGitHub() Timing {
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&t.Interrupt, 7500*time.Millisecond)
	set(&t.Terminate, 2500*time.Millisecond)
	set(&t.Drain, 5*time.Second)
	set(&t.Retry, 5*time.Second)
	return t
}

func (c Config) temp() string    { return filepath.Join(c.Work, "_temp") }
func (c Config) actions() string { return filepath.Join(c.Work, "_actions") }
