// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/runner"
)

// How patient the sink is with its server: the time of one exchange and of its parts, how often a PUT is made, the first
// pause and the longest one. A server that asks for a longer pause is down for whoever has a record to deliver.
const (
	timeout    = 60 * time.Second
	dialTime   = 10 * time.Second
	answerTime = 30 * time.Second
	tries      = 4
	firstWait  = time.Second
	maxWait    = 30 * time.Second
	maxHeader  = 64 << 10
)

type httpSink struct {
	base   *url.URL
	client *http.Client
	sleep  func(ctx context.Context, d time.Duration) error
	now    func() time.Time
	jitter func(d time.Duration) time.Duration
}

var _ runner.Sink = (*httpSink)(nil)

func newHTTP(base *url.URL, roots *x509.CertPool) *httpSink {
	transport := &http.Transport{
		DialContext:     (&net.Dialer{Timeout: dialTime}).DialContext,
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, TLSHandshakeTimeout: dialTime,
		ResponseHeaderTimeout: answerTime, MaxResponseHeaderBytes: maxHeader, DisableKeepAlives: true, DisableCompression: true,
	}
	return &httpSink{base: base, sleep: sleep, now: time.Now, jitter: jitter, client: &http.Client{
		Timeout: timeout, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Put implements [runner.Sink]. The server must answer 200, 201 or 204; 409 and 412 mean that something exists under the
// name, which is read to see whether it is the same. A PUT that creates only may be repeated: it is, up to three times and
// with growing pauses, when there is no whole answer or one that may be another the next time. Redirects are not followed.
func (s *httpSink) Put(ctx context.Context, environment binding.Digest, name string, data []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	u := *s.base
	u.Path, u.RawPath = path.Join("/", u.Path, environment.String(), name), ""
	target := u.String()
	for try := 1; ; try++ {
		err := s.try(ctx, target, name, data)
		var down *downError
		if err == nil || !errors.As(err, &down) || down.final || try == tries {
			return wrap(ctx, name, err)
		}
		wait, ok := s.pause(ctx, try, down.after)
		if !ok {
			return wrap(ctx, name, err)
		}
		if waitErr := s.sleep(ctx, wait); waitErr != nil {
			return wrap(ctx, name, errors.Join(err, waitErr))
		}
	}
}

// wrap names the file. When the caller has given up, the error says that and not that the sink is down.
func wrap(ctx context.Context, name string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("putting %s: %w", name, ctx.Err())
	}
	return fmt.Errorf("putting %s: %w", name, err)
}

// pause says how long to wait after a try, and whether that is worth it.
func (s *httpSink) pause(ctx context.Context, try int, asked time.Duration) (time.Duration, bool) {
	wait := max(s.jitter(min(firstWait<<(try-1), maxWait)), asked)
	deadline, bounded := ctx.Deadline()
	return wait, ctx.Err() == nil && wait <= maxWait && (!bounded || s.now().Add(wait).Before(deadline))
}

// try asks once, and looks at what is there if the server says that something is.
func (s *httpSink) try(ctx context.Context, target, name string, data []byte) error {
	err := s.put(ctx, target, name, data)
	if !errors.Is(err, ErrConflict) {
		return err
	}
	same, lookErr := s.holds(ctx, target, data)
	if lookErr != nil {
		return lookErr
	}
	if same {
		return nil
	}
	return err
}

func (s *httpSink) put(ctx context.Context, target, name string, data []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, target, bytes.NewReader(data)) // repeatable: GetBody is set
	if err != nil {
		return fmt.Errorf("making sink request: %w", err)
	}
	req.Header.Set("Content-Type", contentType(name))
	req.Header.Set("If-None-Match", "*")
	resp, err := s.client.Do(req)
	if err != nil {
		return unanswered(err)
	}
	defer resp.Body.Close()
	return s.judge(resp)
}

// holds reports whether the server shows exactly data. A server that does not show what it stores makes every conflict a
// conflict; one that does not answer, or not to the end, makes none.
func (s *httpSink) holds(ctx context.Context, target string, data []byte) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return false, fmt.Errorf("making sink request: %w", err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return false, unanswered(err)
	}
	defer resp.Body.Close()
	if err := s.judge(resp); err != nil {
		if errors.Is(err, ErrDown) {
			return false, err
		}
		return false, nil
	}
	have, err := io.ReadAll(io.LimitReader(resp.Body, int64(len(data))+1))
	if err != nil {
		return false, unanswered(err)
	}
	return resp.StatusCode == http.StatusOK && bytes.Equal(have, data), nil
}

// contentType is what the names of a record's files say about them.
func contentType(name string) string {
	switch {
	case strings.HasSuffix(name, ".jsonl"):
		return "application/jsonl"
	case strings.HasSuffix(name, ".json"):
		return "application/json"
	case strings.HasSuffix(name, ".zst"):
		return "application/zstd"
	case strings.HasSuffix(name, ".txt"), strings.HasSuffix(name, ".log"):
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

// jitter takes up to half of d away, so that many environments do not come back to one server at once.
func jitter(d time.Duration) time.Duration {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(d/2)+1))
	if err != nil {
		return d
	}
	return d - time.Duration(n.Int64())
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
