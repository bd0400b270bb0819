// SPDX-License-Identifier: Apache-2.0

package scaleset

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/actions/scaleset"

	"github.com/kettle/attest/internal/fakegithub/fault"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/github"
)

// TestAttackOfferWhileLeaving: a job that is offered while the runner is removed is not acquired for nobody: it is there for
// the next machine.
func TestAttackOfferWhileLeaving(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.registrar(nil)
	reg, err := r.Register(t.Context(), "kettle-1")
	if err != nil {
		t.Fatal(err)
	}
	held := w.fault(fault.Rule{Path: "/**/agents/*", Method: http.MethodDelete, Times: 1, Act: fault.Hold()})
	acquired := w.fault(fault.Rule{Path: "/**/acquirejobs", Times: 0, Act: fault.Delay(0)})
	gone := make(chan error, 1)
	go func() { gone <- r.Remove(t.Context(), reg) }()
	if err := held.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	w.dispatch()
	paused := w.waited.Load()
	until(t, "the offer is refused", func() bool { return w.waited.Load() > paused })
	held.Remove()
	if err := <-gone; err != nil {
		t.Fatal(err)
	}
	if acquired.Hits() > 0 {
		t.Error("the job was acquired for a runner that is gone")
	}
	next := w.registrar(nil)
	if reg, err = next.Register(t.Context(), "kettle-2"); err != nil {
		t.Fatal(err)
	}
	w.run(reg)
	until(t, "the job is another's", func() bool { _, told := next.Announced(); return told })
}

// TestAttackRemovedBesideItsJob: a runner is not removed while a job that was acquired for it is on its way, and is when that
// has not come.
func TestAttackRemovedBesideItsJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.registrar(nil)
	reg, err := r.Register(t.Context(), "kettle-1")
	if err != nil {
		t.Fatal(err)
	}
	w.dispatch()
	until(t, "the job is acquired", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.seat.granted })
	if err := r.Remove(t.Context(), reg); !errors.Is(err, runner.ErrBusy) || errors.Is(err, runner.ErrTryAgain) {
		t.Errorf("got %v", err)
	}
	if len(w.github.Runners()) != 1 {
		t.Error("the runner was removed beside its job")
	}
	r.clock.now = func() time.Time { return time.Now().Add(heldTime) }
	_ = r.Remove(t.Context(), reg)
	if err := r.leave(reg); err != nil {
		t.Errorf("after its time: %v", err)
	}
}

// TestLeave: only the runner that jobs are taken for leaves, and a job that began is GitHub's to judge.
func TestLeave(t *testing.T) {
	t.Parallel()
	offer := &scaleset.RunnerScaleSetMessage{JobAvailableMessages: []*scaleset.JobAvailable{{JobMessageBase: scaleset.JobMessageBase{RunnerRequestID: 5}}}}
	r := &Registrar{clock: clock{now: time.Now}, seat: seat{reg: runner.Registration{ID: 7, Name: "k"}}}
	if err := r.leave(runner.Registration{Name: "other"}); err != nil || r.seat.leaving {
		t.Errorf("another: %v", err)
	}
	if id, err := r.wanted(offer); id != 5 || err != nil {
		t.Fatalf("got %d, %v", id, err)
	}
	if err := r.leave(runner.Registration{ID: 7}); !errors.Is(err, runner.ErrBusy) {
		t.Errorf("while it is asked for: %v", err)
	}
	r.hear(&scaleset.RunnerScaleSetMessage{JobStartedMessages: []*scaleset.JobStarted{{RunnerID: 7, RunnerName: "k"}}})
	if err := r.leave(runner.Registration{ID: 7}); err != nil {
		t.Errorf("with a job that began: %v", err)
	}
	r.seat = seat{reg: r.seat.reg, leaving: true}
	if id, err := r.wanted(offer); id != 0 || !errors.Is(err, errLeaving) {
		t.Errorf("leaving: %d, %v", id, err)
	}
}

// TestDiscard deletes the scale set of a machine that has ended, and says nil only when it is gone.
func TestDiscard(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rule fault.Rule
		want error
	}{
		"it goes":         {fault.Rule{Path: "/none", Act: fault.Status(500, nil)}, nil},
		"gone before":     {fault.Rule{Path: "/**/runnerscalesets/*", Method: http.MethodDelete, Act: fault.Lost(fault.Status(404, nil))}, nil},
		"not deleted":     {fault.Rule{Path: "/**/runnerscalesets/*", Method: http.MethodDelete, Act: fault.Status(204, nil)}, runner.ErrTryAgain},
		"down":            {fault.Rule{Path: "/**/runnerscalesets/*", Method: http.MethodDelete, Act: fault.Status(503, nil)}, runner.ErrTryAgain},
		"not to be asked": {fault.Rule{Path: "/**/runnerscalesets", Method: http.MethodGet, Act: fault.Status(403, nil)}, runner.ErrDenied},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if _, err := w.registrar(nil).Register(t.Context(), "kettle-1"); err != nil { // its machine dies
				t.Fatal(err)
			}
			client, err := github.New(w.config)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			c := Config{GitHub: client, Name: "cvm-7", Owner: "host-1", Version: "v0"}
			other := c
			other.Name = "cvm-70"
			if err := Discard(t.Context(), other); err != nil || len(w.github.ScaleSets()) != 1 {
				t.Errorf("another's name: %v, %+v", err, w.github.ScaleSets())
			}
			w.fault(tc.rule)
			if err := Discard(t.Context(), c); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if left := w.github.ScaleSets(); (tc.want == nil) != (len(left) == 0) {
				t.Errorf("left: %+v", left)
			}
		})
	}
	if err := Discard(t.Context(), Config{}); err == nil {
		t.Error("discarded nothing")
	}
}
