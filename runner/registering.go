// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Pauses between tries.
const (
	firstPause = time.Second
	maxPause   = 15 * time.Second
)

// register asks GitHub for a runner until there is one, each time under a fresh name: after an error nobody knows whether
// GitHub has registered the last. The name is in the journal first, so that whoever is left can remove the runner.
func (a *Agent) register(ctx context.Context) (Registration, error) {
	ctx, cancel := context.WithTimeout(ctx, a.config.Register)
	defer cancel()
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		reg, err := a.tryRegister(ctx)
		if err == nil {
			return reg, nil
		}
		denied := errors.Is(err, ErrDenied)
		if denied {
			a.alarm(ctx, AlarmDenied)
		}
		if denied || !errors.Is(err, ErrTryAgain) {
			return Registration{}, fmt.Errorf("registering the runner: %w", err)
		}
		a.log.WarnContext(ctx, "registering again", slog.Any("error", err))
		wait := pause
		var later Later
		if errors.As(err, &later) {
			wait = max(wait, later.RetryAfter())
		}
		if waitErr := a.pause(ctx, wait); waitErr != nil {
			return Registration{}, fmt.Errorf("registering the runner within %s: %w", a.config.Register, errors.Join(err, waitErr))
		}
	}
}

// tryRegister asks once.
func (a *Agent) tryRegister(ctx context.Context) (Registration, error) {
	var fresh [4]byte
	if _, err := rand.Read(fresh[:]); err != nil {
		return Registration{}, fmt.Errorf("naming the runner: %w", err)
	}
	name := a.config.Prefix + hex.EncodeToString(fresh[:])
	if err := a.journal.Note("asking GitHub for a runner", &Named{Name: name}); err != nil {
		return Registration{}, err
	}
	a.runners = append(a.runners, Registration{Name: name})
	reg, err := a.ports.Registrar.Register(ctx, name)
	if err != nil {
		if errors.Is(err, ErrNotMade) {
			a.runners = slices.Delete(a.runners, len(a.runners)-1, len(a.runners))
		}
		return Registration{}, err
	}
	a.runners[len(a.runners)-1] = Registration{ID: reg.ID, Name: name}
	if reg.Name != name || reg.ID <= 0 {
		return Registration{}, fmt.Errorf("GitHub registered runner %d, %.64q, for the name %q", reg.ID, reg.Name, name)
	}
	a.note(func(s *Status) { s.Runner, s.RunnerID = reg.Name, reg.ID })
	return reg, a.journal.Note("registered", &Named{ID: reg.ID, Name: name})
}

// pause waits, unless ctx ends or the environment is asked to end.
func (a *Agent) pause(ctx context.Context, d time.Duration) error {
	if err := sleep(ctx, d, a.drained); err != nil {
		return err
	}
	select {
	case <-a.drained:
		return errDrained
	default:
		return nil
	}
}

// errDrained ends what waits when the environment is asked to end.
var errDrained = errors.New("the environment is asked to end")

// sleep waits for d, or shorter when wake is closed, or fails when ctx ends.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-wake:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// deregister removes every runner that GitHub may have under a name of this environment, and returns nil only when GitHub
// lists none of them.
func deregister(ctx context.Context, r Registrar, runners []Registration) error {
	ctx, cancel := context.WithTimeout(ctx, removeTime)
	defer cancel()
	var why error
	for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, maxPause) {
		var left []Registration
		var errs []error
		for _, reg := range slices.Backward(runners) { // the last one is the one that is certainly there
			try, cancel := context.WithTimeout(ctx, removeTry)
			if err := r.Remove(try, reg); err != nil {
				left, errs = append(left, reg), append(errs, fmt.Errorf("deregistering runner %q: %w", reg.Name, err))
			}
			cancel()
		}
		if len(left) == 0 {
			return nil
		}
		slices.Reverse(left)
		runners, why = left, errors.Join(errs...)
		if errors.Is(why, ErrDenied) { // asking again does not help
			return why
		}
		_ = sleep(ctx, pause, nil) // the loop looks at ctx
	}
	return errors.Join(why, ctx.Err())
}
