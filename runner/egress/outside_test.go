// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newNetNS makes an empty network namespace, or skips where that needs more than this user may.
func newNetNS(t testing.TB) *os.File {
	t.Helper()
	type made struct {
		f   *os.File
		err error
	}
	done := make(chan made)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- made{nil, err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		done <- made{f, err}
	}()
	m := <-done
	if errors.Is(m.err, unix.EPERM) {
		t.Skipf("making a network namespace needs root: %v", m.err)
	}
	if m.err != nil {
		t.Fatal(m.err)
	}
	t.Cleanup(func() { _ = m.f.Close() })
	return m.f
}

// dialIn connects from inside a network namespace.
func dialIn(ns *os.File, address string) (conn net.Conn, err error) {
	insideErr := inside(ns, func() error {
		conn, err = net.DialTimeout("tcp", address, 2*time.Second)
		return nil
	})
	return conn, errors.Join(err, insideErr)
}

// hosts is the outside: it connects to one server whatever is asked, and notes what was asked.
type hosts struct {
	mu     sync.Mutex
	server string
	asked  []string
	err    error
}

func (h *hosts) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	h.mu.Lock()
	h.asked = append(h.asked, network+" "+address)
	h.mu.Unlock()
	if h.err != nil {
		return nil, h.err
	}
	var d net.Dialer
	return d.DialContext(ctx, network, h.server)
}

func config(d Dialer) Config {
	return Config{Hosts: []string{"github.demo.test", "api.github.demo.test"}, Dialer: d, Limits: Limits{
		Connections: 16, Bytes: 1 << 30, Hello: 2 * time.Second, Dial: 2 * time.Second, Idle: 5 * time.Second,
	}}
}

// open opens and serves a gate until the test ends.
func open(t testing.TB, c Config) (*Gate, *os.File) {
	t.Helper()
	ns := newNetNS(t)
	g, err := Open(t.Context(), ns, c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // ends before the namespace is closed.
	served := make(chan error, 1)
	go func() { served <- g.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-served, g.Close()); err != nil {
			t.Error(err)
		}
	})
	return g, ns
}

func server(t testing.TB, handler http.Handler) (*hosts, *x509.CertPool) {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return &hosts{server: s.Listener.Addr().String()}, pool
}

func client(ns *os.File, pool *x509.CertPool) *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		// httptest's certificate is for example.com; the chain is verified, under that name.
		DialTLSContext: func(_ context.Context, _, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			conn, err := dialIn(ns, Address().String())
			if err != nil {
				return nil, err
			}
			c := tls.Client(conn, &tls.Config{ServerName: host, InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error { //nolint:gosec // verified here.
				_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, DNSName: "example.com"})
				return err
			}})
			if err := c.Handshake(); err != nil { //nolint:noctx // the connection has a deadline.
				_ = conn.Close()
				return nil, err
			}
			return c, nil
		},
	}}
}

func get(c *http.Client, url string) (string, error) {
	resp, err := c.Get(url) //nolint:noctx // the client has a deadline.
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(resp.Body)
	return string(body), errors.Join(err, resp.Body.Close())
}

// helloBytes is a genuine ClientHello.
func helloBytes(t testing.TB, name string) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer func() { _ = ours.Close() }()
	go func() {
		_ = tls.Client(theirs, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake() //nolint:gosec,noctx // never completes.
		_ = theirs.Close()
	}()
	header := make([]byte, 5)
	if _, err := io.ReadFull(ours, header); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, int(header[3])<<8|int(header[4]))
	if _, err := io.ReadFull(ours, body); err != nil {
		t.Fatal(err)
	}
	return append(header, body...)
}

// raw is a host that speaks no TLS: the gate does not mind.
func raw(t *testing.T, serve func(net.Conn)) *hosts {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once.
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer func() { _ = conn.Close() }()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return &hosts{server: l.Addr().String()}
}
