// SPDX-License-Identifier: Apache-2.0

package github

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/kettle/attest/runner/job/pinned"
)

// How patient the adapter is with a GitHub that is busy.
const (
	tries     = 4
	firstWait = time.Second
	maxWait   = time.Minute
)

// retry repeats a request that GitHub did not take: any request on 429 and on 403 with Retry-After, which GitHub sends
// before it acts, and GET and DELETE requests, which may be made twice, also on 502, 503, 504 and when there was no answer.
type retry struct {
	next  http.RoundTripper
	sleep func(ctx context.Context, d time.Duration) error
}

// RoundTrip implements [http.RoundTripper].
func (t *retry) RoundTrip(r *http.Request) (*http.Response, error) {
	backoff := firstWait
	for try := 1; ; try++ {
		resp, err := t.next.RoundTrip(r)
		wait, again := pause(r, resp, backoff)
		if err != nil {
			wait, again = backoff, unanswered(r, err)
		}
		if try == tries || !again || wait > maxWait || (r.Body != nil && r.GetBody == nil) {
			return resp, err
		}
		if resp != nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
			_ = resp.Body.Close()
		}
		if err := t.sleep(r.Context(), wait); err != nil {
			return nil, err
		}
		if r, err = rewind(r); err != nil {
			return nil, err
		}
		backoff *= 2
	}
}

// rewind is the request for one more try, its body rewound.
func rewind(r *http.Request) (*http.Request, error) {
	r = r.Clone(r.Context())
	if r.GetBody == nil {
		return r, nil
	}
	body, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	r.Body = body
	return r, nil
}

// repeatable says that a request may reach GitHub twice (RFC 9110, section 9.2.2). PUT is not among those made.
func repeatable(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodDelete
}

// unanswered says whether a request without an answer may be repeated. What was refused here is refused again.
func unanswered(r *http.Request, err error) bool {
	return repeatable(r) && r.Context().Err() == nil && !errors.Is(err, pinned.ErrHost) && !errors.Is(err, pinned.ErrScheme)
}

// pause says whether an answered request may be repeated and after how long.
func pause(r *http.Request, resp *http.Response, backoff time.Duration) (time.Duration, bool) {
	if resp == nil {
		return 0, false
	}
	after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	told := err == nil && after >= 0
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
	case http.StatusForbidden:
		if !told {
			return 0, false
		}
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if !repeatable(r) {
			return 0, false
		}
	default:
		return 0, false
	}
	if told {
		return time.Duration(min(after, 24*3600)) * time.Second, true
	}
	return backoff, true
}

// sleep waits or ends with its context.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
