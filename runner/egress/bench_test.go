// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

const (
	benchHost = "host.bench.test"
	gibibyte  = 1 << 30
)

// source is a server of the world that sends a gibibyte to whoever says something.
func source(head string) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := c.Read(make([]byte, 64<<10)); err != nil {
			return
		}
		_, _ = io.WriteString(c, head)
		block := make([]byte, 256<<10)
		for range gibibyte / len(block) {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	}
}

// drain reads a gibibyte after what comes before it.
func drain(b *testing.B, conn net.Conn, hello []byte) {
	b.Helper()
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write(hello); err != nil {
		b.Fatal(err)
	}
	n := 0
	for block := make([]byte, 256<<10); n < gibibyte; {
		more, err := conn.Read(block)
		if n += more; err != nil {
			b.Fatal(n, err)
		}
	}
}

// BenchmarkThroughput carries a gibibyte from the world to the sandbox: over one wire without a gate, and through the
// gate and two wires by each of the protocols.
func BenchmarkThroughput(b *testing.B) {
	w := theWorld(b)
	a := w.host(b, benchHost)
	w.listen(a, 22, source(""))
	w.listen(a, 443, source(""))
	w.listen(a, 80, source(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", gibibyte)))
	s := benchSandbox(b)
	b.Run("direct", func(b *testing.B) {
		b.SetBytes(gibibyte)
		for b.Loop() {
			conn, err := net.Dial("tcp", netip.AddrPortFrom(a, 22).String()) //nolint:noctx // at once.
			if err != nil {
				b.Fatal(err)
			}
			drain(b, conn, []byte("hello"))
		}
	})
	for _, bb := range []struct {
		name  string
		port  uint16
		hello []byte
	}{
		{"tcp", 22, []byte("hello")}, {"tls", 443, helloFor(b, benchHost)}, {"http", 80, []byte("GET / HTTP/1.1\r\nHost: " + benchHost + "\r\n\r\n")},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.SetBytes(gibibyte)
			for b.Loop() {
				conn := s.reach(benchHost, bb.port)
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				drain(b, conn, bb.hello)
			}
		})
	}
}

// BenchmarkConnections opens connections, says something, hears it and closes: without a gate, and through it.
func BenchmarkConnections(b *testing.B) {
	w := theWorld(b)
	a := w.host(b, benchHost)
	hello := helloFor(b, benchHost)
	w.listen(a, 443, func(c net.Conn) {
		buf := make([]byte, 4096)
		n, _ := c.Read(buf)
		_, _ = c.Write(buf[:min(n, 1)])
	})
	once := func(b *testing.B, conn net.Conn, err error) {
		if err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Write(hello); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			b.Fatal(err)
		}
		_ = conn.Close()
	}
	b.Run("direct", func(b *testing.B) {
		for b.Loop() {
			conn, err := net.Dial("tcp", netip.AddrPortFrom(a, 443).String()) //nolint:noctx // at once.
			once(b, conn, err)
		}
	})
	s := benchSandbox(b)
	to, _ := s.lookup(benchHost)
	b.Run("gate", func(b *testing.B) {
		err := s.inside(func() error {
			for b.Loop() {
				conn, err := net.Dial("tcp", netip.AddrPortFrom(to, 443).String()) //nolint:noctx // at once.
				once(b, conn, err)
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkAnswer measures one DNS question.
func BenchmarkAnswer(b *testing.B) {
	g := newGate(config("pinned.bench.test", After{Mode: Audit}))
	g.Dispatched()
	query := question(b, benchHost, 1)
	for b.Loop() {
		if g.answer(query) == nil {
			b.Fatal("no answer")
		}
	}
}

func benchSandbox(b *testing.B) *sandbox {
	b.Helper()
	c := config("pinned.bench.test", After{Mode: Allow, Allow: []Entry{
		{Host: benchHost, Ports: []uint16{22}, Protocol: TCP}, {Host: benchHost, Ports: []uint16{443}, Protocol: TLS}, {Host: benchHost, Ports: []uint16{80}, Protocol: HTTP},
	}})
	c.Limits.Bytes, c.Limits.Rate = 1<<60, 1<<20
	s := start(b, c)
	s.gate.Dispatched()
	return s
}
