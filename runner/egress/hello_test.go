// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"testing"
)

func TestPeek(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sent   []byte
		name   string
		hidden bool
	}{
		"a name":         {helloFor(t, "github.demo.test"), "github.demo.test", false},
		"no name":        {helloFor(t, ""), "", false},
		"upper case":     {helloFor(t, "GitHub.demo.test"), "GitHub.demo.test", false},
		"an address":     {helloFor(t, "192.0.2.1"), "", false},
		"two names":      {hiding(t, "github.demo.test", "other.demo.test"), "github.demo.test", true},
		"version 1.2":    {clientHello(t, &tls.Config{ServerName: "a.test", MaxVersion: tls.VersionTLS12}), "a.test", false},                               //nolint:gosec // a hello only.
		"version 1.0":    {clientHello(t, &tls.Config{ServerName: "a.test", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}), "a.test", false}, //nolint:gosec // a hello only.
		"bytes after it": {append(helloFor(t, "a.test"), 1, 2, 3), "a.test", false},
	} {
		h, err := peek(t.Context(), &oneWay{Reader: bytes.NewReader(tc.sent)})
		if err != nil || h.name != tc.name || h.hidden != tc.hidden || !bytes.HasPrefix(tc.sent, h.read) {
			t.Errorf("%s: got %q, %v, %d bytes, %v", name, h.name, h.hidden, len(h.read), err)
		}
	}
}

// FuzzClientHello: whatever a client sends, peek ends and loses no byte.
func FuzzClientHello(f *testing.F) {
	f.Add(helloFor(f, "github.demo.test"))
	f.Add(helloFor(f, ""))
	f.Add(hiding(f, "github.demo.test", "other.demo.test"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 3})
	f.Fuzz(func(t *testing.T, sent []byte) {
		h, err := peek(t.Context(), &oneWay{Reader: bytes.NewReader(sent)})
		if err != nil {
			if h.name != "" || h.read != nil {
				t.Fatalf("got %q and %d bytes with %v", h.name, len(h.read), err)
			}
			return
		}
		if !bytes.HasPrefix(sent, h.read) || len(h.read) > maxHello {
			t.Fatalf("got %q and %d bytes", h.name, len(h.read))
		}
	})
}

// oneWay is a connection that only says what was recorded; writing to it is a fault.
type oneWay struct {
	io.Reader
	net.Conn
}

func (o *oneWay) Read(p []byte) (int, error) { return o.Reader.Read(p) }

func TestSight(t *testing.T) {
	t.Parallel()
	for first, want := range map[string]struct {
		protocol Protocol
		decided  bool
	}{
		"": {TCP, false}, "\x16": {TCP, false}, "\x16\x03": {TLS, true}, "\x16\x03\x01\x02": {TLS, true}, "\x16\x02": {TCP, true}, "\x17\x03": {TCP, true},
		"G": {TCP, false}, "GET": {TCP, false}, "GET ": {HTTP, true}, "GET / HT": {HTTP, true}, "GETX": {TCP, true}, "get ": {TCP, true},
		"P": {TCP, false}, "PU": {TCP, false}, "PUT ": {HTTP, true}, "PATCH": {TCP, false}, "PATCH ": {HTTP, true}, "CONNECT ": {HTTP, true}, "CONNECTI": {TCP, true},
		"PRI * HT": {TCP, true}, "SSH-2.0-": {TCP, true}, "\x00": {TCP, true}, "OPTIONS ": {HTTP, true}, "TRACE ": {HTTP, true}, "HEAD ": {HTTP, true}, "DELETE ": {HTTP, true}, "POST ": {HTTP, true},
	} {
		if p, decided := sight([]byte(first)); p != want.protocol || decided != want.decided {
			t.Errorf("%q: got %s, %v", first, p, decided)
		}
	}
}
