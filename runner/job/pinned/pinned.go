// SPDX-License-Identifier: Apache-2.0

// Package pinned makes HTTP clients that can speak only to named hosts.
//
// Whatever URL reaches such a client, from a configuration, an API answer or a hostile job, a request leaves only over
// TLS 1.2 or newer, only to a host of the list, and a redirect to another host is not followed. Answers are cut at a
// limit and a client waits no longer than its timeout. It trusts the roots it is given; it reads no proxy from the
// environment and keeps no cookies. The package imports only the standard library.
package pinned

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Errors of a request that was not made, or of an answer that was not read.
var (
	ErrHost     = errors.New("host is not pinned")
	ErrScheme   = errors.New("scheme is not https")
	ErrRedirect = errors.New("redirect to another host")
	ErrTooLarge = errors.New("answer is too large")
	// ErrClock means that a certificate is not valid at the time of this machine's clock, which may be what is wrong.
	ErrClock = errors.New("certificate is not valid now")
)

// Hosts are the hosts that may be reached: exact lower-case names, with ":port" unless the port is 443.
type Hosts []string

// Check refuses a URL that is not https, carries user information, or whose host is not of the list.
func (h Hosts) Check(u *url.URL) error {
	if u == nil || u.Scheme != "https" {
		return ErrScheme
	}
	if u.User != nil || u.Opaque != "" {
		return fmt.Errorf("%w: user information or an opaque part", ErrHost)
	}
	host := strings.TrimSuffix(strings.ToLower(u.Host), ":443")
	if host == "" || !slices.Contains(h, host) {
		return fmt.Errorf("%w: %.128q", ErrHost, u.Host)
	}
	return nil
}

// Parse reads an absolute URL and checks it.
func (h Hosts) Parse(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("reading a URL: %w", errors.Unwrap(err))
	}
	return u, h.Check(u)
}

// Config is what a client needs. Hosts is required.
type Config struct {
	Hosts   Hosts
	Roots   *x509.CertPool // nil means the system's, which in the image are measured
	Timeout time.Duration  // of one exchange, body included; zero means 30 seconds
	Limit   int64          // bytes of an answer's body; zero means 8 MiB
	// Dial replaces the dialler; nil means a plain one.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Defaults of [Config].
const (
	DefaultTimeout = 30 * time.Second
	DefaultLimit   = 8 << 20
)

// Client makes a client from a configuration.
func Client(c Config) (*http.Client, error) {
	if len(c.Hosts) == 0 {
		return nil, errors.New("making an HTTP client: no hosts")
	}
	for _, h := range c.Hosts {
		if h == "" || h != strings.ToLower(h) || strings.ContainsAny(h, "/*@ ") || strings.HasSuffix(h, ":443") {
			return nil, fmt.Errorf("making an HTTP client: %q is no lower-case host name", h)
		}
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Limit <= 0 {
		c.Limit = DefaultLimit
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	return &http.Client{
		Transport: &transport{hosts: slices.Clone(c.Hosts), limit: c.Limit, timeout: c.Timeout, next: &http.Transport{
			DialContext: c.Dial, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: c.Timeout,
			TLSClientConfig:        &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
			MaxResponseHeaderBytes: 1 << 20, IdleConnTimeout: 30 * time.Second, MaxIdleConnsPerHost: 2, ForceAttemptHTTP2: true,
		}},
		CheckRedirect: sameHost,
	}, nil
}

// sameHost follows a redirect only to the host that was asked first.
func sameHost(r *http.Request, via []*http.Request) error {
	if len(via) >= 5 || r.URL.Host != via[0].URL.Host || r.URL.Scheme != "https" {
		return ErrRedirect
	}
	return nil
}

type transport struct {
	hosts   Hosts
	limit   int64
	timeout time.Duration
	next    *http.Transport
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.hosts.Check(r.URL); err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), t.timeout)
	resp, err := t.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, dated(err)
	}
	resp.Body = &body{ReadCloser: resp.Body, left: t.limit, end: cancel}
	return resp, nil
}

// dated says of a certificate that is too old or too new what else may be the reason.
func dated(err error) error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return fmt.Errorf("%w: if this machine's clock, at %s, is wrong, correct it: %w", ErrClock, time.Now().UTC().Format(time.RFC3339), err)
	}
	return err
}

// CloseIdleConnections lets [http.Client.CloseIdleConnections] reach the transport below.
func (t *transport) CloseIdleConnections() { t.next.CloseIdleConnections() }

// body fails, instead of ending early, when there is more than the limit. It ends the exchange's context when it is read
// to its end or closed: the timeout of [http.Client] would hold a goroutine until a reader closes it.
type body struct {
	io.ReadCloser
	left int64
	end  context.CancelFunc
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, ErrTooLarge
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		b.end()
		return n - 1, ErrTooLarge
	}
	if err != nil {
		b.end()
	}
	return n, err
}

// Close implements [io.Closer].
func (b *body) Close() error {
	b.end()
	return b.ReadCloser.Close()
}
