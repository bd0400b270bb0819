// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

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
