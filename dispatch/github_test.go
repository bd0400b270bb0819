// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/channel"
	"github.com/kettle/attest/runner/github"
	"github.com/kettle/attest/runner/job/pinned"
)

// wire is a network without a kernel, so that its time is the test's.
type wire struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newWire() *wire { return &wire{conns: make(chan net.Conn), done: make(chan struct{})} }

func (w *wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.done:
		return nil, net.ErrClosed
	}
}

func (w *wire) Close() error {
	w.once.Do(func() { close(w.done) })
	return nil
}

func (w *wire) Addr() net.Addr { return &net.UnixAddr{Name: "wire"} }

func (w *wire) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case w.conns <- there:
		return here, nil
	case <-w.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// place is a whole GitHub, and clients of it.
type place struct {
	t      *testing.T
	server *fakegithub.Server
	http   *http.Server
	wire   *wire
	hosts  fakegithub.Hosts
	ca     *fakegithub.Authority

	mu     sync.Mutex
	broken func(r *http.Request) int // mu; a status to answer with instead, or 0
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, wire: newWire(), hosts: fakegithub.DemoHosts()}
	var err error
	if p.server, err = fakegithub.New(fakegithub.Config{
		Hosts: p.hosts, Operator: fakegithub.Operator{Login: "acme", ID: 2, Token: secret.New("ghp_operator")},
	}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "README.md"), []byte("A widget."), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.server.AddRepository(fakegithub.Repository{
		Owner: "acme", Name: "widget", ID: 1, OwnerID: 2, Dir: dir, Refs: []string{"refs/heads/main"},
	}); err != nil {
		t.Fatal(err)
	}
	if p.ca, err = fakegithub.NewAuthority(p.hosts.Names(), time.Now()); err != nil {
		t.Fatal(err)
	}
	p.http = &http.Server{Handler: http.HandlerFunc(p.answer), ReadHeaderTimeout: time.Minute}
	go func() { _ = p.http.Serve(tls.NewListener(p.wire, p.ca.TLS())) }()
	return p
}

func (p *place) answer(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	status := 0
	if p.broken != nil {
		status = p.broken(r)
	}
	p.mu.Unlock()
	if status != 0 {
		http.Error(w, `{"message":"broken"}`, status)
		return
	}
	p.server.ServeHTTP(w, r)
}

func (p *place) fail(how func(r *http.Request) int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = how
}

func (p *place) client(token string) *github.Client {
	p.t.Helper()
	c, err := github.New(github.Config{
		URL: "https://" + p.hosts.Server, APIURL: "https://" + p.hosts.API, Scope: github.Repo, Target: "acme/widget", RunnerGroup: 1,
		Labels: []string{"attested-cvm"}, Hosts: pinned.Hosts(p.hosts.Names()), Credential: github.Credential{Token: secret.New(token)},
		Roots: p.ca.Pool(), Dial: p.wire.dial,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

func (p *place) close(clients ...*github.Client) {
	for _, c := range clients {
		c.Close()
	}
	if err := errors.Join(p.server.Close(context.WithoutCancel(p.t.Context())), p.http.Close()); err != nil {
		p.t.Error(err)
	}
}

// TestGitHub reaps with the real client at the stand-in for GitHub, whatever that answers meanwhile.
func TestGitHub(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fail  func(begin time.Time) func(r *http.Request) int
		token string
		left  bool
	}{
		"well":               {nil, "ghp_operator", false},
		"down for a while":   {func(begin time.Time) func(*http.Request) int { return until(begin, 5*time.Minute, 503, "") }, "ghp_operator", false},
		"no list":            {func(begin time.Time) func(*http.Request) int { return until(begin, 5*time.Minute, 500, "GET") }, "ghp_operator", false},
		"no removing":        {func(begin time.Time) func(*http.Request) int { return until(begin, 5*time.Minute, 502, "DELETE") }, "ghp_operator", false},
		"limited":            {func(begin time.Time) func(*http.Request) int { return until(begin, 3*time.Minute, 429, "") }, "ghp_operator", false},
		"busy for a while":   {func(begin time.Time) func(*http.Request) int { return until(begin, 10*time.Minute, 422, "DELETE") }, "ghp_operator", false},
		"another credential": {nil, "ghp_wrong", true},
		"down for good":      {func(begin time.Time) func(*http.Request) int { return until(begin, 99*time.Hour, 503, "") }, "ghp_operator", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPlace(t)
				vm, operator := p.client("ghp_operator"), p.client(tt.token)
				defer p.close(vm, operator)
				if _, err := vm.Register(t.Context(), "someone-else"); err != nil {
					t.Fatal(err)
				}
				b := newBench(t)
				b.reaper.Registry = operator
				_, err := b.run(func(g *guest) {
					g.hello()
					g.enter(runner.Boot, nil)
					g.enter(runner.Registering, &runner.Named{Name: g.prefix + "-0000000a"})
					if _, err := vm.Register(t.Context(), g.prefix+"-0000000a"); err != nil {
						t.Error(err)
					}
					g.say(channel.Status{State: "registering"})
					if tt.fail != nil {
						p.fail(tt.fail(time.Now()))
					}
					b.machine.powerOff()
				})
				want := 1
				if tt.left {
					want = 2
				}
				if left := p.server.Runners(); len(left) != want || left[0].Name != "someone-else" || errors.Is(err, ErrLeft) != tt.left || (err != nil) != tt.left {
					t.Errorf("GitHub lists %+v: %v", left, err)
				}
			})
		})
	}
}

// until fails requests with a method, or all, for a time.
func until(begin time.Time, span time.Duration, status int, method string) func(*http.Request) int {
	return func(r *http.Request) int {
		if time.Since(begin) < span && (method == "" || r.Method == method) {
			return status
		}
		return 0
	}
}
