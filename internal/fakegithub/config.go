// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/kettle/attest/internal/secret"
)

// Config configures a [Server]. Exactly one of Hosts and Base is set.
type Config struct {
	Hosts Hosts // one DNS name a service, all https
	// Base is one URL for everything, http or https, without a path: make an unstarted httptest.Server, take its listener's
	// address, set the Server as its handler and start it.
	Base     string
	Operator Operator // the person who owns everything here
	Apps     []App    // GitHub Apps with one installation each
	// NewKey makes the RSA keys of the issuer and of registered runners; nil makes fresh 2048-bit ones. Tests that need many
	// save most of their time by lending the same few.
	NewKey func() (*rsa.PrivateKey, error)
	Poll   time.Duration // how long the broker holds a poll without a message; 0 means 50 s, as GitHub does
	Offer  time.Duration // how long a runner may take to acquire a job; 0 means a minute
	Lock   time.Duration // how long a job lasts without a renewal; 0 means ten minutes
	Now    func() time.Time

	Enterprises []Enterprise
	Groups      []Group // runner groups besides the default one, which has identifier 1
	// Keep is how many completed runs are kept, with their jobs, logs and tokens; 0 means all. A run that is forgotten cannot be
	// waited for: keep more than are looked at.
	Keep int
	Log  *slog.Logger // nil discards
}

// Operator is the one user account, with a personal access token that may do everything.
type Operator struct {
	Login string
	ID    int64
	Token secret.String
}

// App is a GitHub App and its one installation.
type App struct {
	ID             int64
	InstallationID int64
	Account        string // the owner whose repositories the installation sees
	Key            *rsa.PublicKey
	Permissions    map[string]string // for example administration: write, actions: read
}

// Hosts are the DNS names of the services.
type Hosts struct {
	Server    string // https://github.com
	API       string // https://api.github.com
	Uploads   string // https://uploads.github.com
	Codeload  string // https://codeload.github.com
	Objects   string // https://objects.githubusercontent.com: release assets
	Issuer    string // https://token.actions.githubusercontent.com
	OAuth     string // https://tokenghub.actions.githubusercontent.com: the runner's own token
	Broker    string // https://broker.actions.githubusercontent.com
	Run       string // https://run-actions-1-….actions.githubusercontent.com
	Pipelines string // https://pipelinesghub….actions.githubusercontent.com
	Launch    string // https://launch.actions.githubusercontent.com
	Results   string // https://results-receiver.actions.githubusercontent.com
	Blobs     string // https://….blob.core.windows.net: logs and summaries
}

// DemoHosts returns the names that the demo uses, all below github.demo.test.
func DemoHosts() Hosts {
	const d = "github.demo.test"
	return Hosts{
		Server: d, API: "api." + d, Uploads: "uploads." + d, Codeload: "codeload." + d, Objects: "objects." + d,
		Issuer: "token.actions." + d, OAuth: "tokenghub.actions." + d, Broker: "broker.actions." + d,
		Run: "run.actions." + d, Pipelines: "pipelines.actions." + d, Launch: "launch.actions." + d,
		Results: "results-receiver.actions." + d, Blobs: "results.blob." + d,
	}
}

// Names returns all names, sorted.
func (h Hosts) Names() []string {
	names := make([]string, 0, int(services))
	for s := range services {
		names = append(names, h.name(s))
	}
	slices.Sort(names)
	return names
}

func (h Hosts) name(s service) string {
	return [services]string{
		h.API, h.Server, h.Uploads, h.Codeload, h.Objects, h.Issuer, h.OAuth, h.Broker, h.Run, h.Pipelines, h.Launch, h.Results, h.Blobs,
	}[s]
}

// Validate reports every fault of the configuration.
func (c *Config) Validate() error {
	var faults []error
	switch hosts := c.Hosts != (Hosts{}); {
	case hosts == (c.Base != ""):
		faults = append(faults, errors.New("exactly one of Hosts and Base must be set"))
	case hosts:
		names := c.Hosts.Names()
		if slices.Contains(names, "") || len(slices.Compact(names)) != int(services) {
			faults = append(faults, errors.New("every service needs a host name of its own"))
		}
	default:
		u, err := url.Parse(c.Base)
		if err != nil || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.Scheme != "http" && u.Scheme != "https" {
			faults = append(faults, fmt.Errorf("base %q is not http(s)://host[:port]", c.Base))
		}
	}
	if c.Operator.Login == "" || c.Operator.ID == 0 || c.Operator.Token.Empty() {
		faults = append(faults, errors.New("the operator needs a login, an identifier and a token"))
	}
	for _, a := range c.Apps {
		if a.ID == 0 || a.InstallationID == 0 || a.Account == "" || a.Key == nil {
			faults = append(faults, fmt.Errorf("app %d needs an identifier, an installation, an account and a key", a.ID))
		}
	}
	for _, g := range c.Groups {
		if g.ID <= defaultGroup || g.Name == "" || g.Owner == "" {
			faults = append(faults, fmt.Errorf("runner group %d needs an identifier above %d, a name and an owner", g.ID, defaultGroup))
		}
	}
	for _, e := range c.Enterprises {
		if e.Slug == "" || len(e.Organizations) == 0 {
			faults = append(faults, fmt.Errorf("enterprise %q needs a slug and an organization", e.Slug))
		}
	}
	if c.Poll < 0 || c.Offer < 0 || c.Lock < 0 || c.Keep < 0 {
		faults = append(faults, errors.New("poll, offer, lock and keep must not be negative"))
	}
	return errors.Join(faults...)
}
