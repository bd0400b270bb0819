// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/channel"
)

// How fast a guest may speak; an honest one needs a fraction of it.
const (
	messageRate  = 50 // in a second, on average
	messageBurst = 500
)

// How long the rest of a dead VM's words is waited for, and the end of a VM that was killed.
const (
	restTime = 5 * time.Second
	killTime = 30 * time.Second
)

// Config is what a session needs. Every field is required.
type Config struct {
	Folder     *Folder
	Machine    Machine
	Credential secret.String // for the guest: a token, or a GitHub App as JSON; empty where an admission server gives it
	Reaper     *Reaper       // its logger and metrics are the session's too
}

// Validate reports every field that is absent.
func (c Config) Validate() error {
	var faults []error
	for name, absent := range map[string]bool{
		"folder": c.Folder == nil, "machine": c.Machine == nil, "reaper": c.Reaper == nil,
	} {
		if absent {
			faults = append(faults, fmt.Errorf("%s: absent", name))
		}
	}
	if c.Reaper != nil {
		faults = append(faults, c.Reaper.Validate())
	}
	return errors.Join(faults...)
}

// Session follows one VM to its end and reaps what it leaves. Its methods may be called from any goroutine.
type Session struct {
	config  Config
	limits  Limits
	log     *slog.Logger
	journal *journal // owned by Run
	drain   chan struct{}
	kill    chan struct{}

	mu      sync.Mutex
	view    view // mu
	drained bool // mu
	killed  bool // mu
}

// New makes a session of a VM that was just started.
func New(c Config) (*Session, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("making a session: %w", err)
	}
	now := time.Now().UTC()
	s := &Session{
		config: c, limits: c.Reaper.Limits, log: discard(c.Reaper.Logger).With("environment", c.Folder.environment),
		drain: make(chan struct{}), kill: make(chan struct{}),
		view: view{Status: Status{Schema: StatusSchema, Environment: c.Folder.environment, Step: Starting, Started: &now}},
	}
	c.Reaper.Metrics.follow(s.Status) // it asks when it is asked
	return s, nil
}

// Status says how the environment stands.
func (s *Session) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view.snapshot()
}

// Healthy reports whether the launcher hears what it should: the VM speaks, or has ended and its runners are removed.
func (s *Session) Healthy() error {
	st := s.Status()
	const quiet = 4 * channel.StatusInterval
	switch {
	case st.Step == Left:
		return errors.New("a runner may be left at GitHub")
	case st.Step == Starting && time.Since(*st.Started) > s.limits.Hello:
		return errors.New("the VM has not spoken")
	case st.Step == Following && time.Since(*st.Heard) > quiet:
		return fmt.Errorf("the VM has been silent for %s", time.Since(*st.Heard).Round(time.Second))
	}
	return nil
}

// Drain asks the VM to end as soon as no job is lost by it. A VM that has no credential yet ends at once.
func (s *Session) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.drained {
		s.drained, s.view.Draining = true, true
		close(s.drain)
	}
}

// Kill ends the VM at once, with its job. What it leaves is reaped.
func (s *Session) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.killed {
		s.killed = true
		close(s.kill)
	}
}

// Run follows the VM to its end, and reaps. A nil error means that GitHub lists no runner of it and that the record says
// so. When ctx ends, the VM is killed and nothing more is done: a later [Reaper.Recover] has to.
func (s *Session) Run(ctx context.Context) (*Record, error) {
	var err error
	if s.journal, err = s.config.Folder.createJournal(); err != nil {
		s.lost(ctx, err)
	}
	end := s.follow(ctx)
	end.late = func() { s.note(func(v *view) { v.raise(ReapLate) }) }
	s.log.InfoContext(ctx, "vm ended", "how", string(end.how), "outcome", end.outcome)
	s.note(func(v *view) { v.Step, v.How, v.Outcome = Reaping, end.how, end.outcome })
	s.config.Reaper.Metrics.ended(end.how)
	if err := errors.Join(s.stop(ctx, end.how), s.journal.close()); err != nil {
		s.log.WarnContext(ctx, "vm not tidied up", "error", err)
	}
	record, err := s.config.Reaper.reap(ctx, s.config.Folder, end)
	s.note(func(v *view) {
		if v.Step = Reaped; err != nil {
			v.Step = Left
		}
		v.settle(ReapLate)
	})
	return record, err
}

// heard is one result of listening.
type heard struct {
	message channel.Message
	err     error
}

// follow speaks with the guest until the VM has ended or has to.
func (s *Session) follow(ctx context.Context) (end ending) {
	defer func() { end.at = time.Now() }()
	launcher := channel.NewLauncher(s.config.Machine.Control())
	messages := make(chan heard)
	reading, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { listen(reading, launcher, messages) })
	defer group.Wait()
	defer stop()

	silence, alarm := time.NewTimer(s.limits.Hello), time.NewTimer(s.limits.Hello)
	defer silence.Stop()
	defer alarm.Stop()
	var rest <-chan time.Time
	drain, done, admitted := s.drain, s.config.Machine.Done(), false
	for {
		select {
		case h := <-messages:
			if h.err != nil {
				return broken(h.err)
			}
			silence.Reset(s.limits.Silence)
			alarm.Reset(4 * channel.StatusInterval)
			if last := s.handle(ctx, launcher, h.message); last != nil {
				return *last
			}
			admitted = true // it has said hello, and handle has answered
		case <-alarm.C:
			s.note(func(v *view) { v.raise(VMSilent) })
		case <-silence.C:
			return ending{how: Silent, outcome: "It said nothing for " + s.limits.Silence.String() + "."}
		case <-drain:
			drain = nil
			if !admitted {
				return ending{how: Drained, outcome: "It was drained before it had its credential."}
			}
			s.passDrain(ctx, launcher)
		case <-s.kill:
			return ending{how: Killed, outcome: "The operator ended it."}
		case <-ctx.Done():
			return ending{how: Killed, outcome: "The launcher was stopped."}
		case <-done:
			rest, done = time.After(restTime), nil // what it said before is still read
		case <-rest:
			return ending{how: Died, outcome: "It ended without a last word."}
		}
	}
}

