// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPinnedHosts(t *testing.T) {
	t.Parallel()
	out, pool := server(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello "+r.Host) }))
	g, ns := open(t, config(out))
	c := client(ns, pool)
	for _, host := range []string{"github.demo.test", "api.github.demo.test", "GitHub.demo.test"} {
		body, err := get(c, "https://"+host+"/")
		if err != nil || !strings.EqualFold(body, "hello "+host) {
			t.Errorf("%s: got %q, %v", host, body, err)
		}
	}
	for _, host := range []string{"evil.test", "github.demo.test.evil.test", "agithub.demo.test", "x.github.demo.test", "example.com"} {
		_, err := get(c, "https://"+host+"/")
		if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("%s: got %v", host, err)
		}
	}
	out.mu.Lock()
	defer out.mu.Unlock()
	if diff := cmp.Diff([]string{"tcp github.demo.test:443", "tcp api.github.demo.test:443", "tcp github.demo.test:443"}, out.asked); diff != "" {
		t.Error(diff)
	}
	verdicts := g.Verdicts()
	if len(verdicts) != 7 {
		t.Fatalf("got %+v", verdicts)
	}
	carried := g.Hosts()
	for _, v := range verdicts {
		pinned := v.Host == "github.demo.test" || v.Host == "api.github.demo.test"
		if v.Allowed != pinned || (v.Reason == "") != pinned || (v.Sent > 0) != pinned || (v.Received > 0) != pinned {
			t.Errorf("got %+v", v)
		}
		if carried[v.Host] != v.Sent+v.Received {
			t.Errorf("%s: got %d bytes", v.Host, carried[v.Host])
		}
	}
}

func TestDenied(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		send   []byte
		reason Reason
		alert  byte
	}{
		"plain HTTP":     {[]byte("GET / HTTP/1.1\r\nHost: github.demo.test\r\n\r\n"), NoHello, alertHandshakeFailure},
		"silence":        {nil, NoHello, alertHandshakeFailure},
		"half a record":  {[]byte{22, 3, 1, 2, 0, 1}, NoHello, alertHandshakeFailure},
		"endless hello":  {bytes.Repeat(append([]byte{22, 3, 1, 0x40, 0}, make([]byte, 0x4000)...), 12), NoHello, alertHandshakeFailure},
		"no server name": {helloBytes(t, ""), NoName, alertUnrecognizedName},
		"an address":     {helloBytes(t, "192.0.2.1"), NoName, alertUnrecognizedName},
		"one label":      {helloBytes(t, "localhost"), NoName, alertUnrecognizedName},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := &hosts{}
			cfg := config(out)
			cfg.Limits.Hello = 300 * time.Millisecond
			g, ns := open(t, cfg)
			conn, err := dialIn(ns, Address().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_, _ = conn.Write(tc.send)
			_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			got, err := io.ReadAll(conn)
			want := []byte{21, 3, 3, 0, 2, 2, tc.alert}
			// A connection closed with unread bytes is reset; the alert may be lost then.
			if !bytes.Equal(got, want) && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %x, %v", got, err)
			}
			eventually(t, func() bool { return len(g.Verdicts()) == 1 })
			if v := g.Verdicts()[0]; v.Allowed || v.Reason != tc.reason || v.Connections != 1 || v.Host != "" {
				t.Errorf("got %+v", v)
			}
			if len(out.asked) != 0 {
				t.Errorf("connected to %v", out.asked)
			}
		})
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen")
		}
	}
}

// The namespace has the gate and nothing else: no other address, no other port, no way around.
func TestNothingElse(t *testing.T) {
	t.Parallel()
	_, ns := open(t, config(&hosts{}))
	outside, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once.
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = outside.Close() }()
	for _, address := range []string{
		"100.96.0.1:80", "100.96.0.2:443", "100.100.0.1:443", "10.0.2.2:443", "192.0.2.1:443", "[2001:db8::1]:443", "169.254.169.254:80",
		outside.Addr().String(),
	} {
		if conn, err := dialIn(ns, address); err == nil {
			_ = conn.Close()
			t.Errorf("reached %s", address)
		}
	}
	if addrs, err := net.InterfaceAddrs(); err != nil || strings.Contains(fmt.Sprint(addrs), "100.96.0.1") {
		t.Errorf("kettled's own namespace has the gate's address: %v, %v", addrs, err)
	}
}

