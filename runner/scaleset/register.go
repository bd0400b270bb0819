// SPDX-License-Identifier: Apache-2.0

package scaleset

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/actions/scaleset"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/github"
)

const (
	workFolder   = "_work"
	cleanupTime  = 30 * time.Second
	sessionPause = 10 * time.Second // before asking again for a session that someone else has
	sessionTries = 12
)

// Register implements [runner.Registrar]: it opens the scale set's session, makes one runner, and begins to listen for its
// job.
func (r *Registrar) Register(ctx context.Context, name string) (runner.Registration, error) {
	if name == "" {
		return runner.Registration{}, errors.New("registering a runner: no name")
	}
	give, err := r.take(ctx)
	if err != nil {
		return runner.Registration{}, err
	}
	defer give()
	if err := r.connect(ctx); err != nil {
		return runner.Registration{}, err
	}
	if err := r.open(ctx); err != nil {
		return runner.Registration{}, err
	}
	reg, err := r.generate(ctx, name)
	if err != nil {
		return runner.Registration{}, err
	}
	r.listen(context.WithoutCancel(ctx), reg)
	return reg, nil
}

// open opens the session. A scale set has one: that of a machine that died is there for some minutes.
func (r *Registrar) open(ctx context.Context) error {
	for try := 1; r.session == nil; try++ {
		err := r.call(ctx, "opening the session of scale set "+r.config.Name, func(ctx context.Context) (err error) {
			r.session, err = r.api.MessageSessionClient(ctx, r.set, r.config.Owner, scaleset.WithRetryableHTTPClint(r.client()))
			return err
		})
		switch {
		case err == nil:
			return nil
		case status(err) == 404: // the scale set was deleted meanwhile
			r.set = 0
		}
		end, bounded := ctx.Deadline()
		if status(err) != 409 || try == sessionTries || bounded && time.Until(end) <= sessionPause {
			return err
		}
		r.config.Log.InfoContext(ctx, "the scale set's session is taken", "scaleSet", r.config.Name)
		if waitErr := r.clock.sleep(ctx, sessionPause); waitErr != nil {
			return errors.Join(err, waitErr)
		}
	}
	return nil
}

// generate makes the runner, and removes what a failed try may have left.
func (r *Registrar) generate(ctx context.Context, name string) (runner.Registration, error) {
	var answer *scaleset.RunnerScaleSetJitRunnerConfig
	err := r.call(ctx, "registering a runner in scale set "+r.config.Name, func(ctx context.Context) (err error) {
		answer, err = r.api.GenerateJitRunnerConfig(ctx, &scaleset.RunnerScaleSetJitRunnerSetting{Name: name, WorkFolder: workFolder}, r.set)
		if err == nil && (answer == nil || answer.Runner == nil || answer.Runner.ID <= 0) {
			return fmt.Errorf("%w: it names no runner", errGarbled)
		}
		return err
	})
	if err != nil {
		if status(err) == 404 {
			r.set = 0
		}
		if errors.Is(err, runner.ErrTryAgain) && status(err) != 429 {
			return runner.Registration{}, r.undo(ctx, runner.Registration{Name: name}, err)
		}
		return runner.Registration{}, err
	}
	reg := runner.Registration{ID: int64(answer.Runner.ID), Name: name}
	if answer.Runner.Name != name || answer.Runner.RunnerScaleSetID != r.set {
		err := &refusal.Refusal{
			Link: "registration", Code: refusal.Identity, Want: fmt.Sprintf("runner %q of scale set %d", name, r.set),
			Got:  fmt.Sprintf("%.64q of scale set %d", answer.Runner.Name, answer.Runner.RunnerScaleSetID),
			Next: "register again; if it stays so, something between GitHub and this machine is lying.",
		}
		return runner.Registration{}, r.undo(ctx, reg, err)
	}
	want := github.JITWant{ID: reg.ID, Name: name, Hosts: r.place.Hosts}
	if reg.JIT, err = github.RebuildJIT(secret.New(answer.EncodedJITConfig), want); err != nil {
		if errors.Is(err, refusal.ErrMalformed) {
			err = errors.Join(err, runner.ErrTryAgain)
		}
		reg.JIT = secret.String{}
		return runner.Registration{}, r.undo(ctx, reg, err)
	}
	return reg, nil
}

