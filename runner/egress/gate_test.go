// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"
)

func TestPinnedHost(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const name = "pinned.gate.test"
	serve, pool := greeter(t, name)
	w.listen(w.host(t, name), 443, serve)
	s := start(t, config(name, After{Mode: None}))
	for _, dispatched := range []bool{false, true} {
		if dispatched {
			s.gate.Dispatched()
		}
		if got, err := greet(s.reach(name, 443), name, pool); err != nil || got != "you called "+name {
			t.Errorf("got %q, %v", got, err)
		}
	}
	v := s.one(name)
	if v.Port != 443 || v.Protocol != TLS || !v.Allowed || v.Reason != "" || v.Connections != 2 || v.Sent == 0 || v.Received == 0 {
		t.Errorf("got %+v", v)
	}
	if got := s.gate.Hosts(); len(got) != 1 || got[name] != v.Sent+v.Received {
		t.Errorf("got %v", got)
	}
}

// A host whose address is fixed is dialled there, although it is a private one, and no name server is asked.
func TestFixedAddress(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const name = "fixed.gate.test"
	serve, pool := greeter(t, name)
	fixed := netip.MustParseAddr("10.0.2.100")
	w.listen(fixed, 443, serve)
	c := config(name, After{Mode: None})
	c.Resolve = map[string]netip.Addr{name: fixed}
	s := start(t, c)
	if got, err := greet(s.reach(name, 443), name, pool); err != nil || got != "you called "+name {
		t.Errorf("got %q, %v", got, err)
	}
	if w.heard(name) {
		t.Error("a name server was asked")
	}
}

