// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/kettle/attest/attest/statement"
)

// finish kills what is left, quotes the FINAL statement and delivers the record.
func (a *Agent) finish(ctx context.Context, reason string) error {
	if err := a.journal.Enter(Finish, reason); err != nil {
		return err
	}
	if a.env == nil { // it never booted: there is no name to deliver a record under
		return a.journal.Enter(Off, "")
	}
	a.env.forget()
	rec, err := a.final(ctx)
	err = errors.Join(err, a.deliver(ctx, rec))
	outcome := "record delivered"
	if err != nil {
		outcome = err.Error()
	}
	return errors.Join(err, a.journal.Enter(Off, outcome), a.put(ctx, "journal.jsonl", a.journal.Bytes))
}

// last is what the environment says when its job has ended. It is empty when there was none.
type last struct {
	final   []byte // the FINAL statement and its evidence
	changes []byte // what the job changed of the image's files
}

// final attests what had to wait for the end and quotes the FINAL statement, if there was a job and its sandbox is
// certainly dead.
func (a *Agent) final(ctx context.Context) (l last, err error) {
	if a.env.job == nil {
		return l, nil
	}
	if err := a.kill(ctx); err != nil {
		return l, err
	}
	err = a.afterwards(ctx)
	conditions := a.conclude(ctx)
	conditions.Killed = a.ports.Sandbox.Leftovers()
	conditions.Disk, l.changes = a.changes(ctx)
	ctx, cancel := context.WithTimeout(ctx, quoteTime)
	defer cancel()
	rec, finalErr := a.env.finalise(ctx, conditions)
	if finalErr != nil {
		return l, errors.Join(err, finalErr)
	}
	l.final = rec.lines()
	return l, err
}

// changes looks at the dead sandbox's disk. Who cannot look says nothing about it, and the record lacks the list.
func (a *Agent) changes(ctx context.Context) (*statement.Disk, []byte) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	disk, list, err := a.ports.Sandbox.Changes(ctx)
	if err != nil {
		a.log.WarnContext(ctx, "changes of the disk unknown", slog.Any("error", err))
		return nil, nil
	}
	return disk, list
}

// conclude says how the job ended. Only GitHub's word "success" is a finished job; an unknown ending is a failure.
func (a *Agent) conclude(ctx context.Context) statement.FinalConditions {
	c := statement.FinalConditions{
		Outcome: "failed", ConclusionOrigin: statement.FromJob, RunnerExit: a.exit, Responses: len(a.responses),
		Egress: a.ports.Gate.Flows(), FinishedOn: a.ports.Now(),
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	conclusion, err := a.ports.Identifier.Conclusion(ctx, a.env.job.Facts)
	if err != nil {
		a.log.WarnContext(ctx, "conclusion unknown", slog.Any("error", err))
		return c
	}
	switch c.Conclusion = conclusion; conclusion {
	case "success":
		c.Outcome = "finished"
	case "cancelled":
		c.Outcome = "cancelled"
	}
	return c
}

// deliver puts the statements of the environment into the sink, for failed and cancelled jobs too. The final statement
// goes first: it is the one that nobody else has.
func (a *Agent) deliver(ctx context.Context, l last) error {
	var errs []error
	put := func(name string, data []byte) {
		if len(data) > 0 {
			errs = append(errs, a.put(ctx, name, func() []byte { return data }))
		}
	}
	put("final.intoto.jsonl", l.final)
	put("changes.jsonl", l.changes)
	put("boot.intoto.jsonl", a.env.boot.lines())
	if a.env.job != nil {
		put("dispatch.intoto.jsonl", a.env.dispatch.lines())
	}
	for i, bundle := range a.responses {
		put(fmt.Sprintf("response-%d.intoto.jsonl", i+1), bundle)
	}
	return errors.Join(errs...)
}

// put stores one file of the record, with a time of its own.
func (a *Agent) put(ctx context.Context, name string, data func() []byte) error {
	ctx, cancel := context.WithTimeout(ctx, recordTime)
	defer cancel()
	if err := a.ports.Sink.Put(ctx, a.env.keyID, name, data()); err != nil {
		return fmt.Errorf("delivering %s: %w", name, err)
	}
	return nil
}
