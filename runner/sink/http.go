// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/runner"
)

// How patient the sink is with its server: the time of one exchange, how often a PUT is repeated, and the first pause.
const (
	timeout   = 60 * time.Second
	retries   = 3
	firstWait = time.Second
)

// errAgain wraps what may go better the next time: no answer, or 5xx.
var errAgain = errors.New("the sink may not have stored it")

type httpSink struct {
	base   *url.URL
	client *http.Client
	sleep  func(ctx context.Context, d time.Duration) error
}

var _ runner.Sink = (*httpSink)(nil)

func newHTTP(base *url.URL, roots *x509.CertPool) *httpSink {
	return &httpSink{base: base, sleep: sleep, client: &http.Client{
		Timeout:       timeout,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Put implements [runner.Sink]. The server must answer 200, 201 or 204; 409 and 412 mean that something exists under the
// name, which is read to see whether it is the same. A PUT that creates only may be repeated: it is, up to three times,
// when there is no answer or one of 5xx.
func (s *httpSink) Put(ctx context.Context, environment binding.Digest, name string, data []byte) error {
	if !names.MatchString(name) {
		return fmt.Errorf("record file name %q is not allowed", name)
	}
	u := *s.base
	u.Path, u.RawPath = path.Join("/", u.Path, environment.String(), name), ""
	target := u.String()
	wait := firstWait
	for try := 0; ; try++ {
		err := s.put(ctx, target, data)
		switch {
		case errors.Is(err, ErrConflict) && s.holds(ctx, target, data):
			return nil
		case err == nil:
			return nil
		case !errors.Is(err, errAgain) || try == retries || ctx.Err() != nil:
			return fmt.Errorf("putting %s: %w", name, err)
		}
		if waitErr := s.sleep(ctx, wait); waitErr != nil {
			return fmt.Errorf("putting %s: %w", name, errors.Join(err, waitErr))
		}
		wait *= 2
	}
}

// put asks once.
func (s *httpSink) put(ctx context.Context, target string, data []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, target, bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("making sink request: %w", err)
	}
	req.Header.Set("Content-Type", "application/jsonl")
	req.Header.Set("If-None-Match", "*")
	resp, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errAgain, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusCreated, resp.StatusCode == http.StatusNoContent:
		return nil
	case resp.StatusCode == http.StatusConflict, resp.StatusCode == http.StatusPreconditionFailed:
		return ErrConflict
	case resp.StatusCode >= http.StatusInternalServerError:
		return fmt.Errorf("%w: it answered %s", errAgain, resp.Status)
	}
	return fmt.Errorf("the sink answered %s", resp.Status)
}

// holds reports whether the server shows exactly data. A server that does not show what it stores makes every conflict a
// conflict.
func (s *httpSink) holds(ctx context.Context, target string, data []byte) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return false
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	have, err := io.ReadAll(io.LimitReader(resp.Body, int64(len(data))+1))
	return err == nil && resp.StatusCode == http.StatusOK && bytes.Equal(have, data)
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
