// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/kettle/attest/runner/program"
)

// How often GitHub is asked what it sees, and how often without an answer until that is an alarm.
const (
	lookPause = 5 * time.Second
	lookTry   = 30 * time.Second
	blind     = 6
)

// vigil is what the environment waits for until its job is claimed. Every wait has an end.
type vigil struct {
	agent *Agent
	reg   Registration

	connect *timer // the runner program has to be seen by GitHub
	hook    *timer // a job that GitHub shows has to reach its started hook
	ghost   *timer // the registration is gone; the runner program does not know
	idle    *timer // no job came
	leave   *timer // withdrawing the runner is tried again
	until   time.Time
	why     Event // of withdrawing it; empty while nobody does
}

// listen waits for the started hook and dispatches its job. It returns nil when job code runs.
func (a *Agent) listen(ctx context.Context, reg Registration) *ending {
	looking, stop := context.WithCancel(ctx)
	defer stop()
	sights := a.look(looking, reg)
	v := &vigil{
		agent: a, reg: reg, connect: newTimer(), hook: newTimer(), ghost: newTimer(), idle: newTimer(), leave: newTimer(),
	}
	defer v.off()
	v.connect.set(a.config.Listen)
	drained := a.drained
	for {
		var end *ending
		select {
		case r := <-a.started:
			err := v.claim(ctx, r.question)
			r.reply(struct{}{}, err)
			if err != nil {
				a.linger(ctx)
				end = &ending{OnFault, fmt.Errorf("dispatching the job: %w", err)}
			}
			return end
		case why := <-a.spoiled:
			return &ending{OnFault, a.outOfTurn(ctx, why)}
		case r := <-a.attest:
			r.reply(nil, refuse("a job that has been dispatched", "none yet", "use kettle/attest in a step of the job"))
		case code := <-a.ports.Sandbox.Exited():
			return v.exited(ctx, code)
		case s := <-sights:
			end = v.saw(s)
		case <-drained:
			drained = nil
			end = v.withdraw(ctx, OnDrain)
		case <-v.idle.C:
			end = v.withdraw(ctx, OnExpiry)
		case <-v.leave.C:
			v.leave.off()
			end = v.withdraw(ctx, v.why)
		case <-v.connect.C:
			v.connect.off()
			end = v.withdraw(ctx, OnFault)
		case <-v.hook.C:
			end = v.silent("GitHub shows that the runner has a job, and the started hook was silent for %s", a.config.Listen)
		case <-v.ghost.C:
			v.ghost.off()
			end = v.withdraw(ctx, OnLoss)
		case <-ctx.Done():
			end = &ending{OnFault, fmt.Errorf("%w: %w", ErrNotDispatched, ctx.Err())}
		}
		if end != nil {
			return end
		}
	}
}

func (v *vigil) off() {
	for _, t := range []*timer{v.connect, v.hook, v.ghost, v.idle, v.leave} {
		t.off()
	}
}

func (v *vigil) silent(format string, d time.Duration) *ending {
	return &ending{OnFault, fmt.Errorf("%w: "+format, ErrNotDispatched, d)}
}

// claim is the started hook's question. It also shows that the runner program is connected.
func (v *vigil) claim(ctx context.Context, c Claims) error {
	if err := v.connected(); err != nil {
		return err
	}
	v.off()
	return v.agent.dispatch(ctx, v.reg, c)
}

// connected goes to state listening, once.
func (v *vigil) connected() error {
	if v.agent.State() != Registering {
		return nil
	}
	v.connect.off()
	v.idle.set(v.agent.config.Idle)
	return v.agent.journal.Enter(OnConnect, "")
}

// saw takes what GitHub shows.
func (v *vigil) saw(s Sight) *ending {
	switch {
	case s == SightBusy:
		v.hook.set(v.agent.config.Listen)
	case v.why == "": // while the runner is withdrawn, GitHub's refusal to let it go counts, whatever it shows
		v.hook.off()
	}
	if s == SightGone {
		v.ghost.set(v.agent.config.Ghost)
		return nil
	}
	v.ghost.off()
	if s == SightBusy || s == SightIdle {
		if err := v.connected(); err != nil {
			return &ending{OnFault, err}
		}
	}
	return nil
}

// withdraw ends an environment without a job: the runner is deleted first, so that no job comes to it while it is killed.
// If GitHub says that it has one already, that is waited for; if GitHub says nothing, it is asked again for a while.
func (v *vigil) withdraw(ctx context.Context, why Event) *ending {
	a := v.agent
	v.idle.off()
	if v.why == "" {
		v.why, v.until = why, time.Now().Add(removeTime)
	}
	try, cancel := context.WithTimeout(ctx, removeTry)
	defer cancel()
	err := a.ports.Registrar.Remove(try, v.reg)
	switch {
	case err == nil:
		return &ending{why, fmt.Errorf("%w: %s", ErrNotDispatched, v.because(why))}
	case errors.Is(err, ErrBusy):
		a.log.InfoContext(ctx, "not withdrawn: GitHub says that the runner has a job")
		v.until = time.Now().Add(removeTime) // it speaks; the hook's time decides
		v.hook.set(a.config.Listen)
		v.leave.set(maxPause)
		return nil
	case time.Now().After(v.until):
		return &ending{OnFault, fmt.Errorf("%w, and GitHub does not say whether one is coming: %w", ErrNotDispatched, err)}
	}
	a.log.WarnContext(ctx, "withdrawing the runner", slog.Any("error", err))
	v.leave.set(maxPause)
	return nil
}

// because says why a runner is withdrawn.
func (v *vigil) because(why Event) string {
	c := v.agent.config
	switch why {
	case OnDrain:
		return errDrained.Error()
	case OnLoss:
		return fmt.Sprintf("GitHub has not known the runner for %s", c.Ghost)
	case OnFault:
		return fmt.Sprintf("GitHub did not show the runner program as connected within %s", c.Listen)
	}
	return fmt.Sprintf("none came within %s", c.Idle)
}

// exited judges a runner program that ended before its job reached the started hook.
func (v *vigil) exited(ctx context.Context, code int) *ending {
	a := v.agent
	a.exit = code
	how := a.classify(ctx, false)
	err := fmt.Errorf("%w: the runner program ended with code %d: %s", ErrNotDispatched, code, how.Sentence)
	if how.Kind == program.Lost {
		return &ending{OnLoss, err}
	}
	return &ending{OnFault, err}
}

// classify says what the runner program's exit code means, and raises the alarm that it asks for.
func (a *Agent) classify(ctx context.Context, started bool) program.Ending {
	how := program.Classify(a.exit, started)
	if how.Alarm != "" {
		a.alarm(ctx, Alarm(how.Alarm))
	}
	return how
}

// look asks GitHub now and then what it sees, until ctx ends.
func (a *Agent) look(ctx context.Context, reg Registration) <-chan Sight {
	sights := make(chan Sight)
	go func() {
		failed := 0
		for sleep(ctx, lookPause, nil) == nil {
			try, cancel := context.WithTimeout(ctx, lookTry)
			s, err := a.ports.Registrar.Observe(try, reg)
			cancel()
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				if failed++; failed == blind {
					a.alarm(ctx, AlarmGitHub)
				}
				continue
			}
			failed = 0
			select {
			case sights <- s:
			case <-ctx.Done():
			}
		}
	}()
	return sights
}