func TestAllow(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const pinned, tlsHost, httpHost, tcpHost = "pinned.allow.test", "a.tls.allow.test", "web.allow.test", "ssh.allow.test"
	serve, pool := greeter(t, tlsHost)
	w.listen(w.host(t, tlsHost), 8443, serve)
	w.listen(w.host(t, httpHost), 80, webServer("web"))
	w.listen(w.host(t, tcpHost), 22, echoes)
	s := start(t, config(pinned, After{Mode: Allow, Allow: []Entry{
		{Host: "*.tls.allow.test", Ports: []uint16{443, 8443}, Protocol: TLS},
		{Host: httpHost, Ports: []uint16{80}, Protocol: HTTP},
		{Host: tcpHost, Ports: []uint16{22}, Protocol: TCP},
	}}))
	s.gate.Dispatched()
	if got, err := greet(s.reach(tlsHost, 8443), tlsHost, pool); err != nil || got != "you called "+tlsHost {
		t.Errorf("got %q, %v", got, err)
	}
	got, err := asks(s.reach(httpHost, 80), "GET /path?a;b HTTP/1.1\r\nHost: "+httpHost+"\r\n\r\n", 1)
	if err != nil || got[0] != "200 web: GET /path?a;b of "+httpHost {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := says(s.reach(tcpHost, 22), "SSH-2.0-test"); err != nil || got != "SSH-2.0-test" {
		t.Errorf("got %q, %v", got, err)
	}
	for host, protocol := range map[string]Protocol{tlsHost: TLS, httpHost: HTTP, tcpHost: Opaque} {
		if v := s.one(host); v.Protocol != protocol || !v.Allowed || v.Connections != 1 || v.Sent == 0 || v.Received == 0 {
			t.Errorf("got %+v", v)
		}
	}
}

func TestAudit(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const pinned, tlsHost, httpHost, bannerHost, hiddenHost = "pinned.audit.test", "tls.audit.test", "web.audit.test", "banner.audit.test", "hidden.audit.test"
	serve, pool := greeter(t, tlsHost)
	w.listen(w.host(t, tlsHost), 9443, serve)
	w.listen(w.host(t, httpHost), 8080, webServer("web"))
	w.listen(w.host(t, bannerHost), 25, func(c net.Conn) { _, _ = io.WriteString(c, "220 welcome") })
	w.listen(w.host(t, hiddenHost), 443, echoes)
	s := start(t, config(pinned, After{Mode: Audit}))
	if _, code := s.lookup(tlsHost); code != dnsmessage.RCodeNameError {
		t.Errorf("before the dispatch: %v", code)
	}
	s.gate.Dispatched()
	if got, err := greet(s.reach(tlsHost, 9443), tlsHost, pool); err != nil || got != "you called "+tlsHost {
		t.Errorf("got %q, %v", got, err)
	}
	got, err := asks(s.reach(httpHost, 8080), "GET / HTTP/1.1\r\nHost: "+httpHost+":8080\r\n\r\n", 1)
	if err != nil || got[0] != "200 web: GET / of "+httpHost+":8080" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := io.ReadAll(s.reach(bannerHost, 25)); err != nil || string(got) != "220 welcome" {
		t.Errorf("got %q, %v", got, err)
	}
	hello := hiding(t, hiddenHost, "elsewhere.test")
	if got, err := says(s.reach(hiddenHost, 443), string(hello)); err != nil || got != string(hello) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	for host, protocol := range map[string]Protocol{httpHost: HTTP, bannerHost: Opaque, hiddenHost: Opaque} {
		if v := s.one(host); v.Protocol != protocol || !v.Allowed || v.Connections != 1 {
			t.Errorf("got %+v", v)
		}
	}
}

// A server that answers only after it has seen the end gets the end; every byte is counted.
func TestHalfCloseAndCounts(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const name = "half.gate.test"
	hello := helloFor(t, name)
	w.listen(w.host(t, name), 443, func(conn net.Conn) {
		got, err := io.ReadAll(conn)
		if err == nil && bytes.HasPrefix(got, hello) {
			_, _ = fmt.Fprintf(conn, "got %d", len(got))
		}
	})
	s := start(t, config(name, After{Mode: None}))
	sent := string(hello) + strings.Repeat("x", 1<<20)
	want := fmt.Sprintf("got %d", len(sent))
	if got, err := says(s.reach(name, 443), sent); err != nil || got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	wantVerdict := Verdict{Host: name, Port: 443, Protocol: TLS, Allowed: true, Connections: 1, Sent: uint64(len(sent)), Received: uint64(len(want))}
	if diff := cmp.Diff(wantVerdict, s.one(name)); diff != "" {
		t.Error(diff)
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	theWorld(t)
	const name = "unreachable.gate.test"
	s := start(t, config(name, After{Mode: None}))
	conn := s.reach(name, 443)
	if _, err := conn.Write(helloFor(t, name)); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, []byte{21, 3, 3, 0, 2, 2, alertInternalError}) {
		t.Errorf("got %x, %v", got, err)
	}
	s.reason(name, Unreachable)
}

func TestServeEnds(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const pinned, web = "pinned.ends.test", "web.ends.test"
	w.listen(w.host(t, pinned), 443, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	w.listen(w.host(t, web), 80, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	s := &sandbox{t: t, ns: newNetNS(t)}
	var err error
	s.gate, err = Open(t.Context(), s.ns, config(pinned, After{Mode: Allow, Allow: []Entry{{Host: web, Ports: []uint16{80}, Protocol: HTTP}}}))
	if err != nil {
		t.Fatal(err)
	}
	s.gate.Dispatched()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.gate.Serve(ctx) }()
	conns := []net.Conn{s.reach(pinned, 443), s.reach(pinned, 443), s.reach(web, 80)}
	_, _ = conns[1].Write(helloFor(t, pinned))
	_, _ = io.WriteString(conns[2], "GET / HTTP/1.1\r\nHost: "+web+"\r\n\r\n")
	eventually(t, func() bool { return len(s.gate.Hosts()) == 2 })
	cancel()
	if err := errors.Join(<-served, s.gate.Close(), s.gate.Close()); err != nil {
		t.Error(err)
	}
	for _, conn := range conns {
		if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a connection outlived the gate")
		}
	}
}

func TestCloseWithoutServe(t *testing.T) {
	t.Parallel()
	theWorld(t)
	g, err := Open(t.Context(), newNetNS(t), config("pinned.unserved.test", After{Mode: None}))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"no rules":             func(c *Config) { c.Rules = Rules{} },
		"fixed name":           func(c *Config) { c.Resolve = map[string]netip.Addr{"Upper.test": netip.MustParseAddr("10.0.0.1")} },
		"fixed nowhere":        func(c *Config) { c.Resolve = map[string]netip.Addr{"a.test": {}} },
		"fixed loopback":       func(c *Config) { c.Resolve = map[string]netip.Addr{"a.test": netip.MustParseAddr("127.0.0.1")} },
		"fixed link-local":     func(c *Config) { c.Resolve = map[string]netip.Addr{"a.test": netip.MustParseAddr("169.254.1.1")} },
		"fixed metadata":       func(c *Config) { c.Resolve = map[string]netip.Addr{"a.test": netip.MustParseAddr("168.63.129.16")} },
		"no connections":       func(c *Config) { c.Limits.Connections = 0 },
		"no rate":              func(c *Config) { c.Limits.Rate = 0 },
		"no questions":         func(c *Config) { c.Limits.Queries = 0 },
		"no bytes":             func(c *Config) { c.Limits.Bytes = 0 },
		"no hello time":        func(c *Config) { c.Limits.Hello = 0 },
		"no dial time":         func(c *Config) { c.Limits.Dial = 0 },
		"negative idle time":   func(c *Config) { c.Limits.Idle = -1 },
		"pinned is a wild one": func(c *Config) { c.Rules.Pinned = []string{"*.test"} },
	} {
		c := config("pinned.test", After{Mode: None})
		change(&c)
		if _, err := Open(t.Context(), nil, c); err == nil || !strings.Contains(err.Error(), "configuration") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := config("pinned.test", After{Mode: None}).Validate(); err != nil {
		t.Error(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	if _, err := Open(t.Context(), null, config("pinned.test", After{Mode: None})); err == nil {
		t.Error("opened in something that is no namespace")
	}
	if Resolver() != netip.MustParseAddr("100.96.0.1") {
		t.Error(Resolver())
	}
}