// undo removes what cannot be used, unless it runs a job, and returns why.
func (r *Registrar) undo(ctx context.Context, reg runner.Registration, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	return errors.Join(why, r.remove(ctx, reg))
}

// remove deletes the agent at the Actions service, and lets the REST API prove that the runner is gone.
func (r *Registrar) remove(ctx context.Context, reg runner.Registration) error {
	if err := r.connect(ctx); err != nil {
		return err
	}
	id := reg.ID
	if id <= 0 {
		found, err := r.byName(ctx, reg.Name)
		if err != nil {
			return err
		}
		if found != nil {
			id = int64(found.ID)
		}
	}
	if id > 0 {
		err := r.call(ctx, fmt.Sprintf("removing runner %d", id), func(ctx context.Context) error {
			return r.api.RemoveRunner(ctx, id)
		})
		if err != nil && !errors.Is(err, scaleset.RunnerNotFoundError) {
			return err
		}
	}
	return r.config.GitHub.Remove(ctx, runner.Registration{ID: id, Name: reg.Name})
}

func (r *Registrar) byName(ctx context.Context, name string) (found *scaleset.RunnerReference, err error) {
	if !setName.MatchString(name) {
		return nil, fmt.Errorf("looking for a runner: %.64q is no name of ours", name)
	}
	err = r.call(ctx, "looking for runner "+name, func(ctx context.Context) (err error) {
		found, err = r.api.GetRunnerByName(ctx, name)
		return err
	})
	return found, err
}

// Remove implements [runner.Registrar]. From its first call on the runner takes no job; a job that was acquired for it and
// has not reached it is waited for a while, by an error that matches [runner.ErrBusy]. When the runner is gone, the session
// is closed as well.
func (r *Registrar) Remove(ctx context.Context, reg runner.Registration) error {
	if reg.ID <= 0 && reg.Name == "" {
		return errors.New("removing a runner: neither an id nor a name")
	}
	give, err := r.take(ctx)
	if err != nil {
		return err
	}
	defer give()
	if err := r.leave(reg); err != nil {
		return err
	}
	if err := r.remove(ctx, reg); err != nil {
		return err
	}
	return r.close(ctx)
}

// leave has the listener refuse offers from now on, unless it has just taken one.
func (r *Registrar) leave(reg runner.Registration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.seat
	if reg.Name != s.reg.Name && (reg.ID <= 0 || reg.ID != s.reg.ID) { // another than the one that jobs are taken for
		return nil
	}
	s.leaving = true
	if s.request == 0 || s.started != nil || r.clock.now().Sub(s.taken) >= heldTime {
		return nil
	}
	return &Error{
		Doing: "removing runner " + reg.Name, kinds: []error{runner.ErrBusy}, cause: fmt.Errorf("job request %d was acquired for it", s.request),
	}
}

// Observe implements [runner.Registrar]: the REST API shows the runners of scale sets too, and the session may know of a
// job before that does.
func (r *Registrar) Observe(ctx context.Context, reg runner.Registration) (runner.Sight, error) {
	if a, told := r.Announced(); told && (a.RunnerID == reg.ID || a.RunnerName == reg.Name) {
		sight, err := r.config.GitHub.Observe(ctx, reg)
		if err == nil && sight != runner.SightGone {
			return runner.SightBusy, nil
		}
		return sight, err
	}
	return r.config.GitHub.Observe(ctx, reg)
}

// Close ends the session, so that the next machine need not wait for it. The scale set stays, and so does a runner that
// was not removed.
func (r *Registrar) Close(ctx context.Context) error {
	give, err := r.take(ctx)
	if err != nil {
		return err
	}
	defer give()
	return r.close(ctx)
}

func (r *Registrar) close(ctx context.Context) error {
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
	r.forget()
	if r.session == nil {
		return nil
	}
	err := r.call(ctx, "closing the session of scale set "+r.config.Name, r.session.Close)
	if status(err) == 404 { // GitHub ended it before
		err = nil
	}
	if err == nil {
		r.session = nil
	}
	return err
}