func TestHalfCloseAndCounts(t *testing.T) {
	t.Parallel()
	hello := helloBytes(t, "github.demo.test")
	out := raw(t, func(conn net.Conn) { // answers only after it has seen the end
		got, err := io.ReadAll(conn)
		if err == nil && bytes.HasPrefix(got, hello) {
			_, _ = fmt.Fprintf(conn, "got %d", len(got))
		}
	})
	g, ns := open(t, config(out))
	conn, err := dialIn(ns, Address().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	payload := bytes.Repeat([]byte("x"), 1<<20)
	if _, err := conn.Write(append(bytes.Clone(hello), payload...)); err != nil {
		t.Fatal(err)
	}
	if err := closeWrite(conn); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("got %d", len(hello)+len(payload))
	if got, err := io.ReadAll(conn); err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	wantVerdicts := []Verdict{{Host: "github.demo.test", Allowed: true, Connections: 1, Sent: uint64(len(hello) + len(payload)), Received: uint64(len(want))}}
	if diff := cmp.Diff(wantVerdicts, g.Verdicts()); diff != "" {
		t.Error(diff)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	hello := helloBytes(t, "github.demo.test")
	for name, tc := range map[string]struct {
		set   func(*Config)
		serve func(net.Conn)
		want  Verdict
	}{
		"idle": {func(c *Config) { c.Limits.Idle = 200 * time.Millisecond }, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
			Verdict{Host: "github.demo.test", Allowed: true, Connections: 1}},
		"bytes": {func(c *Config) { c.Limits.Bytes = 64 << 10 }, func(c net.Conn) { _, _ = io.Copy(c, bytes.NewReader(make([]byte, 1<<20))) },
			Verdict{Host: "github.demo.test", Reason: OverBudget, Connections: 1}},
		"unreachable": {func(c *Config) { c.Dialer = &hosts{err: errors.New("no route")} }, func(net.Conn) {},
			Verdict{Host: "github.demo.test", Reason: Unreachable, Connections: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(raw(t, tc.serve))
			tc.set(&cfg)
			g, ns := open(t, cfg)
			conn, err := dialIn(ns, Address().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := conn.Write(hello); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(conn)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("it was never cut")
			}
			if len(got) > 64<<10 {
				t.Errorf("carried %d bytes", len(got))
			}
			eventually(t, func() bool {
				for _, v := range g.Verdicts() {
					if v.Host == tc.want.Host && v.Allowed == tc.want.Allowed && v.Reason == tc.want.Reason && v.Connections == tc.want.Connections {
						return true
					}
				}
				return false
			})
		})
	}
}

func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	cfg := config(raw(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }))
	cfg.Limits.Connections = 2
	g, ns := open(t, cfg)
	for range 3 {
		conn, err := dialIn(ns, Address().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
	}
	eventually(t, func() bool { return len(g.Verdicts()) == 1 })
	if v := g.Verdicts()[0]; v.Reason != TooMany || v.Connections != 1 {
		t.Errorf("got %+v", v)
	}
}

func TestManyNamesAreBounded(t *testing.T) {
	t.Parallel()
	l := newLedger(1)
	for i := range 10 * maxDenied {
		l.deny(fmt.Sprintf("h%d.test", i), NotPinned)
	}
	if len(l.entries) != maxDenied+1 {
		t.Errorf("kept %d names", len(l.entries))
	}
}

func TestServeEnds(t *testing.T) {
	t.Parallel()
	ns := newNetNS(t)
	g, err := Open(t.Context(), ns, config(raw(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), ns, config(&hosts{})); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("opened twice: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- g.Serve(ctx) }()
	var conns []net.Conn
	for _, first := range [][]byte{nil, helloBytes(t, "github.demo.test")} {
		conn, err := dialIn(ns, Address().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(first)
		conns = append(conns, conn)
	}
	eventually(t, func() bool { return len(g.Hosts()) == 1 })
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a connection outlived the gate")
		}
		_ = conn.Close()
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"no hosts":       func(c *Config) { c.Hosts = nil },
		"wildcard":       func(c *Config) { c.Hosts = []string{"*.test"} },
		"upper case":     func(c *Config) { c.Hosts = []string{"GitHub.test"} },
		"with a port":    func(c *Config) { c.Hosts = []string{"github.test:443"} },
		"no dialer":      func(c *Config) { c.Dialer = nil },
		"no connections": func(c *Config) { c.Limits.Connections = 0 },
		"no bytes":       func(c *Config) { c.Limits.Bytes = 0 },
		"no hello time":  func(c *Config) { c.Limits.Hello = 0 },
		"no dial time":   func(c *Config) { c.Limits.Dial = 0 },
		"no idle time":   func(c *Config) { c.Limits.Idle = -1 },
	} {
		c := config(&hosts{})
		change(&c)
		if _, err := Open(t.Context(), nil, c); err == nil || !strings.Contains(err.Error(), "configuration") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	if _, err := Open(t.Context(), null, config(&hosts{})); err == nil {
		t.Error("opened in something that is no namespace")
	}
	if Address() != netip.MustParseAddrPort("100.96.0.1:443") {
		t.Error(Address())
	}
}
