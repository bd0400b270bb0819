// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	removeTime  = 2 * time.Minute
	recordTime  = 90 * time.Second // one file of the record
	askTime     = 30 * time.Second // GitHub's word on the conclusion
	quoteTime   = 30 * time.Second // quoting and signing
	hashTime    = 10 * time.Minute // hashing a snapshot, or outputs of a dead sandbox
	lookTime    = 2 * time.Minute  // finding out what the job changed
	answerGrace = 3 * time.Second  // for a refused job to show why, before its sandbox is killed
)

// maxResponses bounds how often a job may have outputs attested.
const maxResponses = 64

// Config is what the measured configuration says about one environment.
type Config struct {
	Name          string               // of the runner; fresh for each environment
	Profile       string               // of the sandbox
	Egress        statement.EgressMode // after dispatch
	Pinned        []string             // hosts that the job may always reach
	Configuration binding.Digest       // SHA-256 of the configuration file
	Image         binding.Digest       // digest of the root image as on the command line; zero when there is none
	Packages      binding.Digest       // SHA-256 of the image's list of packages; zero when there is none
	Software      map[string]string    // program → version, of the image
	Idle          time.Duration        // from listening to the started hook
	Dispatch      time.Duration        // from the started hook to its answer
	Job           time.Duration        // from dispatch to the end of the runner program
	Freeze        time.Duration        // longest time that a sandbox stands still for one response
}

// Validate reports every fault.
func (c Config) Validate() error {
	var errs []error
	for name, bad := range map[string]bool{
		"a name": c.Name == "", "a profile": c.Profile == "",
		"an egress mode": c.Egress == "", "pinned hosts": len(c.Pinned) == 0, "a configuration digest": c.Configuration.IsZero(), "software versions": len(c.Software) == 0,
		"an idle time": c.Idle <= 0, "a dispatch time": c.Dispatch <= 0, "a job time": c.Job <= 0, "a freeze time": c.Freeze <= 0,
	} {
		if bad {
			errs = append(errs, fmt.Errorf("configuration of the environment lacks %s", name))
		}
	}
	return errors.Join(errs...)
}

// Ports are the outside of an environment. All are required but Log and Watch.
type Ports struct {
	Device     Device
	Appraiser  Appraiser
	Registrar  Registrar
	Sandbox    Sandbox
	Identifier Identifier
	Policy     Policy
	Gate       Gate
	Keeper     Keeper
	Sink       Sink
	Now        func() time.Time
	Watch      func(Entry) // progress, in order
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
	done    chan struct{} // closed when no more requests are served
	stop    sync.Once

	env       *environment // the run loop's
	responses [][]byte     // bundle files, in order; the run loop's
	deferred  []Outputs    // to be attested after the job has ended; the run loop's
	exit      int          // the runner program's exit code; the run loop's

	mu     sync.Mutex
	status Status // mu
}

// Status is what anyone may know of an environment.
type Status struct {
	Runner    string
	Platform  string
	BuildID   string
	Workspace string // of the job, inside the sandbox
	Responses int
}

// New makes an agent in phase boot.
func New(c Config, p Ports) (*Agent, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if p.Device == nil || p.Appraiser == nil || p.Registrar == nil || p.Sandbox == nil || p.Identifier == nil ||
		p.Policy == nil || p.Gate == nil || p.Keeper == nil || p.Sink == nil || p.Now == nil {
		return nil, errors.New("an environment needs all of its ports")
	}
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	j, err := NewJournal(p.Now, p.Watch)
	if err != nil {
		return nil, err
	}
	return &Agent{
		config: c, ports: p, journal: j, log: p.Log,
		started: make(chan request[Claims, struct{}]), attest: make(chan request[Outputs, *Response]),
		spoiled: make(chan error, 1), done: make(chan struct{}), exit: -1,
	}, nil
}

// Phase tells where the environment stands.
func (a *Agent) Phase() Phase { return a.journal.Phase() }

