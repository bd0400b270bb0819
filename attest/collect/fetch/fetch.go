// SPDX-License-Identifier: Apache-2.0

// Package fetch gets documents over HTTP that will be verified later: certificates, revocation lists, collateral.
//
// It guarantees bounds: a limit on every body and header it keeps, on every attempt's time and on the number of
// attempts, no redirects, and nothing kept in a cache that its caller did not accept. It repeats an attempt after a
// connection error, a cut body and the statuses 408, 429 and 5xx, waiting as long as the server asks within reason.
// What it gives is not trusted: whoever controls the network, the proxy or the cache can hand out other bytes, and the
// verifier is the one to find out. Errors are [*Error] values that say what to do.
package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	defaultAttempts = 6
	defaultAttempt  = 30 * time.Second // one request with its body
	firstPause      = time.Second      // doubled each time
	longestPause    = time.Minute      // whatever a server asks for
	maxHeader       = 64 << 10
)

// ErrUnavailable is matched by every error of a document that could not be had.
var ErrUnavailable = errors.New("document not available")

// Error says which document could not be had, why, and what to do about it.
type Error struct {
	What     string // the document, such as "AMD VCEK certificate"
	URL      string
	Status   int // HTTP status of the last answer, 0 if there was none
	Attempts int
	Next     string // what a person can do
	Cause    error
}

// Error names document, address, reason and remedy.
func (e *Error) Error() string {
	return fmt.Sprintf("fetching the %s from %.300q (attempts: %d): %v; %s", e.What, e.URL, e.Attempts, e.Cause, e.Next)
}

// Unwrap gives the reason and [ErrUnavailable].
func (e *Error) Unwrap() []error { return []error{ErrUnavailable, e.Cause} }

// Config is how documents are fetched. Its zero value is the machine's own network with its proxy settings and a cache
// in memory.
type Config struct {
	// Transport carries the requests; nil for one with the proxy of the environment (HTTPS_PROXY, NO_PROXY).
	Transport http.RoundTripper
	// Cache keeps documents; nil for one in memory.
	Cache Cache
	// Attempts is how often a request is sent at most, 0 for 6.
	Attempts int
	// AttemptLimit bounds one request with its body, 0 for 30 s.
	AttemptLimit time.Duration
	// Now is the clock of the cache; nil for the system's.
	Now func() time.Time
	// Sleep waits between attempts; nil for real time. It returns early with the context's error.
	Sleep func(context.Context, time.Duration) error
}

// Client fetches documents. It is safe for concurrent use.
type Client struct {
	http     *http.Client
	cache    Cache
	attempts int
	limit    time.Duration
	now      func() time.Time
	sleep    func(context.Context, time.Duration) error
}

// New makes a client.
func New(c Config) *Client {
	f := &Client{cache: c.Cache, attempts: c.Attempts, limit: c.AttemptLimit, now: c.Now, sleep: c.Sleep}
	if c.Transport == nil {
		c.Transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, MaxResponseHeaderBytes: maxHeader, DisableKeepAlives: true,
			TLSHandshakeTimeout: defaultAttempt, ForceAttemptHTTP2: true,
		}
	}
	// A redirect would let one server name another; it is an answer like any other that is not 200.
	f.http = &http.Client{Transport: c.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if f.cache == nil {
		f.cache = NewMemory()
	}
	if f.attempts <= 0 {
		f.attempts = defaultAttempts
	}
	if f.limit <= 0 {
		f.limit = defaultAttempt
	}
	if f.now == nil {
		f.now = time.Now
	}
	if f.sleep == nil {
		f.sleep = Sleep
	}
	return f
}

// Direct gives a transport that uses no proxy, for addresses that only this machine's host can answer.
func Direct() http.RoundTripper {
	return &http.Transport{Proxy: nil, MaxResponseHeaderBytes: maxHeader, DisableKeepAlives: true}
}

// Request names one document.
type Request struct {
	What   string            // for messages
	URL    string            // also the key in the cache
	Header map[string]string // sent
	Body   []byte            // POSTed if not nil; such an answer is never cached
	Limit  int64             // of the answer's body in bytes
	Keep   []string          // names of the answer's headers that are wanted
	// Accept says whether an answer is the document, and until when it may be kept; the zero time keeps it out of the
	// cache.
	Accept func(Document) (time.Time, error)
	Next   string // what a person can do if it cannot be had
}

