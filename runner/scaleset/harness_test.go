// SPDX-License-Identifier: Apache-2.0

package scaleset

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/fakegithub/fault"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/internal/stubrunner/message"
	"github.com/kettle/attest/internal/stubrunner/registration"
	"github.com/kettle/attest/internal/stubrunner/service"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/github"
	"github.com/kettle/attest/runner/job/pinned"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const workflow = `on: workflow_dispatch
jobs:
  build:
    runs-on: attested-cvm
    steps:
      - run: "true"
`

// keys are lent to the stand-in: making one takes half a second.
var keys = sync.OnceValue(func() []*rsa.PrivateKey {
	var out []*rsa.PrivateKey
	for range 3 {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		out = append(out, k)
	}
	return out
})

// world is the stand-in for GitHub, with faults, and a registrar of its scale sets.
type world struct {
	t      *testing.T
	github *fakegithub.Server
	faults *fault.Handler
	config github.Config
	http   *http.Client
	waited *atomic.Int32
}

func newWorld(t *testing.T) *world {
	t.Helper()
	hosts := fakegithub.DemoHosts()
	var lent atomic.Int32
	w := &world{t: t, waited: new(atomic.Int32)}
	var err error
	w.github, err = fakegithub.New(fakegithub.Config{
		Hosts: hosts, Operator: fakegithub.Operator{Login: "operator", ID: 1001, Token: secret.New("ghp_operator")},
		NewKey: func() (*rsa.PrivateKey, error) { return keys()[int(lent.Add(1))%len(keys())], nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.github.AddRepository(fakegithub.Repository{
		Owner: "acme", Name: "widget", ID: 1296269, OwnerID: 583231, Refs: []string{"refs/heads/main"},
		FS: fstest.MapFS{".github/workflows/build.yml": {Data: []byte(workflow)}},
	}); err != nil {
		t.Fatal(err)
	}
	authority, err := fakegithub.NewAuthority(hosts.Names(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w.faults = fault.New(w.github, nil)
	srv := httptest.NewUnstartedServer(w.faults)
	srv.TLS, srv.Config.ErrorLog = authority.TLS(), slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	w.http = authority.Client(srv.Listener.Addr())
	w.config = github.Config{
		URL: "https://" + hosts.Server, APIURL: "https://" + hosts.API, Scope: github.Repo, Target: "acme/widget", RunnerGroup: 1,
		Labels: []string{"attested-cvm"}, Hosts: pinned.Hosts(hosts.Names()), Roots: authority.Pool(),
		Credential: github.Credential{Token: secret.New("ghp_operator")},
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, srv.Listener.Addr().String())
		},
	}
	t.Cleanup(func() {
		w.http.CloseIdleConnections()
		w.faults.Close()
		if err := w.github.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	return w
}

// registrar makes one; its own pauses do not last.
func (w *world) registrar(change func(*github.Config)) *Registrar {
	w.t.Helper()
	c := w.config
	if change != nil {
		change(&c)
	}
	client, err := github.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := New(Config{GitHub: client, Name: "cvm-7", Owner: "host-1", Version: "v0"})
	if err != nil {
		w.t.Fatal(err)
	}
	r.clock.sleep = func(ctx context.Context, _ time.Duration) error {
		w.waited.Add(1)
		select {
		case <-time.After(time.Millisecond): // lets others act
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	w.t.Cleanup(func() {
		_ = r.Close(context.WithoutCancel(w.t.Context()))
		client.Close()
	})
	return r
}

func (w *world) fault(r fault.Rule) *fault.Armed {
	w.t.Helper()
	armed, err := w.faults.Add(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return armed
}

func (w *world) dispatch() *fakegithub.Run {
	w.t.Helper()
	run, err := w.github.Dispatch(w.t.Context(), fakegithub.Dispatch{Owner: "acme", Repo: "widget", Workflow: "build.yml", Ref: "main"})
	if err != nil {
		w.t.Fatal(err)
	}
	return run
}

// run is a runner program that takes the job that it is given, up to the point where a worker would start.
func (w *world) run(reg runner.Registration) *service.Run {
	w.t.Helper()
	ctx, root := w.t.Context(), w.t.TempDir()
	check := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	check(registration.Save(root, reg.JIT.Reveal()))
	settings, err := registration.Load(root)
	check(err)
	credential, err := registration.Credential(root)
	check(err)
	tokens := service.NewTokens(w.http, credential)
	broker := service.NewBroker(w.http, settings.BrokerURL, tokens, service.Agent{
		ID: settings.AgentID, Name: settings.AgentName, Owner: "test", OSDescription: "Linux", Ephemeral: true, DisableUpdate: true,
	})
	session, err := broker.CreateSession(ctx)
	check(err)
	next, err := broker.Next(ctx, session, false)
	check(err)
	var offer message.JobRequest
	check(json.Unmarshal([]byte(next.Body), &offer))
	check(broker.Acknowledge(ctx, session, offer.RunnerRequestID))
	raw, err := service.Acquire(ctx, w.http, tokens, offer)
	check(err)
	var job message.Job
	check(json.Unmarshal(raw, &job))
	run, err := service.NewRun(w.http, &job)
	check(err)
	return run
}

// until waits for something that another goroutine does.
func until(t *testing.T, what string, ready func() bool) {
	t.Helper()
	for !ready() {
		select {
		case <-time.After(2 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("the test ended before " + what)
		}
	}
}
