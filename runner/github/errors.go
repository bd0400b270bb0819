// SPDX-License-Identifier: Apache-2.0

package github

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	gogithub "github.com/google/go-github/v60/github"

	"github.com/kettle/attest/runner"
)

// What callers decide on. A [RemoteError] matches one or more of them, and of package runner's [runner.ErrTryAgain],
// [runner.ErrBusy] and [runner.ErrDenied].
var (
	// ErrRemote matches every answer of GitHub that is not the wanted one.
	ErrRemote = errors.New("github refused or could not be reached")
	// ErrNameTaken means that a runner of this name exists: take a new name (409).
	ErrNameTaken = errors.New("runner name is taken")
	// ErrUnknownOutcome means that GitHub may have acted although it did not say so: take a new name.
	ErrUnknownOutcome = errors.New("outcome is unknown")
	// ErrForbidden means that the credential lacks a permission (401, 403).
	ErrForbidden = errors.New("credential lacks a permission")
	// ErrNotFound means that GitHub knows no such thing, or does not show it to this credential (404).
	ErrNotFound = errors.New("not found")
	// ErrListed means that GitHub still shows a runner after it was removed.
	ErrListed = errors.New("GitHub still lists the runner")
)

var _ runner.Later = (*RemoteError)(nil)

// RemoteError is an answer of GitHub that is not the wanted one, or none.
type RemoteError struct {
	Doing      string        // what was tried, as a gerund
	Status     int           // of HTTP; 0 when there was no answer
	RequestID  string        // X-GitHub-Request-Id, for a question to GitHub
	Permission string        // what the credential needs, on 401, 403 and 404
	Message    string        // GitHub's own words
	Hint       string        // what else it can mean
	Wait       time.Duration // before the next try; 0 when GitHub did not say
	unsent     bool          // the request did not leave
	kinds      []error
	cause      error
}

// Error says what was tried, what came back and what to do.
func (e *RemoteError) Error() string {
	var b strings.Builder
	b.WriteString(e.Doing)
	switch {
	case e.Status == 0:
		fmt.Fprintf(&b, ": no answer from GitHub: %v", e.cause)
		return b.String()
	case e.Status < http.StatusMultipleChoices:
		fmt.Fprintf(&b, ": GitHub answered %d %s, and the answer cannot be read: %v", e.Status, http.StatusText(e.Status), e.cause)
	default:
		fmt.Fprintf(&b, ": GitHub answered %d %s", e.Status, http.StatusText(e.Status))
	}
	if e.Message != "" {
		fmt.Fprintf(&b, ", %q", clip(e.Message))
	}
	if e.Permission != "" {
		fmt.Fprintf(&b, "; the credential needs %s", e.Permission)
	}
	if e.Hint != "" {
		fmt.Fprintf(&b, "; %s", e.Hint)
	}
	if e.Wait > 0 {
		fmt.Fprintf(&b, "; try again in %s", e.Wait.Round(time.Second))
	}
	if e.RequestID != "" {
		fmt.Fprintf(&b, " (request %s)", e.RequestID)
	}
	return b.String()
}

// RetryAfter implements [runner.Later].
func (e *RemoteError) RetryAfter() time.Duration { return e.Wait }

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

// need is what a request takes: a permission of a GitHub App or a fine-grained token, or a scope of a classic token.
type need struct {
	permission string // empty where only a classic token is taken
	scope      string
	of         string
}

// String completes “the credential needs”.
func (n need) String() string {
	if n.permission == "" {
		return fmt.Sprintf("the scope %s of %s, as a classic token: no App and no fine-grained token can have it", n.scope, n.of)
	}
	return fmt.Sprintf("“%s” of %s, as a GitHub App or fine-grained token, or the scope %s, as a classic token", n.permission, n.of, n.scope)
}

// remote turns an error of go-github into one that says what was tried and which permission that takes.
func remote(doing string, needs need, resp *gogithub.Response, err error) *RemoteError {
	e := &RemoteError{Doing: doing, cause: err}
	var told *credentialError
	switch {
	case errors.As(err, &told):
		e.untrusted(told)
		return e
	case resp == nil || resp.Response == nil:
		if e.unsent = unsent(err); !e.unsent {
			e.kinds = append(e.kinds, runner.ErrTryAgain)
		}
		return e
	}
	e.Status, e.RequestID = resp.StatusCode, resp.Header.Get("X-GitHub-Request-Id")
	var answer *gogithub.ErrorResponse
	if errors.As(err, &answer) {
		e.Message = answer.Message
	}
	e.Wait, _ = retryAfter(resp.Response, time.Time{}) // in seconds: the pace has seen to it
	switch {
	case e.Status == http.StatusUnauthorized, e.Status == http.StatusForbidden:
		e.Permission, e.kinds = needs.String(), append(e.kinds, ErrForbidden, runner.ErrDenied)
		if accepted := resp.Header.Get("X-Accepted-GitHub-Permissions"); accepted != "" {
			e.Permission += " (GitHub accepts " + clip(accepted) + ")"
		}
	case e.Status == http.StatusNotFound:
		e.Permission, e.kinds = needs.String(), append(e.kinds, ErrNotFound)
	case e.Status == http.StatusTooManyRequests, e.Status >= 500, e.Status < http.StatusMultipleChoices:
		e.kinds = append(e.kinds, runner.ErrTryAgain)
	}
	return e
}

// untrusted is what it means that GitHub gave no token for the App: the request itself never left.
func (e *RemoteError) untrusted(told *credentialError) {
	e.unsent, e.Doing = true, e.Doing+", asking for a token of the App"
	e.Status, e.RequestID, e.Message, e.Wait = told.status, told.requestID, told.message, told.wait
	if !told.Is(runner.ErrDenied) {
		if told.Is(runner.ErrTryAgain) {
			e.kinds = append(e.kinds, runner.ErrTryAgain)
		}
		e.cause = told.cause
		return
	}
	e.kinds = append(e.kinds, ErrForbidden, runner.ErrDenied)
	e.Hint = "the App's id, its installation's id and its private key have to belong together, and the installation must not be suspended"
	if told.apart.Abs() > clockFault {
		e.Hint += fmt.Sprintf("; this machine's clock and GitHub's are %s apart", told.apart.Abs().Round(time.Second))
	}
}

func clip(s string) string {
	const limit = 300
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
