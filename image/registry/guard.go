// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// maxHops bounds how often a registry can lead on.
const maxHops = 5

// guard looks at each request before it leaves, whoever made it: the puller, or the library that fetches tokens and
// uploads. What it lets pass goes over TLS to the registry's own site. A blob may come from elsewhere, to whom no credential
// goes, as registries keep blobs in other companies' stores.
type guard struct {
	inner http.RoundTripper
	host  string // of the registry, with its port if it has one
	blobs string // path of the repository's blobs
}

var _ http.RoundTripper = guard{}

// elsewhereError says where a registry leads to.
type elsewhereError struct{ to string }

// Error implements error.
func (e *elsewhereError) Error() string { return fmt.Sprintf("%s: %.200q", ErrElsewhere, e.to) }

// Is makes it an [ErrElsewhere].
func (e *elsewhereError) Is(target error) bool { return target == ErrElsewhere }

// RoundTrip implements [http.RoundTripper].
func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := g.judge(r); err != nil {
		if r.Body != nil {
			err = errors.Join(err, r.Body.Close())
		}
		return nil, err
	}
	response, err := g.inner.RoundTrip(r)
	if err != nil {
		return nil, err //nolint:wrapcheck // a transport in front of another hands its errors on.
	}
	response.Body = &bounded{ReadCloser: response.Body, left: MaxBundle + 1}
	return response, nil
}

func (g guard) judge(r *http.Request) error {
	switch {
	case r.URL.Scheme != "https":
		if r.Response == nil {
			return errors.New("a registry is asked over https only") // the library tries both ways on loopback
		}
	case g.home(r.URL.Host):
		return nil
	case g.isBlob(r) && r.Header.Get("Authorization") == "":
		return nil
	}
	return &elsewhereError{to: r.URL.Scheme + "://" + r.URL.Host}
}

// home reports whether a host is the registry or one of the same registrable domain, at any port: registries have their
// tokens from a sibling (auth.docker.io for index.docker.io) or from the same name (GitLab).
func (g guard) home(host string) bool {
	own, other := site(g.host), site(host)
	return host == g.host || own != "" && own == other
}

// site gives the registrable domain of a host, and nothing for an address.
func site(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	domain, err := publicsuffix.EffectiveTLDPlusOne(host) // an address has none
	if err != nil {
		return ""
	}
	return domain
}

// isBlob reports whether the registry led here when it was asked for a blob.
func (g guard) isBlob(r *http.Request) bool {
	first := r
	for first.Response != nil && first.Response.Request != nil {
		first = first.Response.Request
	}
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && g.home(first.URL.Host) && strings.HasPrefix(first.URL.Path, g.blobs)
}

// follow is the rule for redirections: over TLS, and not for long.
func follow(next *http.Request, before []*http.Request) error {
	if next.URL.Scheme != "https" || len(before) > maxHops {
		return &elsewhereError{to: next.URL.Scheme + "://" + next.URL.Host}
	}
	return nil
}

// bounded ends an answer that does not end.
type bounded struct {
	io.ReadCloser
	left int64 // bytes
}

// Read implements [io.Reader].
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("the answer does not end")
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err //nolint:wrapcheck // io.EOF is compared by identity.
}
