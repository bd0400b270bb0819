// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	oci "github.com/google/go-containerregistry/pkg/registry"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/registry"
	"github.com/kettle/attest/runner/boot"
	"github.com/kettle/attest/runner/config"
)

// TestDownload: the bundle comes over TLS from a server of the configured authority, whole and bounded.
func TestDownload(t *testing.T) {
	t.Parallel()
	const lines = "{\"a\":1}\n"
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(lines)) }))
	defer plain.Close()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/lines":
			_, _ = w.Write([]byte(lines))
		case "/github":
			_, _ = w.Write([]byte(`{"attestations":[{"bundle":{"a": 1}}]}`))
		case "/moved":
			http.Redirect(w, r, "/lines", http.StatusFound)
		case "/leads-away":
			http.Redirect(w, r, plain.URL, http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/huge":
			_, _ = w.Write(bytes.Repeat([]byte("a"), maxBundle+1))
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	for path, says := range map[string]string{
		"/lines": "", "/github": "", "/moved": "", "/leads-away": "https address", "/round": "https address", "/huge": "more than", "/none": "404",
	} {
		m := &measured{config: &config.Config{Image: config.Image{Bundle: server.URL + path}}, imageCA: roots}
		got, err := download(t.Context(), m)
		if says == "" && (err != nil || string(got) != lines) || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	m := &measured{config: &config.Config{Image: config.Image{Bundle: server.URL + "/lines"}}, imageCA: x509.NewCertPool()}
	if got, err := download(t.Context(), m); err == nil {
		t.Errorf("a server of another authority: %q", got)
	}
}

// TestPullBundle: one configuration finds the bundle of the image that runs, in the registry of the configured authority; to any
// other this machine is nobody.
func TestPullBundle(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(oci.New(oci.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelError))))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	at := "oci://" + server.Listener.Addr().String() + "/acme/images"
	ref, err := registry.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	own, other := image.SHA256{1}, image.SHA256{2}
	if _, err := (registry.Client{Roots: roots}).Push(t.Context(), ref.ForRoot(own), [][]byte{[]byte(`{"a":1}`)}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		bundle string
		root   image.SHA256
		roots  *x509.CertPool
		want   error
	}{
		"own":                  {at, own, roots, nil},
		"named":                {ref.ForRoot(own).String(), other, roots, nil},
		"of another image":     {at, other, roots, refusal.ErrMissing},
		"of another name":      {at + ":v1", own, roots, refusal.ErrMissing},
		"of nobody's registry": {at, own, x509.NewCertPool(), registry.ErrDown},
	} {
		m := &measured{config: &config.Config{Image: config.Image{Bundle: tc.bundle}}, imageCA: tc.roots}
		env := &boot.Environment{CommandLine: image.CommandLine{Root: image.Verity{RootHash: tc.root}}}
		got, err := imageBundle(t.Context(), m, env)
		if tc.want == nil && (err != nil || string(got) != "{\"a\":1}\n") || tc.want != nil && (!errors.Is(err, tc.want) || got != nil) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
