// SPDX-License-Identifier: Apache-2.0

package github

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
)

func pemOf(t testing.TB, kind string, raw []byte) secret.String {
	t.Helper()
	return secret.New(string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw})))
}

func pkcs8(t testing.TB, key any) []byte {
	t.Helper()
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// appServer is GitHub with an App: it verifies JWTs by its own clock and knows which tokens are good.
type appServer struct {
	told    []string // tokens that the client told of
	t       *testing.T
	now     func() time.Time
	life    time.Duration
	mu      sync.Mutex
	issued  int
	jwts    int
	revoked map[string]bool
	auth    []string // of the requests to the API
}

func (a *appServer) token(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.jwts++
	now := a.now()
	w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	parsed, err := jwt.ParseSigned(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		a.t.Error(err)
	}
	var claims jwt.Claims
	if err := parsed.Claims(runnerKey().Public(), &claims); err != nil {
		a.t.Error(err)
	}
	switch expires, issued := claims.Expiry.Time(), claims.IssuedAt.Time(); {
	case claims.Issuer != "3":
		a.t.Errorf("issuer %q", claims.Issuer)
	case now.After(expires), expires.After(now.Add(10 * time.Minute)), issued.After(now):
		answer(401, map[string]any{"message": "'Expiration time' claim ('exp') is not right"})(w, r)
		return
	}
	a.issued++
	answer(201, map[string]any{"token": "inst" + strconv.Itoa(a.issued), "expires_at": now.Add(a.life).UTC().Format(time.RFC3339)})(w, r)
}

func (a *appServer) repository(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	auth := r.Header.Get("Authorization")
	a.auth = append(a.auth, auth)
	w.Header().Set("Date", a.now().UTC().Format(http.TimeFormat))
	if a.revoked[strings.TrimPrefix(auth, "Bearer ")] {
		answer(401, map[string]any{"message": "Bad credentials"})(w, r)
		return
	}
	answer(200, map[string]any{"id": 1})(w, r)
}

func (a *appServer) client(t *testing.T) (*Client, *patience) {
	t.Helper()
	a.t, a.life, a.revoked = t, time.Hour, map[string]bool{}
	srv := fake{"POST /api/v3/app/installations/5/access_tokens": a.token, "GET " + repoPath: a.repository}.serve(t)
	return patientClient(t, srv, func(c *Config) {
		c.Minted = func(token secret.String) { a.told = append(a.told, token.Reveal()) }
		c.Credential = Credential{App: &App{ID: 3, InstallationID: 5, PrivateKey: pemOf(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(runnerKey()))}}
	})
}

// TestAppClock makes this machine's clock wrong by all that it may be: a JWT is signed by GitHub's clock at the second
// try, and a token is kept for its life.
func TestAppClock(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	for name, tc := range map[string]struct {
		ahead time.Duration // this machine's clock before GitHub's
		jwts  int
	}{
		"right": {0, 1}, "20 seconds ahead": {20 * time.Second, 1}, "4 minutes behind": {-4 * time.Minute, 1},
		"10 minutes ahead": {10 * time.Minute, 2}, "10 minutes behind": {-10 * time.Minute, 2},
		"2 years ahead": {2 * year, 2}, "2 years behind": {-2 * year, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &appServer{}
			cl, p := a.client(t)
			a.now = func() time.Time { return p.clock().now().Add(-tc.ahead) }
			for range 3 {
				if _, err := cl.Repository(t.Context(), "acme/widget"); err != nil {
					t.Fatal(err)
				}
				p.pass(19 * time.Minute)
			}
			if a.issued != 1 || a.jwts != tc.jwts || a.auth[2] != "Bearer inst1" {
				t.Errorf("%d JWTs, %d tokens, %q", a.jwts, a.issued, a.auth)
			}
			p.pass(2 * time.Minute) // 59 of 60: renewed before it ends
			if _, err := cl.Repository(t.Context(), "acme/widget"); err != nil || a.issued != 2 || a.jwts != tc.jwts+1 {
				t.Errorf("%d JWTs, %d tokens, %v", a.jwts, a.issued, err)
			}
		})
	}
}

// TestAppClockWrongForGood says what the two clocks are apart when even GitHub's own time does not help.
func TestAppClockWrongForGood(t *testing.T) {
	t.Parallel()
	a := &appServer{}
	cl, p := a.client(t)
	calls := 0
	a.now = func() time.Time { // a clock that runs away
		calls++
		return p.clock().now().Add(time.Duration(calls) * 24 * time.Hour)
	}
	_, err := cl.Repository(t.Context(), "acme/widget")
	if !errors.Is(err, runner.ErrDenied) || !strings.Contains(err.Error(), "clock and GitHub's are 24h0m0s apart") || a.jwts != 2 {
		t.Errorf("%d JWTs, %v", a.jwts, err)
	}
}

