// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// sandbox is a network namespace with a gate.
type sandbox struct {
	t    testing.TB
	ns   *os.File
	gate *Gate
}

// inside runs do on a thread that is in the sandbox, and never used again.
func (s *sandbox) inside(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer func() { _ = home.Close() }()
		if err = unix.Setns(int(s.ns.Fd()), unix.CLONE_NEWNET); err == nil {
			err = do()
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
		}
		done <- err
	}()
	return <-done
}

// start opens and serves a gate for a new namespace until the test ends.
func start(t testing.TB, c Config) *sandbox {
	t.Helper()
	theWorld(t)
	s := &sandbox{t: t, ns: newNetNS(t)}
	var err error
	if s.gate, err = Open(t.Context(), s.ns, c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // ends before the namespace is closed.
	served := make(chan error, 1)
	go func() { served <- s.gate.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-served, s.gate.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func newNetNS(t testing.TB) *os.File {
	t.Helper()
	var f *os.File
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err == nil {
			err = unix.Unshare(unix.CLONE_NEWNET)
		}
		if err == nil {
			f, err = os.Open("/proc/thread-self/ns/net")
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
		}
		_ = home.Close()
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// dial connects from the sandbox to an address. The connection is a dead one if it was reset at once.
func (s *sandbox) dial(network, address string) (conn net.Conn, err error) {
	s.t.Helper()
	insideErr := s.inside(func() error {
		conn, err = net.DialTimeout(network, address, 2*time.Second)
		return nil
	})
	if errors.Is(err, unix.ECONNRESET) { // turned away before it was noticed that it was accepted
		conn, other := net.Pipe()
		return conn, other.Close()
	}
	if err := errors.Join(err, insideErr); err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn, nil
}

// reach looks a name up and connects to a port of it.
func (s *sandbox) reach(name string, port uint16) net.Conn {
	s.t.Helper()
	a, code := s.lookup(name)
	if code != dnsmessage.RCodeSuccess || !a.IsValid() {
		s.t.Fatalf("%s: %v", name, code)
	}
	conn, err := s.dial("tcp", netip.AddrPortFrom(a, port).String())
	if err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// lookup asks the gate for a name's address.
func (s *sandbox) lookup(name string) (netip.Addr, dnsmessage.RCode) {
	s.t.Helper()
	conn, err := s.dial("udp", netip.AddrPortFrom(Resolver(), 53).String())
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	m := exchange(s.t, conn, question(s.t, name, dnsmessage.TypeA))
	if len(m.Answers) == 0 {
		return netip.Addr{}, m.RCode
	}
	a, ok := m.Answers[0].Body.(*dnsmessage.AResource)
	if !ok {
		s.t.Fatalf("got %v", m.Answers)
	}
	return netip.AddrFrom4(a.A), m.RCode
}

func question(t testing.TB, name string, kind dnsmessage.Type) []byte {
	t.Helper()
	n, err := dnsmessage.NewName(name + ".")
	if err != nil {
		t.Fatal(err)
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 4711, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: kind, Class: dnsmessage.ClassINET}},
	}
	out, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// exchange sends a question, with its length where the connection is a stream, and reads the answer.
func exchange(t testing.TB, conn net.Conn, query []byte) (m dnsmessage.Message) {
	t.Helper()
	buf := make([]byte, 4096)
	var n int
	var err error
	if _, stream := conn.(*net.TCPConn); stream {
		_, err = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)) //nolint:gosec // short.
		if err == nil {
			_, err = io.ReadFull(conn, buf[:2])
		}
		if err == nil {
			n, err = io.ReadFull(conn, buf[:binary.BigEndian.Uint16(buf)])
		}
	} else {
		_, err = conn.Write(query)
		if err == nil {
			n, err = conn.Read(buf)
		}
	}
	if err == nil {
		err = m.Unpack(buf[:n])
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// says writes and reads to the end.
func says(conn net.Conn, text string) (string, error) {
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	if err := closeWrite(conn); err != nil {
		return "", err
	}
	got, err := io.ReadAll(conn)
	return string(got), err
}

// one finds the only verdict about a host.
func (s *sandbox) one(host string) Verdict {
	s.t.Helper()
	var found []Verdict
	for end := time.Now().Add(5 * time.Second); len(found) == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		for _, v := range s.gate.Verdicts() {
			if v.Host == host {
				found = append(found, v)
			}
		}
	}
	if len(found) != 1 {
		s.t.Fatalf("%q: got %+v", host, found)
	}
	return found[0]
}

func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen")
		}
	}
}

// config has one pinned host and generous limits.
func config(pinned string, after After) Config {
	return Config{Rules: Rules{Pinned: []string{pinned}, After: after}, Limits: Limits{
		Connections: 64, Rate: 10000, Queries: 10000, Bytes: 8 << 30, Hello: 2 * time.Second, Dial: 2 * time.Second, Idle: 5 * time.Second,
	}}
}
