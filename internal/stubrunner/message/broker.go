// SPDX-License-Identifier: Apache-2.0

package message

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The message types a runner of version 2 acts on.
const (
	TypeJobRequest         = "RunnerJobRequest"
	TypeJobCancellation    = "JobCancellation"
	TypeHostedShutdown     = "HostedRunnerShutdown"
	TypeForceTokenRefresh  = "ForceTokenRefresh"
	TypeRunnerRefresh      = "RunnerRefresh"
	TypeAgentRefresh       = "AgentRefresh"
	SystemConnectionName   = "SystemVssConnection"
	variableResultsService = "system.github.results_endpoint"
	variableLaunchService  = "system.github.launch_endpoint"
)

// Broker is one message of the broker's queue.
type Broker struct {
	// ID numbers the message.
	ID int64 `json:"messageId"`
	// Type is one of the Type… constants.
	Type string `json:"messageType"`
	// Body is a JSON document as text.
	Body string `json:"body"`
}

// JobRequest is the body of [TypeJobRequest].
type JobRequest struct {
	// RunnerRequestID names the job to acquire.
	RunnerRequestID string `json:"runner_request_id"`
	// RunServiceURL is the base of the run service, with a slash at its end.
	RunServiceURL string `json:"run_service_url"`
	// BillingOwnerID is sent back when the job is acquired and completed.
	BillingOwnerID string `json:"billing_owner_id"`
	// ShouldAcknowledge asks for the acknowledge call.
	ShouldAcknowledge bool `json:"should_acknowledge"`
}

// JobCancellation is the body of [TypeJobCancellation].
type JobCancellation struct {
	// JobID is the job to stop.
	JobID string `json:"jobId"`
	// Timeout is how long the job may take to stop, as [d.]hh:mm:ss.
	Timeout string `json:"timeout"`
}

// Duration reads [JobCancellation.Timeout]; a malformed one is an error.
func (c JobCancellation) Duration() (time.Duration, error) {
	days, clock := "0", c.Timeout
	if d, rest, ok := strings.Cut(c.Timeout, "."); ok && strings.Contains(rest, ":") {
		days, clock = d, rest
	}
	parts := strings.Split(clock, ":")
	if len(parts) != 3 {
		return 0, fmt.Errorf("reading timeout %q: not hh:mm:ss", c.Timeout)
	}
	var total time.Duration
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
		text := days
		if i > 0 {
			text, _, _ = strings.Cut(parts[i-1], ".")
		}
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("reading timeout %q: %w", c.Timeout, err)
		}
		total += time.Duration(n) * unit
	}
	return total, nil
}
