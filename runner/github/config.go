// SPDX-License-Identifier: Apache-2.0

// Package github is the adapter between kettled and GitHub's REST API.
//
// Guarantees: requests go over TLS to pinned hosts only; a JIT configuration leaves [Client.Register] only after it was
// rebuilt from checked fields (see [RebuildJIT]); after a registration whose outcome is unknown, what is left of it is
// looked for by its name and removed; [Client.Remove] says nil only after GitHub, asked again, showed no such runner; an
// answer of GitHub about a job, a run or a repository is passed on without interpretation, its identifiers unchanged.
// The pauses that GitHub asks for are kept, within bounds. Errors carry GitHub's request id and the permission that is
// missing, never a credential.
//
// Trusts: GitHub's answers over TLS under the credential it was given, its clock (the Date of its answers) included. It
// does not decide which job is accepted, and it does not believe anything that a job said. It is the only importer of
// go-github, and holds the App's key in production.
package github

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

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
	Repo       Scope = "repo"
	Org        Scope = "org"
	Enterprise Scope = "enterprise"
)

// Config is what the adapter needs from the measured configuration, and the credential. All fields but Roots and Dial
// are required.
type Config struct {
	URL         string // of the server: https://github.com, https://SUB.ghe.com or https://HOST
	APIURL      string // of the REST API: https://api.github.com, https://api.SUB.ghe.com or https://HOST/api/v3
	Scope       Scope
	Target      string   // "owner/repository", "organisation" or "enterprise"
	RunnerGroup int64    // 1 is the default group, and the only one of a repository
	Labels      []string // 1 to 100; all that the runner has, GitHub adds none
	Hosts       pinned.Hosts
	Credential  Credential
	Roots       *x509.CertPool                                                    // nil means the system's
	Dial        func(ctx context.Context, network, addr string) (net.Conn, error) // nil means a plain dialler
	Minted      func(token secret.String)                                         // told of each token that GitHub makes for an App; nil tells nobody
}

// accountName is an organisation's or an enterprise's name in URLs.
var accountName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,99}$`)

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
	switch c.Scope {
	case Repo:
		if !job.ValidRepository(c.Target) {
			fault("target %q of scope repo is not owner/repository", c.Target)
		}
	case Org, Enterprise:
		if !accountName.MatchString(c.Target) {
			fault("target %q of scope %s is not the name of one", c.Target, c.Scope)
		}
	default:
		fault("scope %q is none of repo, org and enterprise", c.Scope)
	}
	if c.RunnerGroup < 1 {
		fault("runnerGroup is required: the id of the group, 1 for the default one")
	}
	if len(c.Labels) < 1 || len(c.Labels) > 100 || slices.Contains(c.Labels, "") {
		fault("labels: 1 to 100, none of them empty")
	}
	if err := c.Credential.validate(c.Scope); err != nil {
		fault("%w", err)
	}
	return errors.Join(errs...)
}

// Client speaks to GitHub for one environment.
type Client struct {
	api    *gogithub.Client
	wire   *wire
	config Config
	clock  clock
}

// clock is time, for tests to replace.
type clock struct {
	now   func() time.Time
	sleep func(ctx context.Context, d time.Duration) error
}

// New makes a client.
func New(c Config) (*Client, error) { return newClient(c, clock{now: time.Now, sleep: sleep}) }

func newClient(c Config, clock clock) (*Client, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	base, err := pinned.Client(pinned.Config{Hosts: c.Hosts, Roots: c.Roots, Dial: c.Dial})
	if err != nil {
		return nil, err
	}
	closeBase := base.CloseIdleConnections
	authorised, err := authenticate(&pace{next: base.Transport, clock: clock}, c, clock)
	if err != nil {
		return nil, err
	}
	w, err := newWire(c, authorised, clock)
	if err != nil {
		return nil, err
	}
	w.closers = append(w.closers, closeBase)
	base.Transport = &etags{next: authorised}
	api := gogithub.NewClient(base)
	if api.BaseURL, err = url.Parse(strings.TrimSuffix(c.APIURL, "/") + "/"); err != nil {
		return nil, fmt.Errorf("reading apiUrl: %w", err)
	}
	api.UserAgent = agent
	return &Client{api: api, wire: w, config: c, clock: clock}, nil
}

// agent names this program to GitHub.
const agent = "kettled"

// Close closes idle connections.
func (c *Client) Close() {
	for _, end := range c.wire.closers {
		end()
	}
}

// Place is where a client registers runners.
type Place struct {
	URL    string // of the repository, organisation or enterprise, as its page in a browser
	APIURL string
	Group  int64
	Labels []string
	Hosts  pinned.Hosts
	Needs  string // what the credential needs there, in words
}

// Place tells where the client registers runners.
func (c *Client) Place() Place {
	page := strings.TrimSuffix(c.config.URL, "/") + "/"
	if c.config.Scope == Enterprise {
		page += "enterprises/"
	}
	return Place{
		URL: page + c.config.Target, APIURL: strings.TrimSuffix(c.config.APIURL, "/"), Group: c.config.RunnerGroup,
		Labels: slices.Clone(c.config.Labels), Hosts: slices.Clone(c.config.Hosts), Needs: c.need().String(),
	}
}

// Wire is the client's way to GitHub for a protocol beside REST: pinned hosts only, with the pauses that GitHub asked
// for. A request to the REST API that carries no Authorization gets the client's credential; one to another host never
// does. An exchange may take as long as a message is waited for.
func (c *Client) Wire() http.RoundTripper { return c.wire }

// pollTime bounds one exchange over the wire: GitHub holds a poll for messages for 50 seconds.
const pollTime = 90 * time.Second

type wire struct {
	api        *url.URL
	authorised http.RoundTripper
	plain      http.RoundTripper
	closers    []func()
}

func newWire(c Config, authorised http.RoundTripper, clock clock) (*wire, error) {
	patient, err := pinned.Client(pinned.Config{Hosts: c.Hosts, Roots: c.Roots, Dial: c.Dial, Timeout: pollTime})
	if err != nil {
		return nil, err
	}
	api, err := c.Hosts.Parse(c.APIURL)
	if err != nil {
		return nil, fmt.Errorf("reading apiUrl: %w", err)
	}
	return &wire{
		api: api, authorised: authorised, plain: &pace{next: patient.Transport, clock: clock}, closers: []func(){patient.CloseIdleConnections},
	}, nil
}

// RoundTrip implements [http.RoundTripper].
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	below := strings.TrimSuffix(w.api.Path, "/") + "/"
	if r.Header.Get("Authorization") == "" && r.URL.Scheme == w.api.Scheme && r.URL.Host == w.api.Host && strings.HasPrefix(r.URL.Path, below) {
		return w.authorised.RoundTrip(r)
	}
	return w.plain.RoundTrip(r)
}
