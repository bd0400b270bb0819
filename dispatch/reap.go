// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/channel"
	"github.com/kettle/attest/runner/github"
)

// How a reaper waits between two rounds, and how often it lets GitHub deny the credential.
const (
	firstWait  = time.Second
	longWait   = time.Minute
	maxDenials = 3
)

// Reaper removes what dead VMs have left at GitHub.
type Reaper struct {
	Registry Registry
	Sets     ScaleSets // nil where VMs register without scale sets
	Target   Target    // the place that Registry asks
	Limits   Limits
	Metrics  *Metrics     // optional
	Logger   *slog.Logger // optional
}

// Validate reports every field that is absent.
func (r *Reaper) Validate() error {
	var faults []error
	if r.Registry == nil {
		faults = append(faults, errors.New("registry: absent"))
	}
	if r.Target == (Target{}) {
		faults = append(faults, errors.New("target: absent"))
	}
	return errors.Join(append(faults, r.Limits.Validate())...)
}

// LeftError says of which environment a runner may be left, and why.
type LeftError struct {
	Environment string
	Runners     []string // those that GitHub listed last
	Cause       error
}

// Error says what is left and what to do.
func (e *LeftError) Error() string {
	what := "a runner of environment " + e.Environment + " may be left at GitHub"
	if len(e.Runners) > 0 {
		what = "left at GitHub: " + strings.Join(e.Runners, ", ")
	}
	return fmt.Sprintf("%s: %v; run kettle-dispatch reap when that is mended", what, e.Cause)
}

// Is matches [ErrLeft].
func (e *LeftError) Is(target error) bool { return target == ErrLeft }

// Unwrap gives the cause.
func (e *LeftError) Unwrap() error { return e.Cause }

// ending is how a VM ended.
type ending struct {
	how     How
	outcome string
	at      time.Time
	late    func() // called when reaping does not get on; optional
}

// reap removes every runner of the folder's environment and writes the record. It returns a [LeftError] when that did not
// come to an end within its limits.
func (r *Reaper) reap(ctx context.Context, f *Folder, end ending) (*Record, error) {
	if end.late == nil {
		end.late = func() {}
	}
	if f.launch.GitHub != r.Target && f.launch.GitHub != (Target{}) {
		return nil, fmt.Errorf("reaping environment %s: %w: %s", f.environment, ErrTarget, f.launch.GitHub)
	}
	j := &reaping{Reaper: r, prefix: f.Prefix(), late: end.late, log: discard(r.Logger).With("environment", f.environment), record: Record{
		Schema: recordSchema, Environment: f.environment, GitHub: r.Target, How: end.how, Outcome: end.outcome, Ended: end.at.UTC(),
		Journal: f.readJournal(),
	}}
	for _, n := range j.record.Journal.Named {
		j.names = append(j.names, n.Name)
	}
	if err := j.run(ctx); err != nil {
		r.Metrics.unreaped(f.environment)
		return nil, &LeftError{Environment: f.environment, Runners: j.left, Cause: err}
	}
	j.record.Gone = time.Now().UTC()
	if err := f.write(recordFile, j.record); err != nil {
		return nil, err
	}
	r.Metrics.reaped(f.environment, &j.record)
	j.log.InfoContext(ctx, "environment reaped", "how", string(end.how), "removed", j.record.Removed)
	return &j.record, nil
}

// errListed is the fault of a GitHub that lists for ever what it says to have removed.
var errListed = errors.New("GitHub still lists what it removed")

// reaping is one environment's.
type reaping struct {
	*Reaper
	prefix string
	log    *slog.Logger
	late   func()
	record Record
	names  []string // of the journal, not yet proven to be gone
	left   []string // what GitHub listed last and was not removed
}

