// SPDX-License-Identifier: Apache-2.0

package message

import (
	"strings"

	"github.com/kettle/attest/internal/stubrunner/expr"
)

// Result is what became of a step or a job, numbered as GitHub's TaskResult.
type Result int

// The results. [None] stands for "not known yet".
const (
	None      Result = -1
	Succeeded Result = iota - 1
	SucceededWithIssues
	Failed
	Canceled
	Skipped
	Abandoned
)

const exitOffset = 100

var resultNames = [...]string{"Succeeded", "SucceededWithIssues", "Failed", "Canceled", "Skipped", "Abandoned"}

// String is the name as on the runner's console; [None] reads as Succeeded.
func (r Result) String() string {
	if r < 0 || int(r) >= len(resultNames) {
		return resultNames[Succeeded]
	}
	return resultNames[r]
}

// Wire is the name as in the services' JSON.
func (r Result) Wire() string {
	name := r.String()
	return strings.ToLower(name[:1]) + name[1:]
}

// ExitCode is the Worker's exit code for the result.
func (r Result) ExitCode() int { return exitOffset + int(max(r, Succeeded)) }

// FromExitCode reads a Worker's exit code; false when the Worker did not exit by itself.
func FromExitCode(code int) (Result, bool) {
	r := Result(code - exitOffset)
	if r < Succeeded || r > Abandoned {
		return Failed, false
	}
	return r, true
}

// Merge returns the worse of two results.
func (r Result) Merge(next Result) Result {
	if r > Failed || r != None && next < r {
		return r
	}
	return next
}

// Status is the result as expressions see it.
func (r Result) Status() expr.Status {
	switch r {
	case Failed, Abandoned:
		return expr.Failure
	case Canceled:
		return expr.Cancelled
	case Skipped:
		return expr.Skipped
	default:
		return expr.Success
	}
}

// Conclusion is the result's number in the results service.
func (r Result) Conclusion() int {
	switch r {
	case Succeeded, SucceededWithIssues:
		return 2
	case Failed:
		return 3
	case Canceled:
		return 4
	case Skipped:
		return 7
	default:
		return 0
	}
}
