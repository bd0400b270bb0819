// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// own is a listener of kettled's namespace at every address.
type own struct {
	port    uint16
	visited func() bool
}

func ownListener(t *testing.T) own {
	t.Helper()
	l, err := net.Listen("tcp", ":0") //nolint:noctx // at once.
	if err != nil {
		t.Fatal(err)
	}
	reached := make(chan bool, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_ = conn.Close()
		}
		reached <- err == nil
	}()
	a, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal(l.Addr())
	}
	return own{a.AddrPort().Port(), func() bool {
		_ = l.Close()
		return <-reached
	}}
}

// A client that sends its hello a byte at a time, or none, is cut when the time for it is over.
func TestAttackSlowHello(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const pinned, web = "pinned.slow.test", "web.slow.test"
	there := w.host(t, pinned)
	c := config(pinned, After{Mode: Allow, Allow: []Entry{{Host: web, Ports: []uint16{80}, Protocol: HTTP}}})
	c.Limits.Hello, c.Limits.Connections = 300*time.Millisecond, 3
	s := start(t, c)
	s.gate.Dispatched()
	dns, err := s.dial("tcp", "8.8.8.8:53")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for conn, bytes := range map[net.Conn][]byte{
		s.reach(pinned, 443): helloFor(t, pinned), s.reach(web, 80): []byte("GET / HTTP/1.1\r\nHost: " + web + "\r\n"), dns: append([]byte{0, 200}, make([]byte, 200)...),
	} {
		go func() {
			for _, b := range bytes {
				if _, err := conn.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
		_, _ = io.ReadAll(conn)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	if w.was(there) {
		t.Error("it was reached")
	}
	// Their places are free again.
	eventually(t, func() bool { return len(s.gate.free) == 0 })
}

// Half-open connections fill the places and nothing else; what is more is turned away at once, and the places come back.
func TestAttackConnections(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const pinned, places, flood = "pinned.flood.test", 8, 200
	serve, pool := greeter(t, pinned)
	w.listen(w.host(t, pinned), 443, serve)
	c := config(pinned, After{Mode: None})
	c.Limits.Connections = places
	s := start(t, c)
	a, _ := s.lookup(pinned)
	before := runtime.NumGoroutine()
	var conns []net.Conn
	for range flood {
		conn, err := s.dial("tcp", a.String()+":443")
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	eventually(t, func() bool {
		for _, v := range s.gate.Verdicts() {
			if v.Reason == TooMany && v.Connections == flood-places {
				return true
			}
		}
		return false
	})
	if n := runtime.NumGoroutine() - before; n > flood/2 { // other tests have theirs meanwhile
		t.Errorf("%d goroutines", n)
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	eventually(t, func() bool { return len(s.gate.free) == 0 })
	if got, err := greet(s.reach(pinned, 443), pinned, pool); err != nil || got != "you called "+pinned {
		t.Errorf("got %q, %v", got, err)
	}
}

// New connections come no faster than the limit.
func TestAttackConnectionRate(t *testing.T) {
	t.Parallel()
	theWorld(t)
	c := config("pinned.rate.test", After{Mode: None})
	c.Limits.Rate = 20
	s := start(t, c)
	end := time.Now().Add(time.Second)
	for time.Now().Before(end) {
		conn, err := s.dial("tcp", "8.8.8.8:443")
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	var judged uint64
	for _, v := range s.gate.Verdicts() {
		judged += v.Connections
	}
	if judged > 100 {
		t.Errorf("%d connections were judged", judged)
	}
}

// A flood of names is bounded, and leaves the pinned hosts their addresses.
func TestAttackNames(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const pinned = "pinned.names.test"
	serve, pool := greeter(t, pinned)
	w.listen(w.host(t, pinned), 443, serve)
	s := audited(t, pinned)
	codes := map[dnsmessage.RCode]int{}
	for i := range maxNames + 100 {
		var m dnsmessage.Message
		if err := m.Unpack(s.gate.answer(question(t, fmt.Sprintf("n%d.names.test", i), dnsmessage.TypeA))); err != nil {
			t.Fatal(err)
		}
		codes[m.RCode]++
	}
	if codes[dnsmessage.RCodeSuccess] != maxNames-1 || codes[dnsmessage.RCodeRefused] != 101 {
		t.Errorf("got %v", codes)
	}
	if n := len(s.gate.Verdicts()); n > 101 {
		t.Errorf("%d verdicts", n)
	}
	if got, err := greet(s.reach(pinned, 443), pinned, pool); err != nil || got != "you called "+pinned {
		t.Errorf("got %q, %v", got, err)
	}
}

// A flood of questions is answered no faster than the limit.
func TestAttackQueries(t *testing.T) {
	t.Parallel()
	theWorld(t)
	const pinned = "pinned.queries.test"
	c := config(pinned, After{Mode: None})
	c.Limits.Queries = 50
	s := start(t, c)
	conn, err := s.dial("udp", "100.96.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	var answers atomic.Int64
	go func() {
		buf := make([]byte, 512)
		for {
			if _, err := conn.Read(buf); err != nil {
				return
			}
			answers.Add(1)
		}
	}()
	query := question(t, pinned, dnsmessage.TypeA)
	for range 1000 {
		_, _ = conn.Write(query)
		time.Sleep(500 * time.Microsecond)
	}
	eventually(t, func() bool {
		for _, v := range s.gate.Verdicts() {
			if v.Reason == TooFast && v.Connections > 500 {
				return true
			}
		}
		return false
	})
	if n := answers.Load(); n == 0 || n > 300 {
		t.Errorf("%d answers", n)
	}
}

// A client that never reads does not leave full buffers behind for the kernel to keep: its place stays taken until the
// connection is dropped whole.
func TestAttackUnread(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const pinned = "pinned.unread.test"
	w.listen(w.host(t, pinned), 443, func(c net.Conn) {
		_, _ = io.Copy(io.Discard, c)
		_, _ = c.Write(make([]byte, 32<<10))
	})
	cfg := config(pinned, After{Mode: None})
	cfg.Limits.Idle = time.Second
	s := start(t, cfg)
	conn := s.reach(pinned, 443)
	if tcp, ok := conn.(*net.TCPConn); !ok || tcp.SetReadBuffer(4096) != nil {
		t.Fatal("the buffer cannot be made small")
	}
	_, _ = conn.Write(helloFor(t, pinned))
	_ = closeWrite(conn)
	eventually(t, func() bool { v := s.gate.Hosts(); return v[pinned] > 32<<10 })
	time.Sleep(cfg.Limits.Idle / 2)
	if len(s.gate.free) != 1 {
		t.Error("the place is free while bytes are left")
	}
	eventually(t, func() bool { return len(s.gate.free) == 0 })
	if got, err := io.ReadAll(conn); err == nil {
		t.Errorf("the connection ended in good order after %d bytes", len(got))
	}
}

// Nothing is carried beyond the budget, whatever the protocol, and what is idle ends.
func TestAttackBudget(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const host, budget = "host.budget.test", 64 << 10
	endless := func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		_, _ = io.CopyN(c, zeros{}, 1<<20)
	}
	a := w.host(t, host)
	for name, tc := range map[string]struct {
		port  uint16
		hello []byte
	}{
		"TLS": {443, helloFor(t, host)}, "HTTP": {80, []byte("GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n")}, "bytes": {22, []byte("hello")},
		"sent": {23, make([]byte, 2*budget)},
	} {
		w.listen(a, tc.port, endless)
		c := config("pinned.budget.test", After{Mode: Allow, Allow: []Entry{
			{Host: host, Ports: []uint16{443}, Protocol: TLS}, {Host: host, Ports: []uint16{80}, Protocol: HTTP}, {Host: host, Ports: []uint16{22, 23}, Protocol: TCP},
		}})
		c.Limits.Bytes = budget
		s := start(t, c)
		s.gate.Dispatched()
		conn := s.reach(host, tc.port)
		_, _ = conn.Write(tc.hello)
		if got, _ := io.ReadAll(conn); len(got) > budget {
			t.Errorf("%s: carried %d bytes", name, len(got))
		}
		eventually(t, func() bool {
			for _, v := range s.gate.Verdicts() {
				if v.Host == host && v.Reason == OverBudget {
					return true
				}
			}
			return false
		})
	}
}

// zeros is an endless stream.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// A connection without a byte in either direction does not keep its place.
func TestAttackIdle(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const host = "host.idle.test"
	a := w.host(t, host)
	for _, port := range []uint16{22, 80} {
		w.listen(a, port, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	}
	c := config("pinned.idle.test", After{Mode: Allow, Allow: []Entry{{Host: host, Ports: []uint16{22}, Protocol: TCP}, {Host: host, Ports: []uint16{80}, Protocol: HTTP}}})
	c.Limits.Idle = 200 * time.Millisecond
	s := start(t, c)
	s.gate.Dispatched()
	for port, send := range map[uint16]string{22: "hello", 80: "POST / HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 1000\r\n\r\nhalf of it"} {
		conn := s.reach(host, port)
		_, _ = io.WriteString(conn, send)
		if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("port %d was never cut", port)
		}
	}
	eventually(t, func() bool { return len(s.gate.free) == 0 })
}

// However many hosts a job tries, the record stays small, and it says how many there were.
func TestAttackLedger(t *testing.T) {
	t.Parallel()
	l := newLedger(1)
	for i := range 10 * maxAllowed {
		l.deny(site{fmt.Sprintf("h%d.test", i), 443, TLS}, NotAllowed)
		l.allow(site{fmt.Sprintf("h%d.test", i), 443, TLS})
	}
	if len(l.entries) != maxAllowed+maxDenied+2 {
		t.Errorf("kept %d entries", len(l.entries))
	}
	if rest := l.entries[ledgerKey{site{protocol: TLS}, NotAllowed}]; rest == nil || rest.Connections != 10*maxAllowed-maxDenied || rest.Allowed {
		t.Errorf("got %+v", rest)
	}
}
