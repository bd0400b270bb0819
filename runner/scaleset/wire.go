// SPDX-License-Identifier: Apache-2.0

package scaleset

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/actions/scaleset"
	"github.com/hashicorp/go-retryablehttp"

	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/job/pinned"
)

// placeholder stands for the credential in the client library, which never sees it: the wire puts it in.
const placeholder = "held-by-the-wire"

// client makes an HTTP client that the library takes: it insists on an [http.Transport], whose registered protocols lead
// to our own wire, and changes the retry policy of what it is given, so that each of its clients gets one of its own. It
// retries nothing: the wire does, what may be retried.
func (r *Registrar) client() *retryablehttp.Client {
	t := &http.Transport{TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	w := &wire{next: r.config.GitHub.Wire(), api: r.place.APIURL}
	t.RegisterProtocol("https", w)
	t.RegisterProtocol("http", w)
	c := retryablehttp.NewClient()
	// The wire bounds the time of an exchange. A negative limit is none; the library would put its own in the place of zero,
	// and leave a goroutine behind each answer that breaks off.
	c.HTTPClient = &http.Client{Transport: t, Timeout: -1, CheckRedirect: func(*http.Request, []*http.Request) error { return pinned.ErrRedirect }}
	c.RetryMax, c.ErrorHandler, c.Logger = 0, retryablehttp.PassthroughErrorHandler, nil
	return c
}

// wire fits what the library asks to the client of GitHub.
type wire struct {
	next http.RoundTripper
	api  string
}

// RoundTrip implements [http.RoundTripper].
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if r.Header.Get("Authorization") == "Bearer "+placeholder {
		r.Header.Del("Authorization")
	}
	if path, ok := restPath(r.URL.Path); ok {
		u, err := url.Parse(w.api + path)
		if err != nil {
			return nil, fmt.Errorf("reading apiUrl: %w", err)
		}
		r.URL, r.Host = u, ""
	}
	resp, err := w.next.RoundTrip(r)
	if t, ok := r.Context().Value(trackKey{}).(*track); ok && err == nil {
		t.note(resp)
	}
	return resp, err
}

// restPath recognises the two requests that go to the REST API. The library guesses where that is; the configuration
// knows.
func restPath(path string) (string, bool) {
	path = strings.TrimPrefix(path, "/api/v3")
	scoped := strings.HasPrefix(path, "/repos/") || strings.HasPrefix(path, "/orgs/") || strings.HasPrefix(path, "/enterprises/")
	return path, path == "/actions/runner-registration" || scoped && strings.HasSuffix(path, "/actions/runners/registration-token")
}

// track is what the last answer in a call said; the library puts it into words only.
type track struct {
	mu        sync.Mutex
	status    int
	requestID string
	wait      time.Duration
}

type trackKey struct{}

func (t *track) note(resp *http.Response) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.status, t.wait = resp.StatusCode, 0
	t.requestID = resp.Header.Get("X-GitHub-Request-Id")
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 { // in seconds: the wire has seen to it
		t.wait = time.Duration(seconds) * time.Second
	}
}

// errGarbled means that an answer was good and cannot be understood.
var errGarbled = errors.New("the answer cannot be understood")

// Error is an answer of GitHub that is not the wanted one, or none. It matches [runner.ErrTryAgain], [runner.ErrBusy] and
// [runner.ErrDenied].
type Error struct {
	Doing     string // what was tried, as a gerund
	Status    int    // of HTTP; 0 when there was no answer
	RequestID string
	Needs     string // what the credential needs, on 401, 403 and 404 of the REST API
	wait      time.Duration
	kinds     []error
	cause     error
}

var _ runner.Later = (*Error)(nil)

// Error implements error.
func (e *Error) Error() string {
	out := e.Doing + ": " + e.cause.Error()
	if e.Needs != "" {
		out += "; the credential needs " + e.Needs
	}
	if e.RequestID != "" {
		out += " (request " + e.RequestID + ")"
	}
	return out
}

// RetryAfter implements [runner.Later].
func (e *Error) RetryAfter() time.Duration { return e.wait }

// Unwrap gives the error below.
func (e *Error) Unwrap() error { return e.cause }

// Is matches what the answer means.
func (e *Error) Is(target error) bool {
	for _, k := range e.kinds {
		if target == k {
			return true
		}
	}
	return false
}

// call makes one call of the library. Its errors say in types what the library says in words, and its panics, for which
// an answer that lacks a field is enough, are errors; the client that panicked is not used again, since it may hold a lock.
func (r *Registrar) call(ctx context.Context, doing string, f func(context.Context) error) (err error) {
	t := &track{}
	defer func() {
		if p := recover(); p != nil {
			r.api, r.session = nil, nil
			err = r.fault(doing, t, fmt.Errorf("%w: %v", errGarbled, p))
		}
	}()
	if err := f(context.WithValue(ctx, trackKey{}, t)); err != nil {
		return r.fault(doing, t, err)
	}
	return nil
}

func (r *Registrar) fault(doing string, t *track, err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := &Error{Doing: doing, Status: t.status, RequestID: t.requestID, wait: t.wait, cause: err}
	var later runner.Later
	if errors.As(err, &later) {
		e.wait = max(e.wait, later.RetryAfter())
	}
	switch {
	case errors.Is(err, runner.ErrDenied), errors.Is(err, runner.ErrTryAgain): // of the credential
	case errors.Is(err, pinned.ErrHost), errors.Is(err, pinned.ErrScheme), errors.Is(err, pinned.ErrRedirect):
		e.kinds = append(e.kinds, runner.ErrDenied)
	case errors.Is(err, scaleset.JobStillRunningError):
		e.kinds = append(e.kinds, runner.ErrBusy)
	case errors.Is(err, scaleset.RunnerExistsError):
		e.kinds = append(e.kinds, runner.ErrTryAgain)
	case t.status == http.StatusUnauthorized, t.status == http.StatusForbidden, t.status == http.StatusNotFound:
		if e.kinds = append(e.kinds, runner.ErrDenied); !errors.Is(err, scaleset.RunnerNotFoundError) {
			e.Needs = r.place.Needs
		}
	case t.status == http.StatusConflict, t.status == http.StatusTooManyRequests, t.status >= 500, t.status < http.StatusMultipleChoices:
		e.kinds = append(e.kinds, runner.ErrTryAgain)
	default:
		e.kinds = append(e.kinds, runner.ErrDenied)
	}
	return e
}

// status is that of the answer that an error tells of; 0 when there was none.
func status(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}