// TestAppTokenRefused takes a new token once, and no more than once, when GitHub refuses one before its time.
func TestAppTokenRefused(t *testing.T) {
	t.Parallel()
	a := &appServer{now: time.Now}
	cl, _ := a.client(t)
	a.revoked["inst1"], a.revoked["inst2"] = true, false
	if _, err := cl.Repository(t.Context(), "acme/widget"); err != nil || !slices.Equal(a.auth, []string{"Bearer inst1", "Bearer inst2"}) {
		t.Fatalf("%q, %v", a.auth, err)
	}
	for i := range 9 {
		a.revoked["inst"+strconv.Itoa(i)] = true
	}
	a.auth = nil
	_, err := cl.Repository(t.Context(), "acme/widget")
	if !errors.Is(err, ErrForbidden) || !slices.Equal(a.auth, []string{"Bearer inst2", "Bearer inst3"}) {
		t.Fatalf("%q, %v", a.auth, err)
	}
}

// TestAppTokenShort asks anew each time for a token whose life is over before it could be used again.
func TestAppTokenShort(t *testing.T) {
	t.Parallel()
	a := &appServer{now: time.Now}
	cl, _ := a.client(t)
	for _, life := range []time.Duration{time.Minute, -time.Hour} {
		a.life = life
		if _, err := cl.Repository(t.Context(), "acme/widget"); err != nil {
			t.Fatal(err)
		}
	}
	if a.issued != 2 || !slices.Equal(a.told, []string{"inst1", "inst2"}) {
		t.Errorf("%d tokens, told of %q", a.issued, a.told)
	}
}

