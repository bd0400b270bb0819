// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	wire "github.com/kettle/attest/attest/admission"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/dispatch/admission"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner/github"
)

// TestRequests sends what is no request.
func TestRequests(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	send := func(method, path string, body io.Reader, length int64) int {
		r := httptest.NewRequestWithContext(t.Context(), method, path, body)
		r.ContentLength = length
		w := httptest.NewRecorder()
		g.server.Handler().ServeHTTP(w, r)
		if w.Code == http.StatusForbidden {
			if _, err := wire.ParseRefusal(w.Body.Bytes()); err != nil {
				t.Error(err)
			}
		}
		return w.Code
	}
	for name, tc := range map[string]struct {
		method, path string
		body         string
		length       int64
		want         int
	}{
		"get": {http.MethodGet, wire.PathAdmit, "", 0, http.StatusMethodNotAllowed}, "elsewhere": {http.MethodPost, "/", "x", 1, http.StatusNotFound},
		"empty": {http.MethodPost, wire.PathAdmit, "", 0, http.StatusForbidden}, "unknown length": {http.MethodPost, wire.PathAdmit, "x", -1, http.StatusForbidden},
		"too long": {http.MethodPost, wire.PathAdmit, "x", wire.MaxRequest + 1, http.StatusForbidden}, "cut off": {http.MethodPost, wire.PathAdmit, "{}\n", 400, http.StatusServiceUnavailable},
		"no lines": {http.MethodPost, wire.PathAdmit, "{}\n", 3, http.StatusForbidden}, "no bundle": {http.MethodPost, wire.PathAdmit, "{}\n{}\n{}\n{}\n", 12, http.StatusForbidden},
		"no hello": {http.MethodPost, wire.PathChallenge, "{}", 2, http.StatusForbidden}, "long hello": {http.MethodPost, wire.PathChallenge, "x", wire.MaxHello + 1, http.StatusForbidden},
	} {
		if got := send(tc.method, tc.path, strings.NewReader(tc.body), tc.length); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
	g.nothing()
}

// TestIssuerFails: GitHub that cannot be reached decides nothing, and the machine can come again.
func TestIssuerFails(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	g.issuer.fail = errors.New("GitHub answered 502, ghs_never")
	m := g.boot(nil)
	status, body := g.ask(m, talk{})
	r, err := wire.ParseRefusal(body)
	if err != nil || status != http.StatusServiceUnavailable || r.Final || bytes.Contains(body, []byte("502")) {
		t.Errorf("%d %s", status, body)
	}
	g.issuer.fail = nil
	g.admitted(m, talk{})
}

// TestLimits: a slow sender holds nothing for long, and no more connections are taken than there may be.
func TestLimits(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, func(c *admission.Config) { c.Limits.Read, c.Limits.Conns = 100*time.Millisecond, 1 })
	p := g.open()
	conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: p.roots, MinVersion: tls.VersionTLS13}}).DialContext(t.Context(), "tcp", p.url[len("https://"):])
	must(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST "+wire.PathAdmit+" HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n{")
	must(t, err)
	waiting := make(chan error, 1)
	go func() { // behind the one connection there may be
		_, err := p.client().Admit(t.Context(), p.boot(nil))
		waiting <- err
	}()
	must(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Error(resp.Status)
	}
	_ = conn.Close()
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}

// TestCertificate reads a renewed certificate, and keeps the old one where the new one is broken.
func TestCertificate(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	cert, key := filepath.Join(dir, "tls.pem"), filepath.Join(dir, "tls.key")
	must(t, admission.SelfSign(cert, key, []string{"a.example"}, now))
	if err := admission.SelfSign(cert, key, []string{"a.example"}, now); !errors.Is(err, os.ErrExist) {
		t.Errorf("replaced: %v", err)
	}
	clock := now
	c, err := admission.LoadCertificate(cert, key, func() time.Time { return clock }, slog.New(slog.DiscardHandler))
	must(t, err)
	name := func() string {
		pair, err := c.Get(nil)
		must(t, err)
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		must(t, err)
		return leaf.DNSNames[0]
	}
	must(t, errors.Join(os.Remove(cert), os.Remove(key), admission.SelfSign(cert, key, []string{"b.example"}, now)))
	if got := name(); got != "a.example" {
		t.Errorf("looked at at once: %s", got)
	}
	if clock = now.Add(2 * time.Minute); name() != "b.example" {
		t.Error("not renewed")
	}
	must(t, os.WriteFile(key, []byte("broken"), 0o600))
	if clock = now.Add(4 * time.Minute); name() != "b.example" {
		t.Error("lost")
	}
	if _, err := admission.LoadCertificate(cert, key, time.Now, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a broken key is taken at the start")
	}
}

// TestAuditFlood: what anybody can send does not fill the disk, and what was left out is counted.
func TestAuditFlood(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	for range 1000 {
		post(t, g.server, wire.PathAdmit, []byte("{}\n{}\n{}\n{}\n"))
	}
	if n := strings.Count(g.audit(), "\n"); n > 300 {
		t.Errorf("%d lines", n)
	}
	g.admitted(g.boot(nil), talk{})
	if log := g.audit(); !strings.Contains(log, `"suppressed":`) || !strings.Contains(log, `"decision":"admitted"`) {
		t.Error(log[len(log)-2000:])
	}
}

// TestAttackUnloggedRelease: what cannot be written to the audit log is not released, and the machine is lost.
func TestAttackUnloggedRelease(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	must(t, g.config.Audit.Close())
	status, body := g.ask(g.boot(nil), talk{})
	if status == http.StatusOK || g.issuer.issued != 1 {
		t.Errorf("%d %s", status, body)
	}
}

// TestMetrics counts by fixed words.
func TestMetrics(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	m := g.boot(nil)
	g.admitted(m, talk{})
	g.ask(m, talk{})
	w := httptest.NewRecorder()
	g.config.Metrics.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`kettle_admission_challenges_total{result="given"} 2`, `kettle_admission_decisions_total{code="none",decision="delivered"} 1`,
		`kettle_admission_decisions_total{code="policy",decision="refused"} 1`, `kettle_admission_requests 0`,
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("lacks %s", want)
		}
	}
}

