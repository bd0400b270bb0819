// SPDX-License-Identifier: Apache-2.0

// Package runner is the core of the build agent: the life of one job as a state machine, and the statements that the
// environment makes on the way.
//
// It guarantees the order of secrets. The environment key exists from boot until the DISPATCH statement is signed, so
// before any code of the job runs; a statement key exists only while the sandbox is frozen or dead; while job code runs
// there is no signing key at all. It guarantees that an environment takes one job, that a second started hook is
// refused, that every name under which a runner may be registered is in the journal before GitHub is asked for it, and
// that the state removed is entered only when GitHub lists none of them any more.
//
// It trusts what its ports document: GitHub's answers over TLS, the secure processor, the freezer of the kernel. It
// does not trust anything that comes out of the sandbox, and never signs a digest that it did not have computed.
// The ports are declared here; their adapters import this package, never the other way round.
package runner

import (
	"fmt"
	"slices"
)

// State is where an environment stands in its life.
type State string

// The states, in order. An environment ends in one of five, and then in removed.
const (
	Boot        State = "boot"         // keys are made, BOOT is quoted
	Registering State = "registering"  // GitHub is asked for one ephemeral runner, and its program starts
	Listening   State = "listening"    // the runner program waits for a job
	Claimed     State = "claimed"      // T0: the job is identified, judged and bound
	Running     State = "running"      // job code runs; no signing key exists
	Responding  State = "responding"   // outputs are held, hashed and attested
	Finished    State = "finished"     // the job succeeded, in GitHub's word, and the runner program ended well
	Failed      State = "failed"       // everything that is none of the others
	Cancelled   State = "cancelled"    // the job was cancelled
	Ghost       State = "ghost"        // the runner's registration was gone before a job came
	IdleExpired State = "idle-expired" // no job came, and the runner was withdrawn
	Removed     State = "removed"      // GitHub lists no runner of this environment; nothing follows
)

// Event is what moves an environment from one state to the next.
type Event string

// The events.
const (
	OnBoot    Event = "booted"    // keys are made and BOOT is quoted
	OnConnect Event = "connected" // GitHub sees the runner program, or its started hook speaks
	OnHook    Event = "hook"      // the started hook asks
	OnBind    Event = "bound"     // the job is identified and allowed, and DISPATCH is quoted
	OnAsk     Event = "asked"     // the job wants outputs attested
	OnAnswer  Event = "answered"  // they are, or it was refused
	OnSuccess Event = "succeeded" // the runner program ended well, and GitHub says that the job did
	OnCancel  Event = "cancelled" // GitHub says that the job was cancelled
	OnLoss    Event = "lost"      // the registration is gone and no job came
	OnExpiry  Event = "expired"   // no job came in time
	OnDrain   Event = "drained"   // the operator wants the environment to end
	OnFault   Event = "fault"     // anything else that ends it
	OnRemove  Event = "removed"   // GitHub, asked again, lists no runner of the environment
)

// Transition is a row of the state machine.
type Transition struct {
	From State
	On   Event
	To   State
}

// transitions is the whole state machine. What is not here cannot happen.
var transitions = []Transition{
	{Boot, OnBoot, Registering},
	{Boot, OnFault, Failed},
	{Registering, OnConnect, Listening},
	{Registering, OnLoss, Ghost},
	{Registering, OnDrain, IdleExpired},
	{Registering, OnFault, Failed},
	{Listening, OnHook, Claimed},
	{Listening, OnLoss, Ghost},
	{Listening, OnExpiry, IdleExpired},
	{Listening, OnDrain, IdleExpired},
	{Listening, OnFault, Failed},
	{Claimed, OnBind, Running},
	{Claimed, OnFault, Failed},
	{Running, OnAsk, Responding},
	{Running, OnSuccess, Finished},
	{Running, OnCancel, Cancelled},
	{Running, OnDrain, Cancelled},
	{Running, OnFault, Failed},
	{Responding, OnAnswer, Running},
	{Responding, OnFault, Failed},
	{Finished, OnRemove, Removed},
	{Failed, OnRemove, Removed},
	{Cancelled, OnRemove, Removed},
	{Ghost, OnRemove, Removed},
	{IdleExpired, OnRemove, Removed},
}

// Transitions gives the state machine, in the order of a life.
func Transitions() []Transition { return slices.Clone(transitions) }

// TransitionError is a step that the state machine does not have. It is a bug or an attack, never a condition to retry.
type TransitionError struct {
	From State
	On   Event
}

// Error implements error.
func (e *TransitionError) Error() string {
	return fmt.Sprintf("state %q has no transition on %q", e.From, e.On)
}

// After gives the state that follows on an event, or a [TransitionError].
func (s State) After(e Event) (State, error) {
	for _, t := range transitions {
		if t.From == s && t.On == e {
			return t.To, nil
		}
	}
	return "", &TransitionError{From: s, On: e}
}

// leads reports whether some event leads from s to next.
func (s State) leads(next State) bool {
	return slices.ContainsFunc(transitions, func(t Transition) bool { return t.From == s && t.To == next })
}

// Ended reports whether the environment's life is over, whatever is left to be tidied up.
func (s State) Ended() bool { return s == Removed || s.leads(Removed) }
