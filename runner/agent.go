// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// ErrNotDispatched ends an environment that never got its job.
var ErrNotDispatched = errors.New("no job was dispatched to this environment")

// Bounds on what happens when the caller's context may already be cancelled. Each step has its own, so that one that
// hangs takes no time from the next.
const (
	killTime    = 30 * time.Second
	removeTime  = 2 * time.Minute  // deregistering, all tries together
	removeTry   = 30 * time.Second // one of them
	recordTime  = 90 * time.Second // one file of the record
	askTime     = 30 * time.Second // GitHub's word on the conclusion
	quoteTime   = 30 * time.Second // quoting and signing
	settleTime  = 30 * time.Second // what the job wrote reaching its disk
	hashTime    = 10 * time.Minute // hashing a snapshot, or outputs of a dead sandbox
	lookTime    = 2 * time.Minute  // finding out what the job changed
	packTime    = 1 * time.Minute  // packing the logs
	answerGrace = 3 * time.Second  // for a refused job to show why, before its sandbox is killed
)

// maxResponses bounds how often a job may have outputs attested.
const maxResponses = 64

// Config is what the measured configuration says about one environment.
type Config struct {
	Prefix        string               // of the runner's names, with the environment's own part in it
	Profile       string               // of the sandbox
	Egress        statement.EgressMode // after dispatch
	Pinned        []string             // hosts that the job may always reach
	Configuration binding.Digest       // SHA-256 of the configuration file
	Image         binding.Digest       // digest of the root image as on the command line; zero when there is none
	Packages      binding.Digest       // SHA-256 of the image's list of packages; zero when there is none
	Software      map[string]string    // program → version, of the image
	Register      time.Duration        // all tries to register, together
	Listen        time.Duration        // for the runner program to connect; for a job that GitHub shows to reach its started hook
	Ghost         time.Duration        // that a runner without a job may be unknown to GitHub
	Idle          time.Duration        // from listening to the started hook
	Dispatch      time.Duration        // from the started hook to its answer
	Job           time.Duration        // from dispatch to the end of the runner program
	Drain         time.Duration        // for a job to end, once the environment is asked to
	Freeze        time.Duration        // longest time that a sandbox stands still for one response
}

// Validate reports every fault.
func (c Config) Validate() error {
	var errs []error
	for name, bad := range map[string]bool{
		"a prefix of names": c.Prefix == "", "a profile": c.Profile == "",
		"an egress mode": c.Egress == "", "pinned hosts": len(c.Pinned) == 0, "a configuration digest": c.Configuration.IsZero(), "software versions": len(c.Software) == 0,
		"a register time": c.Register <= 0, "a listen time": c.Listen <= 0, "a ghost time": c.Ghost <= 0, "a drain time": c.Drain <= 0,
		"an idle time": c.Idle <= 0, "a dispatch time": c.Dispatch <= 0, "a job time": c.Job <= 0, "a freeze time": c.Freeze <= 0,
	} {
		if bad {
			errs = append(errs, fmt.Errorf("configuration of the environment lacks %s", name))
		}
	}
	return errors.Join(errs...)
}

// Ports are the outside of an environment. All are required but Admission, Log and Watch.
type Ports struct {
	Device     Device
	Appraiser  Appraiser
	Image      ImageVerifier
	Admission  Admission // optional: without it nobody outside is asked, and the credential comes another way
	Registrar  Registrar
	Sandbox    Sandbox
	Identifier Identifier
	Policy     Policy
	Gate       Gate
	Keeper     Keeper
	Sink       Sink
	Logs       Logs
	Journal    io.Writer // see [CreateJournalFile]
	Now        func() time.Time
	Watch      func(e Entry, line []byte) // progress, in order; it must not block
	Log        *slog.Logger
}

