// SPDX-License-Identifier: Apache-2.0

package github

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/job/pinned"
)

func TestBadConfig(t *testing.T) {
	t.Parallel()
	good := func() Config {
		return Config{
			URL: "https://github.example", APIURL: "https://api.example", Scope: Repo, Target: "a/b", RunnerGroup: 1, Labels: []string{"l"},
			Hosts: pinned.Hosts{"github.example", "api.example"}, Credential: Credential{Token: secret.New("t")},
		}
	}
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no url":             func(c *Config) { c.URL = "" },
		"http":               func(c *Config) { c.APIURL = "http://api.example" },
		"host not pinned":    func(c *Config) { c.APIURL = "https://evil.test" },
		"no scope":           func(c *Config) { c.Scope = "" },
		"unknown scope":      func(c *Config) { c.Scope = "user" },
		"repo as enterprise": func(c *Config) { c.Scope = Enterprise },
		"App of an enterprise": func(c *Config) {
			c.Scope, c.Target = Enterprise, "a"
			c.Credential = Credential{App: &App{ID: 1, InstallationID: 1, PrivateKey: pemOf(t, "PRIVATE KEY", pkcs8(t, runnerKey()))}}
		},
		"fine-grained token of an enterprise": func(c *Config) { c.Scope, c.Target, c.Credential.Token = Enterprise, "a", secret.New("github_pat_1") },
		"climbing organisation":               func(c *Config) { c.Scope, c.Target = Org, ".." },
		"repo as org":                         func(c *Config) { c.Scope = Org },
		"org as repo":                         func(c *Config) { c.Target = "a" },
		"climbing target":                     func(c *Config) { c.Target = "a/.." },
		"no group":                            func(c *Config) { c.RunnerGroup = 0 },
		"no labels":                           func(c *Config) { c.Labels = nil },
		"empty label":                         func(c *Config) { c.Labels = []string{""} },
		"101 labels":                          func(c *Config) { c.Labels = strings.Split(strings.Repeat("l,", 100)+"l", ",") },
		"no credential":                       func(c *Config) { c.Credential = Credential{} },
		"two credentials":                     func(c *Config) { c.Credential.App = &App{ID: 1, InstallationID: 1, PrivateKey: secret.New("k")} },
		"half an App":                         func(c *Config) { c.Credential = Credential{App: &App{ID: 1}} },
		"no key in PEM": func(c *Config) {
			c.Credential = Credential{App: &App{ID: 1, InstallationID: 1, PrivateKey: secret.New("k")}}
		},
	} {
		c := good()
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestServers asks each kind of server at the address that its documentation gives for its REST API.
func TestServers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		url, api, host, path, page string
		scope                      Scope
		target                     string
	}{
		"github.com":               {"https://github.com", "https://api.github.com", "api.github.com", "/repos/a/b/actions/runners/7", "https://github.com/a/b", Repo, "a/b"},
		"github.com, organisation": {"https://github.com/", "https://api.github.com/", "api.github.com", "/orgs/a/actions/runners/7", "https://github.com/a", Org, "a"},
		"github.com, enterprise":   {"https://github.com", "https://api.github.com", "api.github.com", "/enterprises/a-inc/actions/runners/7", "https://github.com/enterprises/a-inc", Enterprise, "a-inc"},
		"data residency":           {"https://octo.ghe.com", "https://api.octo.ghe.com", "api.octo.ghe.com", "/orgs/a/actions/runners/7", "https://octo.ghe.com/a", Org, "a"},
		"Enterprise Server":        {"https://git.example", "https://git.example/api/v3", "git.example", "/api/v3/repos/a/b/actions/runners/7", "https://git.example/a/b", Repo, "a/b"},
		"Enterprise Server, org":   {"https://git.example", "https://git.example/api/v3/", "git.example", "/api/v3/orgs/a/actions/runners/7", "https://git.example/a", Org, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hosts := []string{strings.Trim(strings.TrimPrefix(tc.url, "https://"), "/"), tc.host}
			authority, err := fakegithub.NewAuthority(hosts, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			var asked []string
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r.Host+r.URL.Path)
				answer(200, runnerJSON{ID: 7, Status: "online"})(w, r)
			}))
			srv.TLS = authority.TLS()
			srv.StartTLS()
			t.Cleanup(srv.Close)
			cl, err := New(Config{
				URL: tc.url, APIURL: tc.api, Scope: tc.scope, Target: tc.target, RunnerGroup: 1, Labels: []string{"l"}, Hosts: pinned.Hosts(hosts),
				Credential: Credential{Token: secret.New("ghp_t")}, Roots: authority.Pool(),
				Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, srv.Listener.Addr().String())
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(cl.Close)
			if got, err := cl.Observe(t.Context(), runner.Registration{ID: 7}); err != nil || got != runner.SightIdle {
				t.Errorf("got %q, %v", got, err)
			}
			if !slices.Equal(asked, []string{tc.host + tc.path}) || cl.Place().URL != tc.page {
				t.Errorf("asked %q for %s", asked, cl.Place().URL)
			}
		})
	}
}