// Document is an answer.
type Document struct {
	Body   []byte
	Header map[string]string // those asked for that were there
}

// Get gives the document from the cache or from the network.
func (c *Client) Get(ctx context.Context, r Request) (Document, error) {
	if r.Body == nil {
		if d, ok := c.cached(r); ok {
			return d, nil
		}
	}
	var last error
	var status int
	for n := 1; ; n++ {
		d, wait, err := c.attempt(ctx, r)
		if err == nil {
			return d, nil
		}
		last = err.cause
		status = err.status
		if ctx.Err() != nil {
			last = context.Cause(ctx)
		}
		if !err.again || n >= c.attempts || ctx.Err() != nil {
			return Document{}, &Error{What: r.What, URL: r.URL, Status: status, Attempts: n, Next: r.Next, Cause: last}
		}
		if wait <= 0 {
			wait = min(firstPause<<(n-1), longestPause)
		}
		if cause := c.sleep(ctx, wait); cause != nil {
			return Document{}, &Error{What: r.What, URL: r.URL, Status: status, Attempts: n, Next: r.Next, Cause: errors.Join(cause, last)}
		}
	}
}

// failure is one attempt that did not give the document.
type failure struct {
	cause  error
	status int
	again  bool
}

func (c *Client) attempt(ctx context.Context, r Request) (Document, time.Duration, *failure) {
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	request, err := newRequest(ctx, r)
	if err != nil {
		return Document{}, 0, &failure{cause: err}
	}
	response, err := c.http.Do(request)
	if err != nil {
		return Document{}, 0, &failure{cause: withoutURL(err), again: true}
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		again := response.StatusCode >= http.StatusInternalServerError || response.StatusCode == http.StatusTooManyRequests ||
			response.StatusCode == http.StatusRequestTimeout
		return Document{}, c.retryAfter(response.Header.Get("Retry-After")),
			&failure{cause: fmt.Errorf("the server answered %d, want 200", response.StatusCode), status: response.StatusCode, again: again}
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, r.Limit+1))
	if err != nil {
		return Document{}, 0, &failure{cause: fmt.Errorf("reading the answer: %w", err), status: response.StatusCode, again: true}
	}
	if int64(len(body)) > r.Limit {
		return Document{}, 0, &failure{cause: fmt.Errorf("the answer is longer than %d bytes", r.Limit), status: response.StatusCode}
	}
	d := Document{Body: body, Header: map[string]string{}}
	for _, name := range r.Keep {
		if v := response.Header.Get(name); v != "" {
			d.Header[name] = v
		}
	}
	until, err := r.Accept(d)
	if err != nil {
		return Document{}, 0, &failure{cause: fmt.Errorf("the answer is something else: %w", err), status: response.StatusCode}
	}
	if r.Body == nil && until.After(c.now()) {
		c.cache.Put(r.URL, Entry{Document: d, Until: until})
	}
	return d, 0, nil
}

func newRequest(ctx context.Context, r Request) (*http.Request, error) {
	method, body := http.MethodGet, io.Reader(http.NoBody)
	if r.Body != nil {
		method, body = http.MethodPost, bytes.NewReader(r.Body)
	}
	request, err := http.NewRequestWithContext(ctx, method, r.URL, body)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	for name, value := range r.Header {
		request.Header.Set(name, value)
	}
	return request, nil
}

// cached gives a document of the cache that is still good and still accepted: a cache on disk is as foreign as a
// server.
func (c *Client) cached(r Request) (Document, bool) {
	e, ok := c.cache.Get(r.URL)
	if !ok || !e.Until.After(c.now()) || int64(len(e.Body)) > r.Limit {
		return Document{}, false
	}
	until, err := r.Accept(e.Document)
	if err != nil || !until.After(c.now()) {
		return Document{}, false
	}
	return e.Document, true
}

// retryAfter reads the header of that name (RFC 9110, section 10.2.3): seconds or a date. 0 means that it says nothing
// of use.
func (c *Client) retryAfter(v string) time.Duration {
	if v == "" {
		return 0
	}
	if d, err := time.ParseDuration(v + "s"); err == nil {
		return min(max(d, 0), longestPause)
	}
	if t, err := http.ParseTime(v); err == nil {
		return min(max(t.Sub(c.now()), 0), longestPause)
	}
	return 0
}

// withoutURL drops the address that net/http repeats in front of its errors.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// Sleep waits for d or until ctx ends, and then returns the context's cause.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
