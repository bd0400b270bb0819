// SPDX-License-Identifier: Apache-2.0

package github

import (
	"crypto/x509"
	"errors"
	"io"
	"maps"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
)

// TestMint makes tokens for others: limited as asked, each a new one, by GitHub's clock where this machine's is wrong.
func TestMint(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{"right": 0, "10 minutes ahead": 10 * time.Minute, "2 years behind": -2 * 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &appServer{t: t, life: time.Hour, revoked: map[string]bool{}}
			var mu sync.Mutex
			var asked []string
			srv := fake{"POST /api/v3/app/installations/5/access_tokens": func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				mu.Lock()
				asked = append(asked, string(body))
				mu.Unlock()
				a.token(w, r)
			}}.serve(t)
			cl, p := patientClient(t, srv, func(c *Config) {
				c.Credential = Credential{App: &App{ID: 3, InstallationID: 5, PrivateKey: pemOf(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(runnerKey()))}}
				c.Minted = func(secret.String) { t.Error("told of a token that is not the client's") }
			})
			a.now = func() time.Time { return p.clock().now().Add(-ahead) }
			for _, want := range []string{"inst1", "inst2"} {
				token, ends, err := cl.Mint(t.Context(), cl.Grant())
				if err != nil || token.Reveal() != want || ends.Sub(p.clock().now()) > time.Hour || ends.Sub(p.clock().now()) < 59*time.Minute {
					t.Errorf("%v, ends %s, %v", token.Reveal(), ends, err)
				}
			}
			const want = `{"repositories":["widget"],"permissions":{"actions":"read","administration":"write","contents":"read","metadata":"read"}}`
			if asked[0] != want || asked[len(asked)-1] != want {
				t.Errorf("asked for %q", asked)
			}
		})
	}
}

func TestMintRefused(t *testing.T) {
	t.Parallel()
	srv := fake{"POST /api/v3/app/installations/5/access_tokens": answer(422, map[string]any{"message": "not granted"})}.serve(t)
	app := Credential{App: &App{ID: 3, InstallationID: 5, PrivateKey: pemOf(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(runnerKey()))}}
	cl, _ := patientClient(t, srv, func(c *Config) { c.Credential = app })
	register := cl.Grant()
	if _, _, err := cl.Mint(t.Context(), register); !errors.Is(err, runner.ErrDenied) {
		t.Errorf("%v", err)
	}
	if _, _, err := cl.Mint(t.Context(), Grant{}); err == nil {
		t.Error("a grant of everything")
	}
	plain, _ := patientClient(t, srv, func(*Config) {})
	if _, _, err := plain.Mint(t.Context(), register); !errors.Is(err, ErrNoApp) {
		t.Errorf("%v", err)
	}
}

// TestGrant: what each scope asks for, no more.
func TestGrant(t *testing.T) {
	t.Parallel()
	read := map[string]string{"actions": "read", "contents": "read", "metadata": "read"}
	for scope, want := range map[Scope]string{Repo: "administration", Org: "organization_self_hosted_runners"} {
		c := &Client{config: Config{Scope: scope, Target: map[Scope]string{Repo: "acme/widget", Org: "acme"}[scope]}}
		g := c.Grant()
		all := maps.Clone(read)
		all[want] = "write"
		if !maps.Equal(g.Permissions, all) || (len(g.Repositories) == 1) != (scope == Repo) {
			t.Errorf("%s: %v", scope, g)
		}
	}
}