// run asks GitHub until it lists nothing, once if the VM ended well and twice, some time apart, if not: what a VM asked for
// last may come true after its death.
func (j *reaping) run(ctx context.Context) error {
	want := 2
	if j.record.How == Ended && j.record.Journal.Fault == "" && j.record.Journal.State == runner.Removed {
		want = 1
	}
	p := patience{limits: j.Limits, wait: firstWait}
	for quiet := 0; ; {
		j.record.Rounds++
		none, err := j.round(ctx)
		switch {
		case err == nil && none:
			if quiet++; quiet == want {
				return nil
			}
			p = patience{limits: j.Limits, wait: firstWait}
			err = pause(ctx, j.Limits.Settle)
		case err == nil: // removed; the next round proves it
			quiet, err = 0, j.endure(ctx, &p, errListed)
		default:
			quiet, err = 0, j.endure(ctx, &p, err)
		}
		if err != nil {
			return err
		}
	}
}

// endure waits after a fault, or gives it back when there was enough of that.
func (j *reaping) endure(ctx context.Context, p *patience, fault error) error {
	if ctx.Err() != nil {
		return fault
	}
	wait, ok := p.after(fault)
	if fault != errListed { //nolint:errorlint // it is this very value, and no fault the first times
		j.late()
		j.Metrics.fault(fault)
		j.log.WarnContext(ctx, "reaping delayed", "error", fault, "wait", wait, "left", j.left)
	}
	if !ok {
		return fault
	}
	return pause(ctx, wait)
}

// round asks GitHub once and removes what it lists. none means that it listed nothing, and knows no name of the journal.
func (j *reaping) round(ctx context.Context) (none bool, err error) {
	j.left = nil
	list, err := j.Registry.Runners(ctx, j.prefix+"-")
	if err != nil {
		return false, err
	}
	none = true
	var faults []error
	shown := map[string]bool{} // and whether it is gone now
	for _, g := range list {
		if g.ID <= 0 || !strings.HasPrefix(g.Name, j.prefix+"-") { // whatever the registry takes for a prefix
			continue
		}
		none, shown[g.Name] = false, false
		if err := j.remove(ctx, g); err != nil {
			faults = append(faults, err)
			if len(j.left) < maxShown {
				j.left = append(j.left, channel.Printable(g.Name, 2*maxName))
			}
			continue
		}
		shown[g.Name] = true
	}
	// The list may be behind. A name that it does not show is asked for, without the id that the VM claims for it.
	var unproven []string
	for _, name := range j.names {
		if gone, listed := shown[name]; listed {
			if !gone {
				unproven = append(unproven, name)
			}
			continue
		}
		if err := j.Registry.Remove(ctx, runner.Registration{Name: name}); err != nil {
			faults, unproven = append(faults, err), append(unproven, name)
		}
	}
	j.names = unproven
	if none && len(faults) == 0 && j.Sets != nil { // a scale set goes after its runners
		faults = append(faults, j.Sets.Discard(ctx, j.prefix))
	}
	err = errors.Join(faults...)
	return none && err == nil, err
}

func (j *reaping) remove(ctx context.Context, g github.Runner) error {
	j.record.found(g)
	if err := j.Registry.Remove(ctx, runner.Registration{ID: g.ID, Name: g.Name}); err != nil {
		return err
	}
	j.record.removed(g.ID)
	j.log.InfoContext(ctx, "runner removed", "runner", g.Name, "id", g.ID)
	return nil
}

// patience bounds a row of faults.
type patience struct {
	limits  Limits
	wait    time.Duration
	waited  time.Duration // for faults
	busy    time.Duration // for jobs
	denials int
}

// after says how long to wait before the next round, and whether there is to be one.
func (p *patience) after(fault error) (wait time.Duration, again bool) {
	wait = p.wait
	p.wait = min(2*p.wait, longWait)
	var later runner.Later
	if errors.As(fault, &later) {
		wait = max(wait, later.RetryAfter())
	}
	switch {
	case errors.Is(fault, runner.ErrDenied):
		p.denials++
		return wait, p.denials < maxDenials
	case errors.Is(fault, runner.ErrBusy):
		p.busy += wait
		return wait, p.busy <= p.limits.Busy
	}
	p.waited += wait
	return wait, p.waited <= p.limits.Patience
}
