// SPDX-License-Identifier: Apache-2.0

package github

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
)

// Bounds on what is kept to be shown again.
const (
	maxKept      = 16
	maxKeptBytes = 512 << 10 // of one answer
)

// etags asks for what is polled only whether it has changed: an answer 304 costs nothing of GitHub's limit, and stands
// for the answer kept from before. Only requests whose context says so take part: what proves that a runner is gone is
// always asked for whole.
type etags struct {
	next http.RoundTripper

	mu   sync.Mutex
	kept []kept // mu; the oldest first
}

// kept is an answer to be shown again. It is not changed.
type kept struct {
	url, tag string
	header   http.Header
	body     []byte
}

type polledKey struct{}

// polled marks the requests of a poll.
func polled(ctx context.Context) context.Context { return context.WithValue(ctx, polledKey{}, true) }

// RoundTrip implements [http.RoundTripper].
func (e *etags) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet || r.Context().Value(polledKey{}) == nil {
		return e.next.RoundTrip(r)
	}
	url := r.URL.String()
	before, known := e.find(url)
	if known {
		r = r.Clone(r.Context())
		r.Header.Set("If-None-Match", before.tag)
	}
	resp, err := e.next.RoundTrip(r)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusNotModified && known:
		_ = resp.Body.Close()
		return before.again(resp), nil
	case resp.StatusCode == http.StatusOK && resp.Header.Get("ETag") != "":
		e.keep(url, resp)
	}
	return resp, nil
}

func (e *etags) find(url string) (kept, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, k := range e.kept {
		if k.url == url {
			return k, true
		}
	}
	return kept{}, false
}

// keep reads an answer to its end and keeps it, if it is whole and not too long. It leaves the body to be read again.
func (e *etags) keep(url string, resp *http.Response) {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxKeptBytes+1))
	if err != nil || len(raw) > maxKeptBytes {
		resp.Body = &replay{Reader: io.MultiReader(bytes.NewReader(raw), failing{err}, resp.Body), Closer: resp.Body}
		return
	}
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(raw))
	e.mu.Lock()
	defer e.mu.Unlock()
	left := make([]kept, 0, maxKept)
	for _, k := range e.kept {
		if k.url != url {
			left = append(left, k)
		}
	}
	if len(left) == maxKept {
		left = left[1:]
	}
	e.kept = append(left, kept{url: url, tag: resp.Header.Get("ETag"), header: resp.Header.Clone(), body: raw})
}

// again is the kept answer as an answer to the request that GitHub just said 304 to.
func (k kept) again(now *http.Response) *http.Response {
	out := *now
	out.StatusCode, out.Status = http.StatusOK, "200 OK"
	out.Header = k.header.Clone()
	for _, name := range []string{"Date", "X-Github-Request-Id"} {
		if v := now.Header.Get(name); v != "" {
			out.Header.Set(name, v)
		}
	}
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(k.body)), int64(len(k.body))
	return &out
}