// TestAppAnswers has no token to give. The request itself never leaves, so nothing can be left of it.
func TestAppAnswers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		token http.HandlerFunc
		want  error
		not   error
		says  string
	}{
		"no such App":  {answer(404, map[string]any{"message": "Integration not found"}), runner.ErrDenied, runner.ErrTryAgain, "Integration not found"},
		"other key":    {answer(401, map[string]any{"message": "A JSON web token could not be decoded"}), runner.ErrDenied, runner.ErrTryAgain, "belong together"},
		"suspended":    {answer(403, map[string]any{"message": "This installation has been suspended"}), runner.ErrDenied, runner.ErrTryAgain, "must not be suspended"},
		"broken":       {answer(500, nil), runner.ErrTryAgain, runner.ErrDenied, "token of the App"},
		"limit":        {with(answer(429, nil), "Retry-After", "900"), runner.ErrTryAgain, runner.ErrDenied, "try again in 15m0s"},
		"no answer":    {hangUp, runner.ErrTryAgain, runner.ErrDenied, "no answer"},
		"half":         {half(201), runner.ErrTryAgain, runner.ErrDenied, "no answer"},
		"no token":     {answer(201, map[string]any{}), runner.ErrTryAgain, runner.ErrDenied, "holds no token"},
		"no JSON":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); _, _ = io.WriteString(w, "<html>") }, runner.ErrTryAgain, runner.ErrDenied, "holds no token"},
		"token of nil": {answer(201, map[string]any{"token": nil}), runner.ErrTryAgain, runner.ErrDenied, "holds no token"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := fake{"POST /api/v3/app/installations/5/access_tokens": tc.token}.serve(t)
			cl := client(t, srv, func(c *Config) {
				c.Credential = Credential{App: &App{ID: 3, InstallationID: 5, PrivateKey: pemOf(t, "PRIVATE KEY", pkcs8(t, runnerKey()))}}
			})
			_, err := cl.Register(t.Context(), ourName)
			if !errors.Is(err, tc.want) || errors.Is(err, tc.not) || errors.Is(err, ErrUnknownOutcome) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestAppWaits ends with its caller while someone else asks for the token.
func TestAppWaits(t *testing.T) {
	t.Parallel()
	i, err := newInstallation(http.DefaultTransport, Config{APIURL: "https://api.example", Credential: Credential{
		App: &App{ID: 1, InstallationID: 1, PrivateKey: pemOf(t, "PRIVATE KEY", pkcs8(t, runnerKey()))},
	}}, clock{now: time.Now, sleep: sleep})
	if err != nil {
		t.Fatal(err)
	}
	<-i.turn
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	resp, err := i.RoundTrip(request(t, ctx, http.MethodPost, "https://api.example/x"))
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestBadKey(t *testing.T) {
	t.Parallel()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]secret.String{
		"no PEM": secret.New("k3y"), "no DER": pemOf(t, "PRIVATE KEY", []byte("k3y")), "no RSA": pemOf(t, "PRIVATE KEY", pkcs8(t, other)),
	} {
		if _, err := parseKey([]byte(key.Reveal())); err == nil || strings.Contains(err.Error(), "k3y") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add([]byte(pemOf(f, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(runnerKey())).Reveal()))
	f.Add([]byte(pemOf(f, "PRIVATE KEY", pkcs8(f, runnerKey())).Reveal()))
	f.Add([]byte("-----BEGIN X-----\n-----END X-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := parseKey(text)
		if (key == nil) != (err != nil) {
			t.Fatalf("got %v, %v", key != (*rsa.PrivateKey)(nil), err)
		}
	})
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"ghp_abc": "classic token", "github_pat_11A": "fine-grained token", "gho_x": "in a person's name", "ghu_x": "in a person's name",
		"ghs_x": "within an hour", "0123456789abcdef": "unknown kind",
	} {
		got := Credential{Token: secret.New(text)}.Warnings()
		if len(got) != 1 || !strings.Contains(got[0], says) || strings.Contains(got[0], text) {
			t.Errorf("%s: %q", text, got)
		}
	}
	for name, c := range map[string]Credential{"App": {App: &App{ID: 1}}, "none": {}} {
		if got := c.Warnings(); len(got) != 0 {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestWideToken learns from GitHub which scopes a classic token has.
func TestWideToken(t *testing.T) {
	t.Parallel()
	srv := fake{"GET " + repoPath: with(answer(200, map[string]any{"id": 1}), "X-OAuth-Scopes", "repo, workflow, admin:org")}.serve(t)
	cl := client(t, srv, func(c *Config) { c.Credential.Token = secret.New("ghp_t") })
	if got := cl.Warnings(); len(got) != 1 {
		t.Errorf("before it asked: %q", got)
	}
	if _, err := cl.Repository(t.Context(), "acme/widget"); err != nil {
		t.Fatal(err)
	}
	if got := cl.Warnings(); len(got) != 2 || !strings.Contains(got[1], "not needed: admin:org, workflow; needed is repo") {
		t.Errorf("got %q", got)
	}
	exact := fake{"GET " + repoPath: with(answer(200, map[string]any{"id": 1}), "X-OAuth-Scopes", "repo")}.serve(t)
	cl = client(t, exact, nil)
	if _, err := cl.Repository(t.Context(), "acme/widget"); err != nil || len(cl.Warnings()) != 1 {
		t.Errorf("got %q, %v", cl.Warnings(), err)
	}
	app := &appServer{now: time.Now}
	appClient, _ := app.client(t)
	if got := appClient.Warnings(); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}

// TestWire gives the credential to requests that go to the REST API without one, and to no others.
func TestWire(t *testing.T) {
	t.Parallel()
	var got []string
	note := func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.URL.Path+" "+r.Header.Get("Authorization"))
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(note))
	srv.StartTLS()
	t.Cleanup(srv.Close)
	cl := client(t, srv, nil)
	for _, tc := range []struct{ path, auth string }{
		{"/api/v3/x", ""}, {"/api/v3/x", "RemoteAuth y"}, {"/api/v33/x", ""}, {"/queue", ""}, {"/queue", "Bearer z"},
	} {
		req := request(t, t.Context(), http.MethodGet, srv.URL+tc.path)
		if tc.auth != "" {
			req.Header.Set("Authorization", tc.auth)
		}
		resp, err := cl.Wire().RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	want := []string{"/api/v3/x Bearer t0ken", "/api/v3/x RemoteAuth y", "/api/v33/x ", "/queue ", "/queue Bearer z"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	resp, err := cl.Wire().RoundTrip(request(t, t.Context(), http.MethodGet, "https://evil.test/"))
	if err == nil {
		_ = resp.Body.Close()
		t.Error("asked a host that is not pinned")
	}
}

func TestParseCredential(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text string
		app  bool
		ok   bool
	}{
		"token": {text: "ghp_x", ok: true}, "app": {text: `{"appId":1,"installationId":2,"privateKey":"pem"}`, app: true, ok: true},
		"empty": {}, "unknown key": {text: `{"appId":1,"installationId":2,"privateKey":"pem","x":1}`},
		"key twice": {text: `{"appId":1,"appId":3,"installationId":2,"privateKey":"pem"}`}, "no key": {text: `{"appId":1,"installationId":2}`},
		"two lines": {text: "ghp_x\nghp_pem"}, "no installation": {text: `{"appId":1,"privateKey":"pem"}`}, "cut": {text: `{"appId":1`},
	} {
		c, err := ParseCredential(secret.New(tc.text))
		if (err == nil) != tc.ok || (c.App != nil) != tc.app || tc.ok && !tc.app && c.Token.Reveal() != tc.text {
			t.Errorf("%s: %v, %v", name, c.App, err)
		}
		if err != nil && strings.Contains(err.Error(), "pem") {
			t.Errorf("%s: the error shows the credential: %v", name, err)
		}
	}
}
