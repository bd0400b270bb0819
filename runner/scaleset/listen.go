// SPDX-License-Identifier: Apache-2.0

package scaleset

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/actions/scaleset"

	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/job"
)

// Pauses of a listener that is answered badly.
const (
	firstPause = time.Second
	longPause  = 30 * time.Second
)

// listen begins to listen for one runner's job, in place of what listened before. The caller has the turn.
func (r *Registrar) listen(ctx context.Context, reg runner.Registration) {
	if r.stop != nil {
		r.stop()
	}
	r.mu.Lock()
	r.seat = seat{reg: runner.Registration{ID: reg.ID, Name: reg.Name}} // nothing is taken, and it may take
	r.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	r.stop = func() { cancel(); <-done }
	l := &listener{registrar: r, session: r.session}
	go func() {
		defer close(done)
		l.run(ctx)
	}()
}

// listener hears one session's messages.
type listener struct {
	registrar *Registrar
	session   *scaleset.MessageSessionClient
	last      int // message that was dealt with
	broken    bool
}

// run listens until ctx ends, or the library has failed in a way that may have left a lock behind. An error is a pause: what
// GitHub meant to say it says again.
func (l *listener) run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil && !l.broken {
		if err := l.next(ctx); err != nil && ctx.Err() == nil {
			l.registrar.config.Log.WarnContext(ctx, "listening to the scale set's session", slog.Any("error", err), slog.Duration("pause", pause))
			if l.registrar.clock.sleep(ctx, pause) != nil {
				return
			}
			pause = min(2*pause, longPause)
			continue
		}
		pause = firstPause
	}
	if l.broken {
		l.registrar.mu.Lock()
		l.registrar.dead = true
		l.registrar.mu.Unlock()
	}
}

// next waits for one message and deals with it. It is acknowledged afterwards, so that none is lost.
func (l *listener) next(ctx context.Context) error {
	var m *scaleset.RunnerScaleSetMessage
	err := l.call(ctx, "waiting for a message", func(ctx context.Context) (err error) {
		m, err = l.session.GetMessage(ctx, l.last, capacity)
		return err
	})
	if err != nil || m == nil {
		return err
	}
	l.registrar.hear(m)
	offer, err := l.registrar.wanted(m)
	if err != nil {
		return err
	}
	if offer != 0 {
		if err := l.acquire(ctx, offer); err != nil {
			return err
		}
	}
	err = l.call(ctx, "acknowledging a message", func(ctx context.Context) error { return l.session.DeleteMessage(ctx, m.MessageID) })
	if err == nil {
		l.last = m.MessageID
	}
	return err
}

func (l *listener) acquire(ctx context.Context, offer int64) error {
	var got []int64
	err := l.call(ctx, "acquiring a job", func(ctx context.Context) (err error) {
		got, err = l.session.AcquireJobs(ctx, []int64{offer})
		return err
	})
	if err != nil { // nobody knows: it is asked for again
		return err
	}
	l.registrar.mu.Lock()
	defer l.registrar.mu.Unlock()
	if s := &l.registrar.seat; slices.Contains(got, offer) {
		s.granted = true
	} else { // somebody else has it
		s.request = 0
	}
	return nil
}

// call is the registrar's, whose client the listener may not touch.
func (l *listener) call(ctx context.Context, doing string, f func(context.Context) error) error {
	probe := &Registrar{config: l.registrar.config, place: l.registrar.place, session: l.session}
	err := probe.call(ctx, doing, f)
	l.broken = probe.session == nil
	return err
}

// hear notes what a message says about our runner.
func (r *Registrar) hear(m *scaleset.RunnerScaleSetMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, j := range m.JobStartedMessages {
		if j == nil || int64(j.RunnerID) != r.seat.reg.ID && j.RunnerName != r.seat.reg.Name {
			continue
		}
		told := job.Announcement{
			RunnerID: int64(j.RunnerID), RunnerName: j.RunnerName, Repository: j.OwnerName + "/" + j.RepositoryName, RunID: j.WorkflowRunID,
			Event: j.EventName, WorkflowRef: j.JobWorkflowRef, JobID: j.JobID,
		}
		if r.seat.started == nil {
			r.seat.started = &told
		} else if *r.seat.started != told { // a message may come twice, a job may not
			r.seat.doubled = true
		}
	}
	for _, j := range m.JobCompletedMessages {
		if j != nil && j.RunnerRequestID == r.seat.request && r.seat.started == nil {
			r.seat.request, r.seat.granted = 0, false // it was cancelled before our runner had it
		}
	}
}

// errLeaving keeps a message with an offer for whoever has the next session.
var errLeaving = errors.New("a job is offered to a runner that is to be removed")

// wanted is the offer to take: one, as long as our runner has none and stays. It counts as taken from here on, so that the
// runner is not removed while GitHub is asked for it; the same is asked for again when that has failed.
func (r *Registrar) wanted(m *scaleset.RunnerScaleSetMessage) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.seat
	for _, j := range m.JobAvailableMessages {
		switch {
		case j == nil || j.RunnerRequestID <= 0 || s.started != nil:
		case s.request == j.RunnerRequestID && !s.granted:
			return s.request, nil
		case s.request != 0:
		case s.leaving:
			return 0, errLeaving
		default:
			s.request, s.taken = j.RunnerRequestID, r.clock.now()
			return s.request, nil
		}
	}
	return 0, nil
}
