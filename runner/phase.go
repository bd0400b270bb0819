// SPDX-License-Identifier: Apache-2.0

// Package runner is the core of the build agent: the life of one job as a state machine, and the statements that the
// environment makes on the way.
//
// It guarantees the order of secrets. The environment key exists from boot until the DISPATCH statement is signed, so
// before any code of the job runs; a statement key exists only while the sandbox is frozen or dead; while job code runs
// there is no signing key at all. It guarantees that an environment takes one job, that a second started hook is
// refused, and that the runner is deregistered whichever way the job ends.
//
// It trusts what its ports document: GitHub's answers over TLS, the secure processor, the freezer of the kernel. It
// does not trust anything that comes out of the sandbox, and never signs a digest that it did not have computed.
// The ports are declared here; their adapters import this package, never the other way round.
package runner

import (
	"fmt"
	"slices"
)

// Phase is where an environment stands in its life.
type Phase string

// The phases, in order.
const (
	Boot      Phase = "boot"      // keys are made, BOOT is quoted
	Register  Phase = "register"  // GitHub is asked for one ephemeral runner
	Listening Phase = "listening" // the runner program waits for a job
	Dispatch  Phase = "dispatch"  // T0: the job is identified, judged and bound
	Running   Phase = "run"       // job code runs; no signing key exists
	Respond   Phase = "respond"   // the sandbox is frozen; outputs are hashed and attested
	Finish    Phase = "finish"    // the sandbox is dead; the record is made and delivered
	Off       Phase = "off"       // nothing follows
)

// transitions is the whole state machine. Every phase can only end in finish, and finish only in off: an environment
// never takes a second job.
var transitions = map[Phase][]Phase{
	Boot:      {Register, Finish},
	Register:  {Listening, Finish},
	Listening: {Dispatch, Finish},
	Dispatch:  {Running, Finish},
	Running:   {Respond, Finish},
	Respond:   {Running, Finish},
	Finish:    {Off},
	Off:       {},
}

// TransitionError is a step that the state machine does not have. It is a bug or an attack, never a condition to retry.
type TransitionError struct{ From, To Phase }

// Error implements error.
func (e *TransitionError) Error() string {
	return fmt.Sprintf("no transition from phase %q to %q", e.From, e.To)
}

// Next reports whether the machine may go from p to next.
func (p Phase) Next(next Phase) error {
	if !slices.Contains(transitions[p], next) {
		return &TransitionError{From: p, To: next}
	}
	return nil
}
