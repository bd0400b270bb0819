// SPDX-License-Identifier: Apache-2.0

// Package cli is what the commands share: exit codes, streams, the words of a refusal, and a progress line.
//
// It guarantees that every program ends with a code of one table, that a refusal never ends with 0, and that text of
// foreign origin cannot drive the terminal. It imports the refusal vocabulary and nothing else of the module.
package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/kettle/attest/attest/refusal"
)

// The exit codes of every program. They are part of the public contract.
const (
	ExitOK          = 0   // done; verified
	ExitFailure     = 1   // failure: input or output, internal
	ExitUsage       = 2   // usage or configuration
	ExitInvalid     = 3   // refused: evidence, signature, digest or binding invalid
	ExitMissing     = 4   // refused: evidence or endorsements missing or expired
	ExitPolicy      = 5   // refused: policy not met
	ExitUnsupported = 6   // this platform cannot do it
	ExitRemote      = 7   // a remote refused or could not be reached
	ExitInterrupted = 130 // interrupted
)

// UsageError says that the command line or a configuration file is wrong.
type UsageError struct{ Err error }

// Error gives the fault.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap gives the fault.
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef makes a [UsageError].
func Usagef(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// RemoteError says that a remote (GitHub, a registry, a dispatcher) refused or could not be reached.
type RemoteError struct{ Err error }

// Error gives the fault.
func (e *RemoteError) Error() string { return e.Err.Error() }

// Unwrap gives the fault.
func (e *RemoteError) Unwrap() error { return e.Err }

// unsupported is implemented by errors which say that this program or platform cannot do something.
type unsupported interface {
	error
	Unsupported() bool
}

// ExitCode gives the code for an error. Of several that are joined the gravest counts: an interruption and a wrong
// usage say that nothing was judged; after that the lowest code of the refusals.
func ExitCode(err error) int {
	var usage *UsageError
	var remote *RemoteError
	var cannot unsupported
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	case errors.As(err, &usage):
		return ExitUsage
	}
	if code := refusalCode(err); code != ExitOK {
		return code
	}
	switch {
	case errors.Is(err, refusal.ErrNotVerified):
		return ExitInvalid // a refusal without a known code
	case errors.As(err, &cannot) && cannot.Unsupported():
		return ExitUnsupported
	case errors.As(err, &remote):
		return ExitRemote
	}
	return ExitFailure
}

func refusalCode(err error) int {
	lowest := ExitOK
	for _, r := range refusal.All(err) {
		if code := codeOf(r.Code); lowest == ExitOK || code < lowest {
			lowest = code
		}
	}
	return lowest
}

func codeOf(c refusal.Code) int {
	switch c {
	case refusal.Missing, refusal.EndorsementsMissing, refusal.Expired:
		return ExitMissing
	case refusal.Debug, refusal.TCB, refusal.Measurement, refusal.Identity, refusal.Policy:
		return ExitPolicy
	case refusal.Signature, refusal.Chain, refusal.Malformed, refusal.Binding, refusal.EventLogMismatch,
		refusal.EndorsementsMismatch, refusal.Revoked:
		return ExitInvalid
	}
	return ExitInvalid
}
