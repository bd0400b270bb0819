// SPDX-License-Identifier: Apache-2.0

// Package dispatch follows one VM from outside, and deregisters its runner when the VM cannot any more.
//
// A [Session] gives the VM its credential and the prefix of every runner's name, keeps its journal in a file on the host,
// passes on a wish to drain, and knows how the VM stands. However the VM ends, with a last word or without, a [Reaper] then
// removes every runner whose name has the prefix, and the scale set of that name where there are such, and writes down what was there and what is gone. What a launcher leaves
// behind that dies itself, [Reaper.Recover] finds in the state folder.
//
// It guarantees: the prefix is on the disk before the VM starts; a line of the journal is kept only if it is the next one
// of its chain; a record that an environment is reaped is written only after GitHub, asked again, lists no runner with the
// prefix; and a folder is touched by one living launcher at a time. It removes no runner because a VM named it: a name is
// looked for only when it has the prefix that this launcher chose, and an id never counts but as GitHub gives it for such a
// name.
//
// It trusts GitHub's answers, the disk, and the state folder, which only its user may write to. It does not trust the VM:
// whatever comes over the channel is a claim, bounded, shown to operators, and decides nothing about anybody else's
// runners. It proves nothing to anyone about what ran.
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/channel"
	"github.com/kettle/attest/runner/github"
)

// Registry is GitHub's list of runners, asked with the operator's credential. Its errors may match [runner.ErrBusy] and
// [runner.ErrDenied], and may be a [runner.Later].
type Registry interface {
	// Runners lists the runners whose names begin with prefix.
	Runners(ctx context.Context, prefix string) ([]github.Runner, error)
	// Remove deletes a runner and returns nil only when GitHub, asked again, knows no such runner. Without an ID it is
	// looked for by its name.
	Remove(ctx context.Context, r runner.Registration) error
}

var _ Registry = (*github.Client)(nil)

// ScaleSets are GitHub's, asked with the operator's credential. Each VM has its own, whose name is the prefix of its runners.
type ScaleSets interface {
	// Discard deletes a scale set and returns nil only when GitHub, asked again, knows none of that name. Its errors are
	// as a [Registry]'s.
	Discard(ctx context.Context, name string) error
}

// Machine is the VM that is followed.
type Machine interface {
	// Control is the stream to the guest, and the session's to close.
	Control() net.Conn
	// Done is closed when the VM has ended and nothing of it is left.
	Done() <-chan struct{}
	// Kill ends the VM at once.
	Kill()
}

// How says in which way a VM came to its end.
type How string

// The ways.
const (
	Ended     How = "ended"     // with a last word
	Drained   How = "drained"   // it was to go before it had its credential
	Died      How = "died"      // without one
	Silent    How = "silent"    // it said nothing for too long and was killed
	Broken    How = "broken"    // it said what must not be said and was killed
	Killed    How = "killed"    // the operator wanted it
	Abandoned How = "abandoned" // its launcher died before it, and a later one tidied up
)

// Hows gives all of them.
func Hows() []How { return []How{Ended, Drained, Died, Silent, Broken, Killed, Abandoned} }

// The alarms that a launcher raises itself, besides those of its guest.
const (
	JournalLost channel.Alarm = "journal-lost" // the guest's journal cannot be kept on this host
	VMSilent    channel.Alarm = "vm-silent"    // the guest has not spoken for several intervals
	ReapLate    channel.Alarm = "reap-late"    // runners may be left at GitHub, and removing them does not get on
)

// Alarms gives every alarm that is known here: the guest's and the launcher's own.
func Alarms() []channel.Alarm { return append(channel.Alarms(), JournalLost, VMSilent, ReapLate) }

// Limits bound how long a launcher waits. The zero value is refused; see [DefaultLimits].
type Limits struct {
	Hello    time.Duration // for the guest's first message, since the VM's start
	Silence  time.Duration // for each message after it
	PowerOff time.Duration // for the VM's end after its last word
	Settle   time.Duration // between the two listings that prove that nothing is left of a VM which did not end well
	Patience time.Duration // for a GitHub that does not answer as it should, while reaping
	Busy     time.Duration // for a runner that GitHub takes for busy, while reaping
}

// DefaultLimits fit GitHub, which takes a runner for busy for some minutes after its machine is gone, and a guest that is
// emulated on a busy host.
func DefaultLimits() Limits {
	return Limits{
		Hello: 5 * time.Minute, Silence: 5 * time.Minute, PowerOff: time.Minute, Settle: 10 * time.Second,
		Patience: 30 * time.Minute, Busy: 30 * time.Minute,
	}
}

// Validate reports every limit that is absent.
func (l Limits) Validate() error {
	var faults []error
	for name, d := range map[string]time.Duration{
		"hello": l.Hello, "silence": l.Silence, "power-off": l.PowerOff, "settle": l.Settle, "patience": l.Patience, "busy": l.Busy,
	} {
		if d <= 0 {
			faults = append(faults, fmt.Errorf("limit %s: absent", name))
		}
	}
	return errors.Join(faults...)
}

// Errors of this package.
var (
	// ErrLeft means that GitHub may still list a runner of an environment.
	ErrLeft = errors.New("a runner may be left at GitHub")
	// ErrAlive means that a living launcher holds the folder.
	ErrAlive = errors.New("a living launcher holds it")
	// ErrReaped means that nothing is left to be done for an environment.
	ErrReaped = errors.New("it is reaped already")
	// ErrTarget means that a folder belongs to another place of GitHub than the one that is asked.
	ErrTarget = errors.New("it belongs to another place of GitHub")
)

// discard is the logger for who wants none.
func discard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}

// pause waits or ends with its context.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
