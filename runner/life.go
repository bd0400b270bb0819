// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// ending is how a life ended: the event, and for whom it was no good end, why.
type ending struct {
	on  Event
	err error
}

func fault(err error) ending { return ending{OnFault, err} }

// onExit marks a runner program that ended by itself after it had its job: what that means is GitHub's to say.
const onExit Event = "exit"

// Run lives the life of one job and returns when the record is delivered. The error says why no job ran, or why the
// environment had to end early; a job that failed is not an error of the environment.
func (a *Agent) Run(ctx context.Context) error {
	end := a.live(ctx)
	a.close()
	return a.finish(context.WithoutCancel(ctx), end)
}

// close turns away whoever still waits at the door.
func (a *Agent) close() { a.stop.Do(func() { close(a.done) }) }

// live goes from boot until the runner program has ended or must end.
func (a *Agent) live(ctx context.Context) ending {
	var err error
	if a.env, err = newEnvironment(ctx, a.ports, a.config); err != nil {
		return fault(err)
	}
	a.note(func(s *Status) { s.Platform = a.env.self.Instance.Platform })
	if err := a.admit(ctx); err != nil {
		return fault(err)
	}
	if err := a.journal.Enter(OnBoot, ""); err != nil {
		return fault(err)
	}
	reg, err := a.register(ctx)
	if errors.Is(err, errDrained) {
		return ending{OnDrain, fmt.Errorf("%w: %w", ErrNotDispatched, err)}
	}
	if err != nil {
		return fault(err)
	}
	a.began = true
	if err := a.ports.Sandbox.Start(ctx, reg.JIT); err != nil {
		return fault(fmt.Errorf("starting the runner program: %w", err))
	}
	if end := a.listen(ctx, reg); end != nil {
		return *end
	}
	return a.serve(ctx)
}

// serve answers attest requests until the runner program ends.
func (a *Agent) serve(ctx context.Context) ending {
	limit := newTimer()
	defer limit.off()
	limit.set(a.config.Job)
	drain := newTimer()
	defer drain.off()
	drained := a.drained
	for {
		select { // whoever asks without a pause does not put off the end
		case <-drain.C:
			return a.undrained()
		case <-limit.C:
			return a.overtime()
		default:
		}
		select {
		case r := <-a.attest:
			resp, err, fatal := a.respond(ctx, r.question)
			r.reply(resp, err)
			if fatal != nil {
				return fault(fatal)
			}
		case r := <-a.started:
			r.reply(struct{}{}, refuse("one started hook for each environment", "a second one", "an environment takes one job; start another runner"))
		case code := <-a.ports.Sandbox.Exited():
			a.exit = code
			a.log.InfoContext(ctx, "runner program ended", slog.Int("code", code))
			return ending{on: onExit}
		case <-drained:
			drained = nil
			drain.set(a.config.Drain)
		case <-drain.C:
			return a.undrained()
		case <-limit.C:
			return a.overtime()
		case <-ctx.Done():
			return fault(fmt.Errorf("running the job: %w", ctx.Err()))
		}
	}
}

func (a *Agent) undrained() ending {
	return ending{OnDrain, fmt.Errorf("the job did not end within %s after the environment was asked to", a.config.Drain)}
}

func (a *Agent) overtime() ending {
	return fault(fmt.Errorf("the job ran longer than %s", a.config.Job))
}

// Raise says once that an operator has to look at something outside of this package's sight.
func (a *Agent) Raise(ctx context.Context, what Alarm) { a.alarm(ctx, what) }

// alarm says once what an operator has to look at.
func (a *Agent) alarm(ctx context.Context, what Alarm) {
	a.log.WarnContext(ctx, "alarm", slog.String("alarm", string(what)))
	a.note(func(s *Status) {
		if !slices.Contains(s.Alarms, what) {
			s.Alarms = append(s.Alarms, what)
		}
	})
}

// timer is a timer that is off until it is set. Its channel may be selected on in either case.
type timer struct {
	C <-chan time.Time
	t *time.Timer
}

func newTimer() *timer { return &timer{} }

// set starts the timer, unless it runs.
func (t *timer) set(d time.Duration) {
	if t.t == nil {
		t.t = time.NewTimer(d)
		t.C = t.t.C
	}
}

// off stops the timer.
func (t *timer) off() {
	if t.t != nil {
		t.t.Stop()
		t.t, t.C = nil, nil
	}
}
