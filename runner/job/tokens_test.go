// SPDX-License-Identifier: Apache-2.0

package job

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner/job/pinned"
)

// issuerServer serves a token issuer; discovery and answer can be changed.
type issuerServer struct {
	*httptest.Server
	discovery map[string]any
	jwks      []byte
	answer    http.HandlerFunc
}

func newIssuerServer(t *testing.T) (*issuerServer, *Issuer) {
	t.Helper()
	s := &issuerServer{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(s.discovery) })
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(s.jwks) })
	mux.HandleFunc("GET /idtoken", func(w http.ResponseWriter, r *http.Request) { s.answer(w, r) })
	s.Server = httptest.NewUnstartedServer(mux)
	s.StartTLS()
	t.Cleanup(s.Close)
	s.discovery = map[string]any{"issuer": s.URL, "jwks_uri": s.URL + "/jwks"}
	var err error
	if s.jwks, err = json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: issuerKey().Public(), Algorithm: "RS256"}}}); err != nil {
		t.Fatal(err)
	}
	s.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"count":3,"value":"jwt"}`) }
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	hosts := pinned.Hosts{strings.TrimPrefix(s.URL, "https://")}
	client, err := pinned.Client(pinned.Config{Hosts: hosts, Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	i, err := NewIssuer(s.URL, hosts, client)
	if err != nil {
		t.Fatal(err)
	}
	return s, i
}

func TestFetch(t *testing.T) {
	t.Parallel()
	s, i := newIssuerServer(t)
	var query, auth string
	s.answer = func(w http.ResponseWriter, r *http.Request) {
		query, auth = r.URL.RawQuery, r.Header.Get("Authorization")
		_, _ = io.WriteString(w, `{"count":3,"value":"jwt"}`)
	}
	got, err := i.Fetch(t.Context(), s.URL+"/idtoken?api-version=2.0", secret.New("b"), "aud&x")
	if err != nil || got != "jwt" || query != "api-version=2.0&audience=aud%26x" || auth != "Bearer b" {
		t.Fatalf("got %q, %v, query %q, authorization %q", got, err, query, auth)
	}
}

func TestBadFetch(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		url    string // appended to the server's
		bearer string
		answer http.HandlerFunc
	}{
		"forbidden":    {"/idtoken", "b", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }},
		"redirect":     {"/idtoken", "b", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/jwks", http.StatusFound) }},
		"no token":     {"/idtoken", "b", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{}`) }},
		"no JSON":      {"/idtoken", "b", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `x`) }},
		"large":        {"/idtoken", "b", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat(" ", 32<<10)) }},
		"no bearer":    {"/idtoken", "", nil},
		"own audience": {"/idtoken?audience=sigstore", "b", nil},
		"bad query":    {"/idtoken?a;b", "b", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, i := newIssuerServer(t)
			if s.answer = tc.answer; tc.answer == nil {
				s.answer = func(http.ResponseWriter, *http.Request) { t.Error("asked") }
			}
			if got, err := i.Fetch(t.Context(), s.URL+tc.url, secret.New(tc.bearer), "a"); err == nil {
				t.Fatalf("got %q", got)
			}
		})
	}
	_, i := newIssuerServer(t)
	for _, raw := range []string{"https://evil.test/idtoken", "http://localhost/", "", "file:///etc/passwd"} {
		_, err := i.Fetch(t.Context(), raw, secret.New("b"), "a")
		if !errors.Is(err, pinned.ErrHost) && !errors.Is(err, pinned.ErrScheme) {
			t.Errorf("%s: got %v", raw, err)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	_, i := newIssuerServer(t)
	if _, err := i.Keys(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*issuerServer){
		"other issuer":   func(s *issuerServer) { s.discovery["issuer"] = "https://evil.test" },
		"keys elsewhere": func(s *issuerServer) { s.discovery["jwks_uri"] = "https://evil.test/jwks" },
		"no key set":     func(s *issuerServer) { delete(s.discovery, "jwks_uri") },
		"keys not found": func(s *issuerServer) { s.discovery["jwks_uri"] = s.URL + "/x" },
		"keys too long":  func(s *issuerServer) { s.jwks = make([]byte, maxKeys+1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, i := newIssuerServer(t)
			change(s)
			if _, err := i.Keys(t.Context()); err == nil {
				t.Fatal("accepted")
			}
		})
	}
}

func TestNewIssuer(t *testing.T) {
	t.Parallel()
	if _, err := NewIssuer("https://x.example", pinned.Hosts{"y.example"}, http.DefaultClient); err == nil {
		t.Error("accepted an issuer that is not pinned")
	}
	if _, err := NewIssuer("https://x.example", pinned.Hosts{"x.example"}, nil); err == nil {
		t.Error("accepted no client")
	}
}
