// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	wire "github.com/kettle/attest/attest/admission"
	"github.com/kettle/attest/attest/refusal"
)

// Times of one exchange. An admission waits for other machines' and for GitHub.
const (
	handshakeTime = 15 * time.Second
	exchangeTime  = 2 * time.Minute
)

// newHTTP makes a client of the one server. It reads no proxy from the environment, follows no redirect, keeps no cookie.
func newHTTP(c Config) *http.Client {
	return &http.Client{
		Timeout:       exchangeTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: c.Dial, TLSHandshakeTimeout: handshakeTime, MaxConnsPerHost: 1, MaxResponseHeaderBytes: 16 << 10, DisableCompression: true,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: c.Roots, Time: c.Now, NextProtos: []string{"http/1.1"}},
		},
	}
}

// againError says that nothing is known to be decided: another try may succeed.
type againError struct {
	cause error
	after time.Duration // that the dispatcher asks for
}

// Error implements error.
func (e *againError) Error() string { return "asking the dispatcher: " + e.cause.Error() }

// Unwrap gives the cause.
func (e *againError) Unwrap() error { return e.cause }

// post makes one exchange and gives the body of a good answer. Its error is a refusal, an [*againError], or one that no
// other try mends.
func (c *Client) post(ctx context.Context, path, media string, body []byte, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.config.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("asking the dispatcher: %w", err)
	}
	req.Header.Set("Content-Type", media)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unreachable(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		limit = wire.MaxRefusal
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, &againError{cause: err}
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("asking the dispatcher: it answered %d with more than %d bytes", resp.StatusCode, limit)
	}
	if resp.StatusCode == http.StatusOK {
		return text, nil
	}
	return nil, c.refused(resp, text)
}

// refused reads an answer that gives nothing.
func (c *Client) refused(resp *http.Response, text []byte) error {
	after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	r, err := wire.ParseRefusal(text)
	if err != nil { // not the dispatcher itself, perhaps something before it
		err = fmt.Errorf("it answered %d", resp.StatusCode)
		if resp.StatusCode < http.StatusInternalServerError && resp.StatusCode != http.StatusTooManyRequests {
			return fmt.Errorf("asking the dispatcher: %w", err)
		}
		return &againError{cause: err, after: time.Duration(after) * time.Second}
	}
	if r.Final {
		return r.Err()
	}
	return &againError{cause: r.Err(), after: time.Duration(after) * time.Second}
}

// unreachable says what an exchange without an answer means. A certificate that does not lead to the roots is final.
func unreachable(err error) error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return (&refusal.Refusal{
			Link: "clock", Code: refusal.Expired, Want: "a dispatcher's certificate that is valid now", Got: "one that is not, by this machine's clock",
			Next: "renew the certificate; if it is good, the host gives this machine another time than it is",
		}).Because(err)
	}
	var verification *tls.CertificateVerificationError
	if errors.As(err, &verification) {
		return (&refusal.Refusal{
			Link: link, Code: refusal.Chain, Want: "a dispatcher whose certificate leads to credential.roots of the configuration, for its name", Got: "another",
			Next: "compare credential.url and credential.roots with the dispatcher's certificate; if they are right, something stands between",
		}).Because(err)
	}
	return &againError{cause: err}
}
