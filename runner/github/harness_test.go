// SPDX-License-Identifier: Apache-2.0

package github

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner/job/pinned"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake answers by "METHOD path"; a request without an answer fails the test.
type fake map[string]http.HandlerFunc

func (f fake) serve(t *testing.T) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, ok := f[r.Method+" "+r.URL.Path]
		if !ok {
			t.Errorf("nobody answers %s %s", r.Method, r.URL)
			http.NotFound(w, r)
			return
		}
		w.Header().Set("X-GitHub-Request-Id", "REQ:1")
		h(w, r)
	}))
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

func answer(status int, body any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}
}

// hangUp answers nothing.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// half ends an answer in its middle.
func half(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"runner":{"id":42,"na`))
	}
}

// with adds a header to an answer.
func with(h http.HandlerFunc, name, value string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(name, value)
		h(w, r)
	}
}

// turns gives one answer after the other, and the last one for ever.
func turns(answers ...http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	next := 0
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		h := answers[min(next, len(answers)-1)]
		next++
		mu.Unlock()
		h(w, r)
	}
}

// client makes a client of srv; its pauses do not last.
func client(t *testing.T, srv *httptest.Server, change func(*Config)) *Client {
	t.Helper()
	cl, _ := patientClient(t, srv, change)
	return cl
}

func patientClient(t *testing.T, srv *httptest.Server, change func(*Config)) (*Client, *patience) {
	t.Helper()
	host := strings.TrimPrefix(srv.URL, "https://")
	c := Config{
		URL: srv.URL, APIURL: srv.URL + "/api/v3", Scope: Repo, Target: "acme/widget", RunnerGroup: 1, Labels: []string{"attested-cvm"},
		Hosts: pinned.Hosts{host, "pipelines.example", "broker.example", "token.example"}, Roots: rootsOf(srv),
		Credential: Credential{Token: secret.New("t0ken")},
	}
	if change != nil {
		change(&c)
	}
	p := &patience{at: time.Now()}
	cl, err := newClient(c, p.clock())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl, p
}

func rootsOf(srv *httptest.Server) *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	return roots
}

// patience is a clock that only sleeping moves, and that remembers how long was slept.
type patience struct {
	mu    sync.Mutex
	at    time.Time
	slept []time.Duration
}

func (p *patience) clock() clock {
	return clock{
		now: func() time.Time {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.at
		},
		sleep: func(ctx context.Context, d time.Duration) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.at, p.slept = p.at.Add(d), append(p.slept, d)
			return ctx.Err()
		},
	}
}

func (p *patience) pauses() []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.slept)
}

func (p *patience) pass(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = p.at.Add(d)
}

const runnersPath = "/api/v3/repos/acme/widget/actions/runners"

// registered is a small GitHub with runners by id, whose every answer can be replaced.
type registered struct {
	mu      sync.Mutex
	runners map[int64]runnerJSON
	deleted []int64
}

func newRegistered(runners ...runnerJSON) *registered {
	g := &registered{runners: map[int64]runnerJSON{}}
	for _, r := range runners {
		g.runners[r.ID] = r
	}
	return g
}

// list answers the list of runners, filtered when it is asked to.
func (g *registered) list(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	found := []runnerJSON{}
	for _, one := range g.runners {
		if name := r.URL.Query().Get("name"); name == "" || strings.EqualFold(name, one.Name) {
			found = append(found, one)
		}
	}
	answer(200, map[string]any{"total_count": len(found), "runners": found})(w, r)
}

// one answers GET and DELETE of a runner.
func (g *registered) one(id int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		one, ok := g.runners[id]
		switch {
		case !ok:
			answer(404, map[string]any{"message": "Not Found"})(w, r)
		case r.Method == http.MethodGet:
			answer(200, one)(w, r)
		case one.Busy:
			answer(422, map[string]any{"message": "Bad request - Runner is still running a job"})(w, r)
		default:
			delete(g.runners, id)
			g.deleted = append(g.deleted, id)
			w.WriteHeader(http.StatusNoContent)
		}
	}
}

// fake serves the runners below base.
func (g *registered) fake(base string, ids ...int64) fake {
	f := fake{"GET " + base: g.list}
	for _, id := range ids {
		path := fmt.Sprintf("%s/%d", base, id)
		f["GET "+path], f["DELETE "+path] = g.one(id), g.one(id)
	}
	return f
}

func (g *registered) removed() []int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.deleted)
}