// TestConfig: nothing has a default that accepts.
func TestConfig(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	for name, change := range map[string]func(*admission.Config){
		"no judge": func(c *admission.Config) { c.Judge = nil }, "no policy": func(c *admission.Config) { c.Judge = &admission.Judge{Roots: c.Judge.Roots} },
		"no roots": func(c *admission.Config) { c.Judge = &admission.Judge{Policy: c.Judge.Policy} }, "no ledger": func(c *admission.Config) { c.Ledger = nil },
		"no audit": func(c *admission.Config) { c.Audit = nil }, "no issuer": func(c *admission.Config) { c.Issuer = nil }, "no key": func(c *admission.Config) { c.Key = nil },
		"no clock": func(c *admission.Config) { c.Now = nil }, "no verifier": func(c *admission.Config) { c.Verifier.ID = "" }, "no URI": func(c *admission.Config) { c.PolicyURI = "" },
		"no limits": func(c *admission.Config) { c.Limits = admission.Limits{} },
		"images and nobody to verify them": func(c *admission.Config) {
			c.Judge = &admission.Judge{Policy: g.configure(withImages(t)).Judge.Policy, Roots: c.Judge.Roots}
		},
	} {
		c := g.config
		change(&c)
		if _, err := admission.New(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// minter is an App.
type minter struct {
	grant github.Grant
	ends  time.Time
	fail  error
}

func (m *minter) Mint(_ context.Context, g github.Grant) (secret.String, time.Time, error) {
	m.grant = g
	return secret.New("ghs_x"), m.ends, m.fail
}

// TestTokenIssuer asks for the grant, no more, and releases nothing that has no end.
func TestTokenIssuer(t *testing.T) {
	t.Parallel()
	app, grant := &minter{ends: time.Unix(1e9, 0)}, github.Grant{Permissions: map[string]string{"actions": "read"}}
	i := &admission.TokenIssuer{App: app, Grant: grant}
	c, err := i.Issue(t.Context())
	must(t, err)
	if c.Token.Reveal() != "ghs_x" || !c.Expires.Equal(app.ends) || app.grant.Permissions["actions"] != "read" {
		t.Errorf("%+v for %+v", c, app.grant)
	}
	app.ends = time.Time{}
	if _, err := i.Issue(t.Context()); err == nil {
		t.Error("a token without an end")
	}
	app.fail = errors.New("no token")
	if c, err := i.Issue(t.Context()); !errors.Is(err, app.fail) || !c.Token.Empty() {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestLedgerFolder: who can write to the ledger can have machines admitted again.
func TestLedgerFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "ledger")
	l, err := admission.OpenLedger(dir)
	must(t, err)
	e := admission.Entry{EnvironmentKey: binding.Sum([]byte("x"))}
	must(t, l.Record(e))
	if err := l.Record(e); !errors.Is(err, refusal.ErrPolicy) || !strings.Contains(err.Error(), "since 0001") {
		t.Error(err)
	}
	must(t, os.Chmod(dir, 0o777)) //nolint:gosec // the fault.
	if _, err := admission.OpenLedger(dir); err == nil {
		t.Error("opened")
	}
}
