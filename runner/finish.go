// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/runner/program"
)

// finish ends a life: the sandbox is killed, the runner deregistered, the FINAL statement quoted and the record delivered.
// Each goes on if another fails. GitHub may be slow to let go of a runner, so that is asked for beside the rest.
func (a *Agent) finish(ctx context.Context, end ending) error {
	killErr := a.kill(ctx)
	if killErr != nil {
		end = fault(errors.Join(end.err, killErr))
	}
	a.env.forget()
	gone := make(chan error, 1)
	go func() { gone <- deregister(ctx, a.ports.Registrar, a.runners) }()
	conclusion := a.conclude(ctx, &end)
	reason := "job ended"
	if end.err != nil {
		reason = end.err.Error()
	}
	entered := a.journal.Enter(end.on, reason)
	err := errors.Join(end.err, entered)
	if entered == nil {
		conclusion.Outcome = string(a.State())
	}
	recordErr := a.record(ctx, conclusion, killErr == nil)
	removeErr := <-gone
	return errors.Join(err, recordErr, removeErr, a.off(ctx, recordErr, removeErr))
}

// off writes the journal's last line and delivers the journal and the logs.
func (a *Agent) off(ctx context.Context, recordErr, removeErr error) error {
	outcome := "record delivered"
	if recordErr != nil {
		a.alarm(ctx, AlarmSink)
		outcome = "record not delivered whole: " + recordErr.Error()
	}
	var err error
	if removeErr != nil {
		a.alarm(ctx, AlarmDeregister)
		err = a.journal.Note("a runner may be left: "+removeErr.Error()+"; "+outcome, nil)
	} else {
		err = a.journal.Enter(OnRemove, outcome)
	}
	if a.env == nil { // it never booted: there is no name to deliver anything under
		return err
	}
	return errors.Join(err, a.logs(ctx), a.put(ctx, "journal.jsonl", a.journal.Bytes))
}

// logs delivers what operators look at when something went wrong.
func (a *Agent) logs(ctx context.Context) error {
	pack, cancel := context.WithTimeout(ctx, packTime)
	defer cancel()
	archive, err := a.ports.Logs.Pack(pack, a.journal.Bytes())
	if err != nil {
		return fmt.Errorf("packing the logs: %w", err)
	}
	return a.put(ctx, "diag.tar.zst", func() []byte { return archive })
}

// last is what the environment says when its job has ended. It is empty when there was none.
type last struct {
	final   []byte // the FINAL statement and its evidence
	changes []byte // what the job changed of the image's files
}

// record makes what the environment says of its end, and delivers it all.
func (a *Agent) record(ctx context.Context, c statement.FinalConditions, dead bool) error {
	if a.env == nil {
		return nil
	}
	l, err := a.final(ctx, c, dead)
	return errors.Join(err, a.deliver(ctx, l))
}

// final attests what had to wait for the end and quotes the FINAL statement, if there was a job and its sandbox is
// certainly dead.
func (a *Agent) final(ctx context.Context, c statement.FinalConditions, dead bool) (l last, err error) {
	if a.env.job == nil || !dead {
		return l, nil
	}
	err = a.afterwards(ctx)
	c.Responses, c.Egress, c.FinishedOn = len(a.responses), a.ports.Gate.Flows(), a.ports.Now()
	c.Killed = a.ports.Sandbox.Leftovers()
	c.Disk, l.changes = a.changes(ctx)
	ctx, cancel := context.WithTimeout(ctx, quoteTime)
	defer cancel()
	rec, finalErr := a.env.finalise(ctx, c)
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

// conclude says how the job ended, and settles what that makes of the environment. Only a runner program that ended well
// and GitHub's word "success" make a finished job; an unknown ending is a failure.
func (a *Agent) conclude(ctx context.Context, end *ending) statement.FinalConditions {
	c := statement.FinalConditions{Outcome: string(Failed), ConclusionOrigin: statement.FromJob, RunnerExit: a.exit}
	if a.env == nil || a.env.job == nil {
		return c
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	conclusion, err := a.ports.Identifier.Conclusion(ctx, a.env.job.Facts)
	if err != nil {
		a.log.WarnContext(ctx, "conclusion unknown", slog.Any("error", err))
	}
	c.Conclusion = conclusion
	if end.on == onExit {
		*end = a.exited(ctx, conclusion)
	}
	return c
}

// exited settles what a runner program that ended by itself, and GitHub's word, make of a job.
func (a *Agent) exited(ctx context.Context, conclusion string) ending {
	how := a.classify(ctx, true)
	switch {
	case how.Kind == program.Clean && conclusion == "success":
		return ending{on: OnSuccess}
	case how.Kind == program.Clean && conclusion == "cancelled":
		return ending{on: OnCancel}
	case how.Kind == program.Clean && conclusion == "":
		return fault(errors.New("the runner program ended well, and GitHub does not say how the job did"))
	case how.Kind == program.Clean:
		return ending{on: OnFault} // the job's own failure
	}
	return fault(fmt.Errorf("the runner program ended with code %d: %s", a.exit, how.Sentence))
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
	put("boot.intoto.jsonl", append(a.env.boot.lines(), lines(append(a.env.admission(), a.env.summary)...)...))
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

// kill ends the sandbox, if it may have been started.
func (a *Agent) kill(ctx context.Context) error {
	if !a.began {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	if err := a.ports.Sandbox.Kill(ctx); err != nil {
		return fmt.Errorf("killing the sandbox: %w", err)
	}
	return nil
}
