// SPDX-License-Identifier: Apache-2.0

// Package github is the adapter between kettled and GitHub's REST API.
//
// Guarantees: requests go over TLS to pinned hosts only; a JIT configuration leaves [Client.Register] only after it was
// rebuilt from checked fields (see [RebuildJIT]); an answer of GitHub about a job, a run or a repository is passed on
// without interpretation, its identifiers unchanged. Errors carry GitHub's request id, never a credential.
//
// Trusts: GitHub's answers over TLS under the credential it was given. It does not decide which job is accepted, and it
// does not believe anything that a job said. It is the only importer of go-github and ghinstallation.
package github

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bradleyfalzon/ghinstallation/v2"
	gogithub "github.com/google/go-github/v60/github"

	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/job"
	"github.com/kettle/attest/runner/job/pinned"
)

// The adapter stands behind these ports.
var (
	_ runner.Registrar = (*Client)(nil)
	_ job.API          = (*Client)(nil)
)

// Scope says where the runner is registered.
type Scope string

// The scopes.
const (
	Repo Scope = "repo"
	Org  Scope = "org"
)

// App is a GitHub App's installation.
type App struct {
	ID             int64
	InstallationID int64
	PrivateKey     secret.String // PEM
}

// Credential is exactly one of a token and an App.
type Credential struct {
	Token secret.String
	App   *App
}

// Config is what the adapter needs from the measured configuration, and the credential. All fields but Roots and Dial
// are required.
type Config struct {
	URL         string // of the server, as https://github.com
	APIURL      string // of the REST API, as https://api.github.com or https://HOST/api/v3
	Scope       Scope
	Target      string   // "owner/repository" or "organisation"
	RunnerGroup int64    // 1 is the default group, and the only one of a repository
	Labels      []string // 1 to 100
	Hosts       pinned.Hosts
	Credential  Credential
	Roots       *x509.CertPool                                                    // nil means the system's
	Dial        func(ctx context.Context, network, addr string) (net.Conn, error) // nil means a plain dialler
}

// Validate reports every fault.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("github configuration: "+format, args...))
	}
	for name, raw := range map[string]string{"url": c.URL, "apiUrl": c.APIURL} {
		if _, err := c.Hosts.Parse(raw); err != nil {
			fault("%s %q: %w", name, raw, err)
		}
	}
	switch {
	case c.Scope == Repo && job.ValidRepository(c.Target), c.Scope == Org && job.ValidRepository(c.Target+"/x"):
	case c.Scope == Repo:
		fault("target %q of scope repo is not owner/repository", c.Target)
	case c.Scope == Org:
		fault("target %q of scope org is not an organisation", c.Target)
	default:
		fault("scope %q is neither repo nor org", c.Scope)
	}
	if c.RunnerGroup < 1 {
		fault("runnerGroup is required: the id of the group, 1 for the default one")
	}
	if len(c.Labels) < 1 || len(c.Labels) > 100 || slices.Contains(c.Labels, "") {
		fault("labels: 1 to 100, none of them empty")
	}
	hasToken, app := !c.Credential.Token.Empty(), c.Credential.App
	if hasToken == (app != nil) {
		fault("exactly one of a token and an App is the credential")
	}
	if app != nil && (app.ID < 1 || app.InstallationID < 1 || app.PrivateKey.Empty()) {
		fault("an App needs its id, its installation's id and its private key")
	}
	return errors.Join(errs...)
}

// Client speaks to GitHub for one environment.
type Client struct {
	api    *gogithub.Client
	config Config
	clock  clock
}

// clock is time, for tests to replace.
type clock struct {
	now   func() time.Time
	sleep func(ctx context.Context, d time.Duration) error
}

// New makes a client.
func New(c Config) (*Client, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	base, err := pinned.Client(pinned.Config{Hosts: c.Hosts, Roots: c.Roots, Dial: c.Dial})
	if err != nil {
		return nil, err
	}
	retrying := &retry{next: base.Transport, sleep: sleep}
	if base.Transport, err = authenticate(retrying, c); err != nil {
		return nil, err
	}
	api := gogithub.NewClient(base)
	if api.BaseURL, err = url.Parse(strings.TrimSuffix(c.APIURL, "/") + "/"); err != nil {
		return nil, fmt.Errorf("reading apiUrl: %w", err)
	}
	api.UserAgent = "kettled"
	return &Client{api: api, config: c, clock: clock{now: time.Now, sleep: sleep}}, nil
}

// authenticate adds the credential to every request.
func authenticate(next http.RoundTripper, c Config) (http.RoundTripper, error) {
	app := c.Credential.App
	if app == nil {
		return &bearer{token: c.Credential.Token, next: next}, nil
	}
	tr, err := ghinstallation.New(next, app.ID, app.InstallationID, []byte(app.PrivateKey.Reveal()))
	if err != nil {
		return nil, errors.New("reading the App's private key: it is no PEM of an RSA key")
	}
	tr.BaseURL = strings.TrimSuffix(c.APIURL, "/")
	return tr, nil
}

// bearer sends a token.
type bearer struct {
	token secret.String
	next  http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token.Reveal())
	return b.next.RoundTrip(r)
}

// Close closes idle connections.
func (c *Client) Close() { c.api.Client().CloseIdleConnections() }
