// SPDX-License-Identifier: Apache-2.0

package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kettle/attest/attest/refusal"
)

// text is a claim that GitHub has written both as a string and as a number.
type text string

// UnmarshalJSON reads a string or a whole number without a sign.
func (t *text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return fmt.Errorf("reading claim: %w", err)
		}
		*t = text(s)
		return nil
	}
	if len(b) == 0 || strings.Trim(string(b), "0123456789") != "" {
		return errors.New("claim is neither text nor a whole number")
	}
	*t = text(b)
	return nil
}

// check compares every claim and joins all that differ.
func (c *claims) check(want Want, at time.Time) error {
	f := want.Facts
	var errs []error
	add := func(code refusal.Code, name, want, got string) {
		errs = append(errs, refuse(code, fmt.Sprintf("claim %s %q", name, want), fmt.Sprintf("%q", clip(got)),
			"the token belongs to another job, environment or server"))
	}
	if c.Issuer != want.Issuer {
		add(refusal.Identity, "iss", want.Issuer, c.Issuer)
	}
	if len(c.Audience) != 1 || c.Audience[0] != want.Audience {
		add(refusal.Binding, "aud", want.Audience, strings.Join(c.Audience, " "))
	}
	for _, e := range []struct{ name, want, got string }{
		{"runner_environment", selfHosted, c.RunnerEnvironment},
		{"repository", f.Repository, c.Repository},
		{"repository_id", f.RepositoryID, c.RepositoryID},
		{"repository_owner_id", f.RepositoryOwnerID, c.RepositoryOwnerID},
		{"run_id", f.RunID, string(c.RunID)},
		{"run_attempt", f.RunAttempt, string(c.RunAttempt)},
		{"check_run_id", f.JobID, string(c.CheckRunID)},
		{"ref", f.Ref, c.Ref},
		{"sha", f.SHA, c.SHA},
		{"event_name", f.Event, c.EventName},
		{"job_workflow_ref", f.JobWorkflowRef, c.JobWorkflowRef},
		{"job_workflow_sha", f.JobWorkflowSHA, c.JobWorkflowSHA},
	} {
		if e.got != e.want {
			add(refusal.Identity, e.name, e.want, e.got)
		}
	}
	if f.ActorID != "" && c.ActorID != f.ActorID { // a fact that not every job has
		add(refusal.Identity, "actor_id", f.ActorID, c.ActorID)
	}
	if c.Environment != "" { // no fact: jobs with a deployment environment are not taken
		add(refusal.Identity, "environment", "", c.Environment)
	}
	// Path and ref may each hold an @, so the claim is compared whole and never split.
	if workflow := f.Repository + "/" + f.WorkflowPath + "@" + f.Ref; c.WorkflowRef != workflow {
		add(refusal.Identity, "workflow_ref", workflow, c.WorkflowRef)
	}
	return errors.Join(append(errs, c.checkTimes(at))...)
}

// checkTimes demands all three times, that the token was valid at the time at, and that it was fresh then.
func (c *claims) checkTimes(at time.Time) error {
	when := at.UTC().Format(time.RFC3339)
	if c.IssuedAt == nil || c.Expiry == nil || c.NotBefore == nil {
		return malformed("claims iat, nbf and exp", "one of them is missing")
	}
	issued, expires, from := c.IssuedAt.Time().UTC(), c.Expiry.Time().UTC(), c.NotBefore.Time().UTC()
	next := "a token is judged at the time of dispatch; the environment's clock was wrong or the token is an old one"
	var errs []error
	if !at.Before(expires.Add(Skew)) {
		errs = append(errs, refuse(refusal.Expired, "a token valid at dispatch, "+when, "exp "+expires.Format(time.RFC3339), next))
	}
	if from.After(at.Add(Skew)) {
		errs = append(errs, refuse(refusal.Expired, "a token valid at dispatch, "+when, "nbf "+from.Format(time.RFC3339), next))
	}
	if issued.After(at.Add(Skew)) || issued.Before(at.Add(-MaxAge)) {
		errs = append(errs, refuse(refusal.Expired, fmt.Sprintf("a token issued within %s before dispatch, %s", MaxAge, when),
			"iat "+issued.Format(time.RFC3339), next))
	}
	return errors.Join(errs...)
}
