// SPDX-License-Identifier: Apache-2.0

package github

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	gogithub "github.com/google/go-github/v60/github"
)

// What callers decide on. A [RemoteError] matches one or more of them.
var (
	// ErrRemote matches every answer of GitHub that is not the wanted one.
	ErrRemote = errors.New("github refused or could not be reached")
	// ErrBusy means that the runner is running a job and cannot be removed (422).
	ErrBusy = errors.New("runner is running a job")
	// ErrNameTaken means that a runner of this name exists: take a new name (409).
	ErrNameTaken = errors.New("runner name is taken")
	// ErrUnknownOutcome means that GitHub may have acted although it did not say so: take a new name.
	ErrUnknownOutcome = errors.New("outcome is unknown")
	// ErrForbidden means that the credential lacks a permission (401, 403).
	ErrForbidden = errors.New("credential lacks a permission")
	// ErrNotFound means that GitHub knows no such thing, or does not show it to this credential (404).
	ErrNotFound = errors.New("not found")
)

// RemoteError is an answer of GitHub that is not the wanted one, or none.
type RemoteError struct {
	Doing      string // what was tried, as a gerund
	Status     int    // of HTTP; 0 when there was no answer
	RequestID  string // X-GitHub-Request-Id, for a question to GitHub
	Permission string // what the credential needs, on 401, 403 and 404
	Message    string // GitHub's own words
	RetryAfter time.Duration
	kinds      []error
	cause      error
}

// Error says what was tried, what came back and what to do.
func (e *RemoteError) Error() string {
	var b strings.Builder
	b.WriteString(e.Doing)
	if e.Status == 0 {
		fmt.Fprintf(&b, ": no answer from GitHub: %v", e.cause)
		return b.String()
	}
	fmt.Fprintf(&b, ": GitHub answered %d %s", e.Status, http.StatusText(e.Status))
	if e.Message != "" {
		fmt.Fprintf(&b, ", %q", clip(e.Message))
	}
	if e.Permission != "" {
		fmt.Fprintf(&b, "; the credential needs %s", e.Permission)
	}
	if e.RetryAfter > 0 {
		fmt.Fprintf(&b, "; try again in %s", e.RetryAfter.Round(time.Second))
	}
	if e.RequestID != "" {
		fmt.Fprintf(&b, " (request %s)", e.RequestID)
	}
	return b.String()
}

// Unwrap gives the error below, which may be nil.
func (e *RemoteError) Unwrap() error { return e.cause }

// Is matches [ErrRemote] and the sentinels that the answer means.
func (e *RemoteError) Is(target error) bool {
	if target == ErrRemote {
		return true
	}
	for _, k := range e.kinds {
		if target == k {
			return true
		}
	}
	return false
}

// remote turns an error of go-github into one that says what was tried and which permission that takes.
func remote(doing, permission string, resp *gogithub.Response, err error) error {
	e := &RemoteError{Doing: doing, cause: err}
	if resp == nil || resp.Response == nil {
		return e
	}
	e.Status, e.RequestID = resp.StatusCode, resp.Header.Get("X-GitHub-Request-Id")
	e.Message = message(err)
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Permission, e.kinds = permission, append(e.kinds, ErrForbidden)
		if accepted := resp.Header.Get("X-Accepted-GitHub-Permissions"); accepted != "" {
			e.Permission += " (GitHub accepts " + clip(accepted) + ")"
		}
	case http.StatusNotFound:
		e.Permission, e.kinds = permission, append(e.kinds, ErrNotFound)
	}
	var limit *gogithub.RateLimitError
	var abuse *gogithub.AbuseRateLimitError
	switch {
	case errors.As(err, &limit):
		e.Permission, e.RetryAfter = "", time.Until(limit.Rate.Reset.Time)
	case errors.As(err, &abuse):
		e.Permission, e.RetryAfter = "", abuse.GetRetryAfter()
	}
	return e
}

func message(err error) string {
	var (
		answer *gogithub.ErrorResponse
		limit  *gogithub.RateLimitError
		abuse  *gogithub.AbuseRateLimitError
	)
	switch {
	case errors.As(err, &answer):
		return answer.Message
	case errors.As(err, &limit):
		return limit.Message
	case errors.As(err, &abuse):
		return abuse.Message
	}
	return ""
}

func clip(s string) string {
	const limit = 300
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}
