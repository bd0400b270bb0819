// SPDX-License-Identifier: Apache-2.0

// Package refusal describes one broken link of the chain that Kettle verifies.
//
// Every check in this module that says no returns a [*Refusal]: which link broke, the stable reason code, what was
// wanted, what was found, and what a person can do next. The package guarantees nothing by itself and trusts nothing;
// it exists so that a refusal reads the same in a terminal, in JSON, and across the door between sandbox and kettled.
// It imports only the standard library.
package refusal

import (
	"errors"
	"fmt"
	"strings"
)

// Code is the stable, machine-readable reason for a refusal. Codes are part of the public contract: scripts match them.
type Code string

// The reason codes.
const (
	Signature            Code = "signature"
	Chain                Code = "chain"
	Expired              Code = "expired"
	Malformed            Code = "malformed"
	Debug                Code = "debug"
	TCB                  Code = "tcb"
	EndorsementsMissing  Code = "endorsements-missing"
	EndorsementsMismatch Code = "endorsements-mismatch"
	EventLogMismatch     Code = "event-log-mismatch"
	Binding              Code = "binding"
	Measurement          Code = "measurement"
	Identity             Code = "identity"
	Policy               Code = "policy"
	Revoked              Code = "revoked"
	Missing              Code = "missing"
)

// ErrNotVerified is matched by every refusal.
var ErrNotVerified = errors.New("not verified")

// The sentinels, one for each code. Match them with [errors.Is].
var (
	ErrSignature            = codeError{Signature}
	ErrChain                = codeError{Chain}
	ErrExpired              = codeError{Expired}
	ErrMalformed            = codeError{Malformed}
	ErrDebug                = codeError{Debug}
	ErrTCB                  = codeError{TCB}
	ErrEndorsementsMissing  = codeError{EndorsementsMissing}
	ErrEndorsementsMismatch = codeError{EndorsementsMismatch}
	ErrEventLogMismatch     = codeError{EventLogMismatch}
	ErrBinding              = codeError{Binding}
	ErrMeasurement          = codeError{Measurement}
	ErrIdentity             = codeError{Identity}
	ErrPolicy               = codeError{Policy}
	ErrRevoked              = codeError{Revoked}
	ErrMissing              = codeError{Missing}
)

type codeError struct{ code Code }

func (e codeError) Error() string { return string(e.code) }

// Valid reports whether c is one of the codes above.
func (c Code) Valid() bool {
	switch c {
	case Signature, Chain, Expired, Malformed, Debug, TCB, EndorsementsMissing, EndorsementsMismatch,
		EventLogMismatch, Binding, Measurement, Identity, Policy, Revoked, Missing:
		return true
	}
	return false
}

// Refusal names one broken link. Link, Code and Want are always set; Next says what to do in a full sentence.
type Refusal struct {
	Link  string // the link of the chain, for example "quote" or "dispatch"
	Code  Code
	Want  string // what the check demanded
	Got   string // what it found, already safe to print
	Next  string // what the reader can do
	Cause error  // the error of a library below, if any; never printed raw to people
}

// Error says the refusal in one sentence: link, code, want, got, next.
func (r *Refusal) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s refused (%s): want %s", r.Link, r.Code, r.Want)
	if r.Got != "" {
		fmt.Fprintf(&b, ", got %s", r.Got)
	}
	if r.Next != "" {
		fmt.Fprintf(&b, "; %s", r.Next)
	}
	return b.String()
}

// Unwrap gives the underlying cause, which may be nil.
func (r *Refusal) Unwrap() error { return r.Cause }

// Is matches [ErrNotVerified] and the sentinel of the refusal's own code.
func (r *Refusal) Is(target error) bool {
	if target == ErrNotVerified {
		return true
	}
	c, ok := target.(codeError)
	return ok && c.code == r.Code
}

// Because returns r with the error of a library attached.
func (r *Refusal) Because(err error) *Refusal {
	r.Cause = err
	return r
}

// All flattens joined and wrapped errors into the refusals they hold, in order.
func All(err error) []*Refusal {
	if err == nil {
		return nil
	}
	var out []*Refusal
	switch e := err.(type) { //nolint:errorlint // walks the tree itself.
	case *Refusal:
		return []*Refusal{e}
	case interface{ Unwrap() []error }:
		for _, sub := range e.Unwrap() {
			out = append(out, All(sub)...)
		}
	case interface{ Unwrap() error }:
		out = All(e.Unwrap())
	}
	return out
}
