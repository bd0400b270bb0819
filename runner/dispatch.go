// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// linger leaves a refused job the time to show why. The started hook does not return when it is refused, so that no
// step of the job runs meanwhile. A runner program that ends all the same is judged as any other.
func (a *Agent) linger(ctx context.Context) {
	t := time.NewTimer(answerGrace)
	defer t.Stop()
	select {
	case <-t.C:
	case a.exit = <-a.ports.Sandbox.Exited():
		a.classify(ctx, true)
	case <-ctx.Done():
	}
}

// dispatch is T0. Everything that identifies the job is fetched, judged and bound here, before any code of the job and
// while the sandbox stands still: not even a hook that fails early can let a step run beside it.
func (a *Agent) dispatch(ctx context.Context, reg Registration, claims Claims) error {
	if err := a.journal.Enter(OnHook, ""); err != nil {
		return err
	}
	defer a.env.forget() // also when the job is refused
	ctx, cancel := context.WithTimeout(ctx, a.config.Dispatch)
	defer cancel()
	err := a.still(ctx, func() error { return a.identify(ctx, reg, claims) })
	if err != nil {
		return err
	}
	if err := a.journal.Enter(OnBind, a.env.buildID); err != nil {
		a.env.job = nil // nothing is said for it
		return err
	}
	a.note(func(s *Status) { s.BuildID, s.Workspace = a.env.buildID, a.env.job.Workspace })
	a.ports.Gate.Dispatched()
	return nil
}

// identify finds out which job this is, judges it, and binds it to the environment.
func (a *Agent) identify(ctx context.Context, reg Registration, claims Claims) error {
	if err := a.unspoiled(ctx); err != nil {
		return err
	}
	nonce, err := newNonce()
	if err != nil {
		return err
	}
	job, err := a.ports.Identifier.Identify(ctx, Question{Claims: claims, Runner: reg, EnvironmentKey: a.env.keyID, Nonce: nonce})
	if err != nil {
		return fmt.Errorf("identifying the job: %w", err)
	}
	if err := a.ports.Policy.Allow(job.Facts, a.ports.Now()); err != nil {
		return fmt.Errorf("judging the job: %w", err)
	}
	if err := a.env.bind(ctx, job, nonce, a.ports.Policy.Digest()); err != nil {
		return err
	}
	a.env.forget()                           // before anything moves again
	if err := a.unspoiled(ctx); err != nil { // the hook may have gone before the sandbox stood still
		a.env.job = nil // nothing is said for it
		return err
	}
	return nil
}

// unspoiled demands that nobody but the started hook, which still waits, has come to the door.
func (a *Agent) unspoiled(ctx context.Context) error {
	select {
	case why := <-a.spoiled:
		return a.outOfTurn(ctx, why)
	default:
		return nil
	}
}

// outOfTurn ends an environment whose sandbox spoke before its job was bound. What it said is for the log: the journal
// is public, and the words are the job's.
func (a *Agent) outOfTurn(ctx context.Context, why error) error {
	a.log.WarnContext(ctx, "out of turn at the door", slog.Any("error", why))
	return fmt.Errorf("%w: the sandbox spoke out of turn at the door", ErrNotDispatched)
}

// still does something while the sandbox is frozen, and thaws it whatever happens.
func (a *Agent) still(ctx context.Context, do func() error) error {
	if err := a.ports.Sandbox.Freeze(ctx); err != nil {
		return fmt.Errorf("freezing the sandbox: %w", err)
	}
	err := do()
	thaw, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTime)
	defer cancel()
	if terr := a.ports.Sandbox.Thaw(thaw); terr != nil {
		return errors.Join(err, fmt.Errorf("thawing the sandbox: %w", terr))
	}
	return err
}
