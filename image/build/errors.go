// SPDX-License-Identifier: Apache-2.0

package build

import "fmt"

// RemoteError says that an archive or another server refused, could not be reached, or no longer has what was asked for.
type RemoteError struct{ Err error }

// Error gives the fault.
func (e *RemoteError) Error() string { return e.Err.Error() }

// Unwrap gives the fault.
func (e *RemoteError) Unwrap() error { return e.Err }

// GoneError says that a file is no longer where it belongs, and not to be had elsewhere. It comes inside of a
// [RemoteError].
type GoneError struct {
	What string // the file, as people call it
	Err  error  // what each server answered
}

// Error names the file and what was answered.
func (e *GoneError) Error() string { return fmt.Sprintf("%s is gone: %v", e.What, e.Err) }

// Unwrap gives the answers.
func (e *GoneError) Unwrap() error { return e.Err }