// Agent runs one environment for one job. Run drives it; Started, Attest and Status are called by the door.
type Agent struct {
	config  Config
	ports   Ports
	journal *Journal
	log     *slog.Logger

	started chan request[Claims, struct{}]
	attest  chan request[Outputs, *Response]
	spoiled chan error
	drained chan struct{} // closed when the environment is asked to end
	drain   sync.Once
	done    chan struct{} // closed when no more requests are served
	stop    sync.Once

	env       *environment   // the run loop's
	responses [][]byte       // bundle files, in order; the run loop's
	deferred  []Outputs      // to be attested after the job has ended; the run loop's
	began     bool           // the sandbox may live; the run loop's
	exit      int            // the runner program's exit code; the run loop's
	runners   []Registration // that GitHub may have, the last one ours; the run loop's

	mu     sync.Mutex
	status Status // mu
}

// Status is what anyone may know of an environment.
type Status struct {
	State     State
	Since     time.Time
	Runner    string
	RunnerID  int64
	Platform  string
	BuildID   string
	Workspace string // of the job, inside the sandbox
	Responses int
	Alarms    []Alarm // each once, in the order of their coming
}

// New makes an agent in phase boot.
func New(c Config, p Ports) (*Agent, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if p.Device == nil || p.Appraiser == nil || p.Image == nil || p.Registrar == nil || p.Sandbox == nil || p.Identifier == nil ||
		p.Policy == nil || p.Gate == nil || p.Keeper == nil || p.Sink == nil || p.Logs == nil || p.Journal == nil || p.Now == nil {
		return nil, errors.New("an environment needs all of its ports")
	}
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	j, err := NewJournal(p.Journal, p.Now, p.Watch)
	if err != nil {
		return nil, err
	}
	return &Agent{
		config: c, ports: p, journal: j, log: p.Log,
		started: make(chan request[Claims, struct{}]), attest: make(chan request[Outputs, *Response]),
		spoiled: make(chan error, 1), done: make(chan struct{}), drained: make(chan struct{}), exit: -1,
	}, nil
}

// State tells where the environment stands.
func (a *Agent) State() State {
	s, _ := a.journal.State()
	return s
}

// Status tells what the environment is doing.
func (a *Agent) Status() Status {
	a.mu.Lock()
	s := a.status
	s.Alarms = slices.Clone(s.Alarms)
	a.mu.Unlock()
	s.State, s.Since = a.journal.State()
	return s
}

func (a *Agent) note(change func(*Status)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(&a.status)
}

// Spoil says that something in the sandbox spoke at the door and was not understood. Before dispatch only the started
// hook has anything to say, so that ends the environment: whoever else speaks could speak in its place.
func (a *Agent) Spoil(why error) {
	select {
	case a.spoiled <- why:
	default:
	}
}

// Drain asks the environment to end: at once while it has no job, else when its job has ended or had its time for it.
func (a *Agent) Drain() { a.drain.Do(func() { close(a.drained) }) }

// Started is the started hook's one request. It returns nil only after the job was identified and allowed and the
// DISPATCH statement quoted.
func (a *Agent) Started(ctx context.Context, c Claims) error {
	_, err := ask(ctx, a.started, a.done, c)
	return err
}

// Attest attests outputs of the running job.
func (a *Agent) Attest(ctx context.Context, o Outputs) (*Response, error) {
	return ask(ctx, a.attest, a.done, o)
}

// request carries one question of the door to the run loop, which owns all state.
type request[Q, A any] struct {
	question Q
	answer   chan<- answer[A]
}

type answer[A any] struct {
	value A
	err   error
}

func (r request[Q, A]) reply(v A, err error) { r.answer <- answer[A]{v, err} }

func ask[Q, A any](ctx context.Context, to chan<- request[Q, A], done <-chan struct{}, q Q) (A, error) {
	reply := make(chan answer[A], 1)
	var none A
	select {
	case to <- request[Q, A]{q, reply}:
	case <-done:
		return none, refuse("an environment that still serves its job", "one that is finishing", "nothing can be attested after the job has ended")
	case <-ctx.Done():
		return none, fmt.Errorf("waiting for the environment: %w", ctx.Err())
	}
	select {
	case r := <-reply:
		return r.value, r.err
	case <-ctx.Done():
		return none, fmt.Errorf("waiting for the environment: %w", ctx.Err())
	}
}

func refuse(want, got, next string) *refusal.Refusal {
	return &refusal.Refusal{Link: "environment", Code: refusal.Policy, Want: want, Got: got, Next: next}
}