// listen hands on what the guest says, no faster than a guest may speak.
func listen(ctx context.Context, l *channel.Launcher, messages chan<- heard) {
	pace := rate.NewLimiter(messageRate, messageBurst)
	for {
		var h heard
		if h.err = pace.Wait(ctx); h.err == nil {
			h.message, h.err = l.Next(ctx)
		}
		select {
		case messages <- h:
		case <-ctx.Done():
			return
		}
		if h.err != nil {
			return
		}
	}
}

// broken says what the end of listening means.
func broken(err error) ending {
	how := Died
	if errors.Is(err, channel.ErrProtocol) {
		how = Broken
	}
	if errors.Is(err, io.ErrUnexpectedEOF) && how == Died {
		return ending{how: Died, outcome: "It ended without a last word."}
	}
	return ending{how: how, outcome: channel.Printable(err.Error(), 300)}
}

// handle takes one message. It gives how the VM ends when that is settled by it.
func (s *Session) handle(ctx context.Context, l *channel.Launcher, m channel.Message) *ending {
	now := time.Now().UTC()
	s.note(func(v *view) {
		v.settle(VMSilent)
		v.Step, v.Heard = Following, &now
	})
	s.config.Reaper.Metrics.heard(now)
	switch m := m.(type) {
	case channel.Hello:
		return s.admit(ctx, l)
	case channel.Phase:
		s.log.DebugContext(ctx, "vm reached a phase", "phase", m.Name, "elapsed", m.Elapsed)
	case channel.Journal:
		return s.keep(ctx, m)
	case channel.Status:
		s.claim(m)
	case channel.End:
		return &ending{how: Ended, outcome: m.Outcome}
	}
	return nil
}

// admit gives the guest its credential, unless it is to go before it has one.
func (s *Session) admit(ctx context.Context, l *channel.Launcher) *ending {
	select {
	case <-s.drain:
		return &ending{how: Drained, outcome: "It was drained before it had its credential."}
	default:
	}
	err := l.Admit(ctx, channel.Admission{Credential: s.config.Credential, Prefix: s.config.Folder.Prefix()})
	if err != nil {
		return &ending{how: Broken, outcome: channel.Printable(err.Error(), 300)}
	}
	s.log.InfoContext(ctx, "vm admitted")
	return nil
}

// passDrain hands the wish on. A guest that does not take it goes on, until it ends or falls silent.
func (s *Session) passDrain(ctx context.Context, l *channel.Launcher) {
	if err := l.Drain(ctx); err != nil {
		s.log.WarnContext(ctx, "drain not delivered", "error", err)
		return
	}
	s.log.InfoContext(ctx, "vm asked to drain")
}

// keep takes a line of the journal. A line that cannot be the next one ends the VM; one that cannot be written does not.
func (s *Session) keep(ctx context.Context, m channel.Journal) *ending {
	e, err := s.journal.append(m.Line)
	switch {
	case errors.Is(err, runner.ErrJournal):
		return &ending{how: Broken, outcome: channel.Printable(err.Error(), 300)}
	case err != nil:
		s.lost(ctx, err)
	}
	s.config.Reaper.Metrics.line()
	s.note(func(v *view) {
		v.Lines++
		if e.Runner != nil && owned(s.config.Folder.Prefix(), e.Runner.Name) {
			v.Runner = &runner.Named{ID: e.Runner.ID, Name: e.Runner.Name}
		}
		s.enter(v, e.State)
	})
	return nil
}

// claim takes the guest's status. Where there is a journal, its state counts.
func (s *Session) claim(m channel.Status) {
	s.note(func(v *view) {
		v.claimed, v.Jobs, v.Responses = m.Alarms, m.Jobs, m.Responses
		if owned(s.config.Folder.Prefix(), m.Runner.Name) {
			v.Runner = &runner.Named{ID: m.Runner.ID, Name: m.Runner.Name}
		}
		if v.Lines == 0 {
			s.enter(v, runner.State(m.State))
		}
	})
}

// enter notes a state. The caller holds the mutex.
func (s *Session) enter(v *view, next runner.State) {
	if v.State == next {
		return
	}
	now := time.Now().UTC()
	s.config.Reaper.Metrics.entered(v.State, next, v.Since, now)
	v.State, v.Since = next, &now
}

// lost raises the alarm that the journal is not kept.
func (s *Session) lost(ctx context.Context, err error) {
	s.log.ErrorContext(ctx, "journal lost", "error", err)
	s.note(func(v *view) { v.raise(JournalLost) })
}

func (s *Session) note(change func(*view)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.view)
}

// stop has the VM end, and lets go of its stream.
func (s *Session) stop(ctx context.Context, how How) (err error) {
	machine := s.config.Machine
	if how == Ended { // it is about to power off
		t := time.NewTimer(s.limits.PowerOff)
		defer t.Stop()
		select {
		case <-machine.Done():
		case <-t.C:
			s.log.WarnContext(ctx, "vm did not power off")
		case <-s.kill:
		case <-ctx.Done():
		}
	}
	machine.Kill()
	t := time.NewTimer(killTime)
	defer t.Stop()
	select {
	case <-machine.Done():
	case <-t.C:
		err = fmt.Errorf("the VM has not ended %s after it was killed", killTime)
	}
	return errors.Join(err, machine.Control().Close())
}
