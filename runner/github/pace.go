// SPDX-License-Identifier: Apache-2.0

package github

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kettle/attest/runner/job/pinned"
)

// How patient the adapter is with a GitHub that is busy.
const (
	tries     = 4
	firstWait = time.Second
	maxWait   = time.Minute // a longer pause is the caller's to make
	limitWait = time.Minute // after a limit that does not say when it ends (docs.github.com, "Rate limits for the REST API")
	maxPause  = time.Hour   // GitHub counts by the hour: it never means a longer one
)

// pace keeps the pauses that GitHub asks for and repeats what GitHub did not take: any request after a limit, which
// GitHub tells before it acts, and GET and DELETE requests, which may be made twice, also on 5xx and when there was no
// answer. Until a limit is over no request leaves: GitHub blocks those who go on asking.
//
// What it returns of a limit has status 429 and Retry-After in seconds, whatever form GitHub chose. The headers that
// count requests are taken away: go-github compares them with this machine's clock, which may be wrong by years.
type pace struct {
	next  http.RoundTripper
	clock clock

	mu    sync.Mutex
	until time.Time // mu; when the last limit is over
}

// RoundTrip implements [http.RoundTripper].
func (p *pace) RoundTrip(r *http.Request) (*http.Response, error) {
	backoff := firstWait
	for try := 1; ; try++ {
		resp, err := p.once(r)
		wait, again := p.judge(r, resp, err, backoff)
		if try == tries || !again || !p.worthwhile(r.Context(), wait) || (r.Body != nil && r.GetBody == nil) {
			return resp, err
		}
		if resp != nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
			_ = resp.Body.Close()
		}
		if err := p.clock.sleep(r.Context(), wait); err != nil {
			return nil, err
		}
		if r, err = rewind(r); err != nil {
			return nil, err
		}
		backoff *= 2
	}
}

// once asks, unless an earlier limit is not over yet.
func (p *pace) once(r *http.Request) (*http.Response, error) {
	if left := p.left(); left > 0 {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return stillLimited(r, left), nil
	}
	resp, err := p.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if wait, is := limited(resp, p.clock.now()); is {
		resp.StatusCode, resp.Status = http.StatusTooManyRequests, "429 Too Many Requests"
		setWait(resp.Header, wait)
		p.mu.Lock()
		p.until = p.clock.now().Add(wait)
		p.mu.Unlock()
	} else if wait, told := retryAfter(resp, p.clock.now()); told {
		setWait(resp.Header, wait)
	}
	for _, name := range []string{"Limit", "Remaining", "Reset", "Used", "Resource"} {
		resp.Header.Del("X-RateLimit-" + name)
	}
	return resp, nil
}

func (p *pace) left() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return min(p.until.Sub(p.clock.now()), maxPause)
}

// stillLimited answers in GitHub's place.
func stillLimited(r *http.Request, left time.Duration) *http.Response {
	const body = `{"message":"an earlier answer of GitHub asked for a pause that is not over yet"}`
	resp := &http.Response{
		Status: "429 Too Many Requests", StatusCode: http.StatusTooManyRequests, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: r,
	}
	setWait(resp.Header, left)
	return resp
}

func setWait(h http.Header, d time.Duration) {
	h.Set("Retry-After", strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10))
}

// judge says whether a request may be made again and after how long.
func (p *pace) judge(r *http.Request, resp *http.Response, err error, backoff time.Duration) (time.Duration, bool) {
	if err != nil {
		return backoff, unanswered(r, err)
	}
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		return p.left(), true
	case resp.StatusCode >= 500 && repeatable(r):
		if wait, told := retryAfter(resp, p.clock.now()); told && wait > 0 {
			return wait, true
		}
		return backoff, true
	}
	return 0, false
}

// worthwhile says whether a pause is short enough to be made here, and over before ctx is.
func (p *pace) worthwhile(ctx context.Context, wait time.Duration) bool {
	end, bounded := ctx.Deadline()
	return wait <= maxWait && (!bounded || wait < time.Until(end))
}

// limited says whether an answer is a limit, the primary or a secondary one, and how long to wait.
func limited(resp *http.Response, now time.Time) (time.Duration, bool) {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusForbidden {
		return 0, false
	}
	if wait, told := retryAfter(resp, now); told {
		return max(wait, firstWait), true
	}
	if resp.Header.Get("X-RateLimit-Remaining") == "0" {
		reset, err := strconv.ParseInt(resp.Header.Get("X-RateLimit-Reset"), 10, 64)
		if err != nil || reset <= 0 || reset > 1<<40 {
			return limitWait, true
		}
		return bound(time.Unix(reset, 0).Sub(serverTime(resp, now)), firstWait), true
	}
	return limitWait, resp.StatusCode == http.StatusTooManyRequests || saysLimit(resp)
}

// saysLimit looks for a secondary limit in the body of a 403, and leaves the body to be read again.
func saysLimit(resp *http.Response) bool {
	const most = 64 << 10
	raw, err := io.ReadAll(io.LimitReader(resp.Body, most))
	resp.Body = &replay{Reader: io.MultiReader(bytes.NewReader(raw), failing{err}, resp.Body), Closer: resp.Body}
	var answer struct {
		Message string `json:"message"`
		URL     string `json:"documentation_url"`
	}
	if json.Unmarshal(raw, &answer) != nil {
		return false
	}
	text := strings.ToLower(answer.Message)
	return strings.Contains(text, "secondary rate limit") || strings.Contains(text, "abuse detection") ||
		strings.HasSuffix(answer.URL, "secondary-rate-limits") || strings.HasSuffix(answer.URL, "#abuse-rate-limits")
}

// replay reads what was read already, and then the rest.
type replay struct {
	io.Reader
	io.Closer
}

// failing yields an earlier error, or the end.
type failing struct{ err error }

// Read implements [io.Reader].
func (f failing) Read([]byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return 0, io.EOF
}

// retryAfter reads Retry-After, which is a number of seconds or a date by the server's clock (RFC 9110, section 10.2.3).
func retryAfter(resp *http.Response, now time.Time) (time.Duration, bool) {
	value := strings.TrimSpace(resp.Header.Get("Retry-After"))
	if value == "" {
		return 0, false
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 32)
		if err != nil {
			return maxPause, true // more digits than a time has
		}
		return bound(time.Duration(seconds)*time.Second, 0), true
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return limitWait, true
	}
	return bound(date.Sub(serverTime(resp, now)), 0), true
}

func bound(d, least time.Duration) time.Duration { return min(max(d, least), maxPause) }

// serverTime is when the server answered, by its own clock; now when it does not say.
func serverTime(resp *http.Response, now time.Time) time.Time {
	if at, ok := dated(resp); ok {
		return at
	}
	return now
}

// dated reads the Date of an answer.
func dated(resp *http.Response) (time.Time, bool) {
	at, err := http.ParseTime(resp.Header.Get("Date"))
	return at, err == nil
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
	return repeatable(r) && r.Context().Err() == nil && !unsent(err)
}

// unsent says that this program did not let a request out.
func unsent(err error) bool {
	return errors.Is(err, pinned.ErrHost) || errors.Is(err, pinned.ErrScheme)
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
