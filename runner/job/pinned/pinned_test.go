// SPDX-License-Identifier: Apache-2.0

package pinned_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/runner/job/pinned"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHosts(t *testing.T) {
	t.Parallel()
	hosts := pinned.Hosts{"api.example", "other.example:8443"}
	for raw, want := range map[string]error{
		"https://api.example/x":           nil,
		"https://api.example:443/x":       nil,
		"https://API.example/x":           nil,
		"https://other.example:8443/x":    nil,
		"http://api.example/x":            pinned.ErrScheme,
		"//api.example/x":                 pinned.ErrScheme,
		"https://api.example:8443/x":      pinned.ErrHost,
		"https://other.example/x":         pinned.ErrHost,
		"https://api.example.evil.test/x": pinned.ErrHost,
		"https://evil.test/api.example":   pinned.ErrHost,
		"https://api.example@evil.test/x": pinned.ErrHost,
		"https://u@api.example/x":         pinned.ErrHost,
		"https://api.example./x":          pinned.ErrHost,
		"https:api.example":               pinned.ErrHost,
		"https:///x":                      pinned.ErrHost,
	} {
		t.Run(raw, func(t *testing.T) {
			t.Parallel()
			if _, err := hosts.Parse(raw); !errors.Is(err, want) {
				t.Fatalf("got %v, want %v", err, want)
			}
		})
	}
	if _, err := hosts.Parse("https://\x7f"); err == nil {
		t.Error("accepted a control character")
	}
}

func TestClient(t *testing.T) {
	t.Parallel()
	foreign := httptest.NewTLSServer(http.NotFoundHandler())
	defer foreign.Close()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/here":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/there":
			http.Redirect(w, r, foreign.URL, http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/full":
			_, _ = io.WriteString(w, strings.Repeat("x", 16))
		case "/large":
			_, _ = io.WriteString(w, strings.Repeat("x", 17))
		}
	}))
	defer srv.Close()
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	host := strings.TrimPrefix(srv.URL, "https://")
	c, err := pinned.Client(pinned.Config{Hosts: pinned.Hosts{host, "api.example"}, Roots: roots, Limit: 16})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	for path, want := range map[string]error{
		srv.URL + "/ok": nil, srv.URL + "/here": nil, srv.URL + "/full": nil,
		srv.URL + "/there": pinned.ErrRedirect, srv.URL + "/loop": pinned.ErrRedirect, srv.URL + "/large": pinned.ErrTooLarge,
		foreign.URL: pinned.ErrHost, strings.Replace(srv.URL, "https", "http", 1): pinned.ErrScheme,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", path, err, want)
		}
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-release
	}))
	defer srv.Close()
	defer close(release)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	c, err := pinned.Client(pinned.Config{
		Hosts: pinned.Hosts{strings.TrimPrefix(srv.URL, "https://")}, Roots: roots, Timeout: 500 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
}

func TestUnknownRoot(t *testing.T) {
	t.Parallel()
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	srv.Config.ErrorLog = nil
	c, err := pinned.Client(pinned.Config{Hosts: pinned.Hosts{strings.TrimPrefix(srv.URL, "https://")}, Roots: x509.NewCertPool()})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err == nil {
		_ = resp.Body.Close()
		t.Fatal("accepted a certificate of an unknown root")
	}
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		t.Fatalf("got %v", err)
	}
}

func TestBadConfig(t *testing.T) {
	t.Parallel()
	for name, hosts := range map[string]pinned.Hosts{
		"none": nil, "empty": {""}, "URL": {"https://x"}, "capital": {"API.example"}, "glob": {"*.example"}, "port 443": {"x:443"},
	} {
		if _, err := pinned.Client(pinned.Config{Hosts: hosts}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestWrongClock meets a certificate that this machine's clock takes for an old or a future one, and names the clock.
func TestWrongClock(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	for name, off := range map[string]time.Duration{"clock 2 years ahead": -2 * year, "clock 2 years behind": 2 * year} {
		authority, err := fakegithub.NewAuthority([]string{"api.example"}, time.Now().Add(off))
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewUnstartedServer(http.NotFoundHandler())
		srv.TLS, srv.Config.ErrorLog = authority.TLS(), slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		srv.StartTLS()
		t.Cleanup(srv.Close)
		client, err := pinned.Client(pinned.Config{
			Hosts: pinned.Hosts{"api.example"}, Roots: authority.Pool(),
			Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, srv.Listener.Addr().String())
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if !errors.Is(err, pinned.ErrClock) || !strings.Contains(err.Error(), "this machine's clock") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