// Status tells what the environment is doing.
func (a *Agent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
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

// Run lives the life of one job and returns when the record is delivered. The error says why no job ran, or why the
// environment had to end early; a job that failed is not an error of the environment.
func (a *Agent) Run(ctx context.Context) error {
	err := a.live(ctx)
	a.close()
	reason := "job ended"
	if err != nil {
		reason = err.Error()
	}
	return errors.Join(err, a.finish(context.WithoutCancel(ctx), reason))
}

// close turns away whoever still waits at the door.
func (a *Agent) close() { a.stop.Do(func() { close(a.done) }) }

// live goes from boot until the runner program has ended or must end.
func (a *Agent) live(ctx context.Context) (err error) {
	if a.env, err = newEnvironment(ctx, a.ports, a.config); err != nil {
		return err
	}
	a.note(func(s *Status) { s.Platform = a.env.self.Instance.Platform })
	if err := a.journal.Enter(Register, ""); err != nil {
		return err
	}
	reg, err := a.ports.Registrar.Register(ctx, a.config.Name)
	if err != nil {
		return fmt.Errorf("registering the runner: %w", err)
	}
	a.note(func(s *Status) { s.Runner = reg.Name })
	defer func() { err = errors.Join(err, a.remove(context.WithoutCancel(ctx), reg)) }()
	if err := a.ports.Sandbox.Start(ctx, reg.JIT); err != nil {
		return fmt.Errorf("starting the runner program: %w", err)
	}
	if err := a.journal.Enter(Listening, ""); err != nil {
		return err
	}
	if err := a.listen(ctx, reg); err != nil {
		return err
	}
	return a.serve(ctx)
}

// remove kills the sandbox and deregisters the runner, whatever happened before.
func (a *Agent) remove(ctx context.Context, reg Registration) error {
	a.close()
	killErr := a.kill(ctx)
	ctx, cancel := context.WithTimeout(ctx, removeTime)
	defer cancel()
	if err := a.ports.Registrar.Remove(ctx, reg); err != nil {
		return errors.Join(killErr, fmt.Errorf("deregistering runner %d: %w", reg.ID, err))
	}
	return killErr
}

func (a *Agent) kill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	if err := a.ports.Sandbox.Kill(ctx); err != nil {
		return fmt.Errorf("killing the sandbox: %w", err)
	}
	return nil
}

// listen waits for the started hook and dispatches its job.
func (a *Agent) listen(ctx context.Context, reg Registration) error {
	idle := time.NewTimer(a.config.Idle)
	defer idle.Stop()
	for {
		select {
		case r := <-a.started:
			err := a.dispatch(ctx, reg, r.question)
			r.reply(struct{}{}, err)
			if err != nil {
				a.linger(ctx)
				return fmt.Errorf("dispatching the job: %w", err)
			}
			return nil
		case why := <-a.spoiled:
			return a.outOfTurn(ctx, why)
		case r := <-a.attest:
			r.reply(nil, refuse("a job that has been dispatched", "none yet", "use kettle/attest in a step of the job"))
		case code := <-a.ports.Sandbox.Exited():
			return fmt.Errorf("%w: the runner program ended with code %d", ErrNotDispatched, code)
		case <-idle.C:
			return fmt.Errorf("%w: the started hook was silent for %s", ErrNotDispatched, a.config.Idle)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrNotDispatched, ctx.Err())
		}
	}
}

// serve answers attest requests until the runner program ends.
func (a *Agent) serve(ctx context.Context) error {
	limit := time.NewTimer(a.config.Job)
	defer limit.Stop()
	for {
		select {
		case r := <-a.attest:
			resp, err, fatal := a.respond(ctx, r.question)
			r.reply(resp, err)
			if fatal != nil {
				return fatal
			}
		case r := <-a.started:
			r.reply(struct{}{}, refuse("one started hook for each environment", "a second one", "an environment takes one job; start another runner"))
		case code := <-a.ports.Sandbox.Exited():
			a.exit = code
			a.log.InfoContext(ctx, "runner program ended", slog.Int("code", code))
			return nil
		case <-limit.C:
			return fmt.Errorf("the job ran longer than %s", a.config.Job)
		case <-ctx.Done():
			return fmt.Errorf("running the job: %w", ctx.Err())
		}
	}
}

func refuse(want, got, next string) *refusal.Refusal {
	return &refusal.Refusal{Link: "environment", Code: refusal.Policy, Want: want, Got: got, Next: next}
}
