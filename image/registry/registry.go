// SPDX-License-Identifier: Apache-2.0

// Package registry takes the bundle of an image from an OCI registry, and puts it there.
//
// A bundle stands in a registry as one artefact of [ArtifactType]: a manifest (OCI image specification 1.1, “Guidelines for
// Artifact Usage”) without a configuration, each of whose layers is one Sigstore bundle. A [Reference] names it; one without
// a tag serves every image, as the root hash of an image's file system gives the tag.
//
// It guarantees that [Client.Pull] asks over TLS only, at the host that the reference names or one of the same registrable
// domain; that a blob alone may come from elsewhere, over TLS and without a credential; that what is read is bounded before
// it is read; and that each layer has the length and the SHA-256 that its manifest says. A [Client] reads no file, no keychain
// and no variable of the environment unless it is told to. [Client.Push] writes the same bytes for the same bundles in any order.
//
// It trusts nobody for what the bundles say: a registry may hold back, swap or invent artefacts, and whoever pulls one
// verifies the signatures in it. It trusts the library go-containerregistry for how a token of a registry is fetched, and
// looks at each request that the library makes. It is the only importer of that library.
package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/kettle/attest/attest/refusal"
)

// What an error of [Client.Pull] and [Client.Push] may match. What the registry holds and is no artefact of ours is a
// refusal with the link “registry” and the code missing, malformed or binding.
var (
	// ErrElsewhere means that the registry leads to a host that is not asked, away from TLS, or in circles.
	ErrElsewhere = errors.New("the registry leads elsewhere than to itself over https")
	// ErrDenied means that the registry refuses whoever asks.
	ErrDenied = errors.New("the registry refuses")
	// ErrDown means that the registry cannot be asked, or does not answer as a registry.
	ErrDown = errors.New("the registry does not answer as it should")
)

// Client asks registries. The zero value is anonymous and trusts the system's roots.
type Client struct {
	Roots *x509.CertPool // of the registry's TLS authority; nil means the system's

	keychain authn.Keychain // nil: nobody is shown to be anybody
	proxy    func(*http.Request) (*url.URL, error)
}

// AsPerson gives the client for a person's tool: credentials come from Docker's configuration and its helpers, a proxy from
// the environment. A program that never calls it links neither.
func (c Client) AsPerson() Client {
	c.keychain, c.proxy = authn.DefaultKeychain, http.ProxyFromEnvironment
	return c
}

// maxHeader bounds the head of an answer in bytes.
const maxHeader = 64 << 10

// wire gives the guarded transport to the registry of a tag, and what ends its connections.
func (c Client) wire(tag name.Tag) (guard, func()) {
	inner := &http.Transport{
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.Roots},
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true, // a few bytes never become many
		Proxy:                  c.proxy,
	}
	return guard{inner: inner, host: tag.RegistryStr(), blobs: "/v2/" + tag.RepositoryStr() + "/blobs/"}, inner.CloseIdleConnections
}

// credential gives what the registry is shown.
func (c Client) credential(ctx context.Context, tag name.Tag) (authn.Authenticator, error) {
	if c.keychain == nil {
		return authn.Anonymous, nil
	}
	a, err := authn.Resolve(ctx, c.keychain, tag.Registry)
	if err != nil {
		return nil, fmt.Errorf("looking for the credential of %s: %w", tag.RegistryStr(), err)
	}
	return a, nil
}

// failure is what a registry did wrong. Its text repeats what a stranger said in quotes, and not much of it.
type failure struct {
	kind  error
	cause error // nil where the registry's answer is all there is
	said  string
}

// Error implements error.
func (f *failure) Error() string { return f.kind.Error() + ": " + f.said }

// Unwrap implements errors.Unwrap.
func (f *failure) Unwrap() []error {
	if f.cause == nil {
		return []error{f.kind}
	}
	return []error{f.kind, f.cause}
}

// explain says what an error of the library or of the transport means.
func explain(err error) error {
	var answer *transport.Error
	var away *elsewhereError
	switch {
	case errors.As(err, &away):
		return away
	case errors.As(err, &answer):
		return status(answer.StatusCode, err)
	}
	return &failure{kind: ErrDown, cause: err, said: fmt.Sprintf("%.400q", err.Error())}
}

// status says what an answer means that is not the one that was asked for.
func status(code int, cause error) error {
	kind := ErrDown
	if code == http.StatusUnauthorized || code == http.StatusForbidden {
		kind = ErrDenied
	}
	return &failure{kind: kind, cause: cause, said: fmt.Sprintf("it answers %d %s", code, http.StatusText(code))}
}

const link = "registry"

// Next sentences of refusals.
const (
	nextPush  = "push the image's bundle with kettle image push, under the name that is asked for"
	nextOurs  = "name an artefact that kettle image push wrote"
	nextAgain = "push the image's bundle again; if that changes nothing, the registry or the way to it is not to be relied upon"
)

func missing(want string) *refusal.Refusal {
	return &refusal.Refusal{Link: link, Code: refusal.Missing, Want: want, Got: "none", Next: nextPush}
}

func malformed(want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: link, Code: refusal.Malformed, Want: want, Got: got, Next: nextOurs}
}

func altered(want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: link, Code: refusal.Binding, Want: want, Got: got, Next: nextAgain}
}
