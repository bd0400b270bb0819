// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/boot"
	"github.com/kettle/attest/runner/channel"
)

// maxUnsent is more than a journal ever has lines, so that none is lost on its way.
const maxUnsent = 1024

// report tells the launcher what the environment does. It never makes the environment wait: a launcher that does not read
// learns less, and finds the rest in the record.
type report struct {
	guest *channel.Guest
	lines chan channel.Journal
	kept  *channel.Journal // that could not be sent in time; the sender's
}

func newReport(g *channel.Guest) *report {
	return &report{guest: g, lines: make(chan channel.Journal, maxUnsent)}
}

// entry takes one entry of the journal.
func (r *report) entry(e runner.Entry, line []byte) {
	select {
	case r.lines <- channel.Journal{Seq: int64(e.Seq), Line: string(line)}:
	default:
	}
}

// send sends what entry took, and the agent's status at each change and now and then, until ctx ends; then what is left. A
// launcher that does not read for a while gets the same again; one that is gone ends it.
func (r *report) send(ctx context.Context, status func() runner.Status) {
	tick := time.NewTicker(channel.StatusInterval)
	defer tick.Stop()
	for {
		var err error
		select {
		case line := <-r.lines:
			err = r.line(ctx, line)
			if err == nil {
				err = r.guest.Send(context.WithoutCancel(ctx), told(status()))
			}
		case <-tick.C:
			err = r.guest.Send(context.WithoutCancel(ctx), told(status()))
		case <-ctx.Done():
			r.rest(context.WithoutCancel(ctx), status)
			return
		}
		if gone(err) {
			return
		}
	}
}

// line sends one line of the journal, again and again while nothing of it went out: the next may not come before it. What
// ctx does not leave the time for is kept, and is the first of the rest.
func (r *report) line(ctx context.Context, line channel.Journal) error {
	for {
		err := r.guest.Send(context.WithoutCancel(ctx), line) // which has a time of its own, and is never cut in the middle
		switch {
		case err == nil || gone(err):
			return err
		case ctx.Err() != nil:
			r.kept = &line
			return err
		}
	}
}

// gone reports whether nothing more can be sent.
func gone(err error) bool {
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
}

// rest sends what is left when the life is over.
func (r *report) rest(ctx context.Context, status func() runner.Status) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if line := r.kept; line != nil {
		if r.kept = nil; r.line(ctx, *line) != nil {
			return
		}
	}
	for {
		select {
		case line := <-r.lines:
			if r.line(ctx, line) != nil {
				return
			}
		default:
			_ = r.guest.Send(ctx, told(status()))
			return
		}
	}
}

// told is the status in the launcher's words.
func told(s runner.Status) channel.Status {
	c := channel.Status{
		State: string(s.State), Since: max(0, time.Since(s.Since)), Elapsed: boot.Uptime(), Runner: channel.Runner{ID: s.RunnerID, Name: s.Runner},
		Responses: int64(s.Responses),
	}
	if s.BuildID != "" {
		c.Jobs = 1
	}
	for _, a := range s.Alarms {
		c.Alarms = append(c.Alarms, channel.Alarm(a))
	}
	return c
}

// obey does what the launcher asks, until ctx ends or the launcher is gone or talks nonsense: the job goes on without it.
func obey(ctx context.Context, g *channel.Guest, drain func(), log *slog.Logger) {
	for {
		c, err := g.Next(ctx)
		if err != nil {
			log.InfoContext(ctx, "the launcher asks no more", slog.Any("error", err))
			return
		}
		if c == channel.Drain {
			drain()
		}
	}
}
