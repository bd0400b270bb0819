// SPDX-License-Identifier: Apache-2.0

package fault_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-github/v60/github"
	"go.uber.org/goleak"

	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/fakegithub/fault"
	"github.com/kettle/attest/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var key = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

const token = "ghp_operator"

// world is a GitHub with faults, served at one base URL.
type world struct {
	server *fakegithub.Server
	faults *fault.Handler
	base   string
	client *http.Client
	waits  *atomic.Int64 // pauses asked for
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ts := httptest.NewUnstartedServer(nil)
	w := &world{base: "http://" + ts.Listener.Addr().String(), client: &http.Client{Transport: &http.Transport{}}, waits: &atomic.Int64{}}
	var err error
	w.server, err = fakegithub.New(fakegithub.Config{
		Base: w.base, NewKey: key, Operator: fakegithub.Operator{Login: "operator", ID: 1001, Token: secret.New(token)},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.faults = fault.New(w.server, func(ctx context.Context, _ time.Duration) error {
		w.waits.Add(1)
		return ctx.Err()
	})
	err = w.server.AddRepository(fakegithub.Repository{
		Owner: "acme", Name: "widget", ID: 1, OwnerID: 2, FS: os.DirFS("../testdata/widget"), Refs: []string{"refs/heads/main"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ts.Config.Handler = w.faults
	ts.Start()
	t.Cleanup(func() {
		w.faults.Close()
		if err := w.server.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		w.client.CloseIdleConnections()
		ts.Close()
	})
	return w
}

func (w *world) add(t *testing.T, r fault.Rule) *fault.Armed {
	t.Helper()
	a, err := w.faults.Add(r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// answer is what a client saw.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error
}

func (w *world) send(ctx context.Context, method, path, body string) answer {
	req, err := http.NewRequestWithContext(ctx, method, w.base+path, strings.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := w.client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, raw, err}
}

func (w *world) register(t *testing.T, name string) answer {
	t.Helper()
	return w.send(t.Context(), http.MethodPost, "/repos/acme/widget/actions/runners/generate-jitconfig",
		`{"name":"`+name+`","runner_group_id":1,"labels":["a"]}`)
}

const registering = "/repos/*/*/actions/runners/generate-jitconfig"

func TestActs(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		act    fault.Act
		want   func(answer) bool
		lands  bool // the server registers the runner all the same
		pauses bool
	}{
		"401": {act: fault.Status(401, nil), want: func(a answer) bool { return a.status == 401 && isJSON(a.body) }},
		"422": {act: fault.Status(422, nil), want: func(a answer) bool { return a.status == 422 }},
		"503 with Retry-After": {act: fault.Status(503, http.Header{"Retry-After": {"7"}}), want: func(a answer) bool {
			return a.status == 503 && a.header.Get("Retry-After") == "7"
		}},
		"primary limit": {act: fault.RateLimited(403, time.Unix(1_800_000_000, 0)), want: func(a answer) bool {
			return a.status == 403 && a.header.Get("X-RateLimit-Remaining") == "0" && a.header.Get("X-RateLimit-Reset") == "1800000000"
		}},
		"secondary limit": {act: fault.SecondaryLimit(429, time.Minute), want: func(a answer) bool {
			return a.status == 429 && a.header.Get("Retry-After") == "60" && bytes.Contains(a.body, []byte("secondary rate limit"))
		}},
		"secondary limit, no time": {act: fault.SecondaryLimit(403, -1), want: func(a answer) bool {
			return a.status == 403 && a.header.Get("Retry-After") == "" && bytes.Contains(a.body, []byte("secondary rate limit"))
		}},
		"page": {act: fault.Page(502), want: func(a answer) bool { return a.status == 502 && bytes.HasPrefix(a.body, []byte("<!DOCTYPE")) }},
		"reset": {act: fault.Reset(), want: func(a answer) bool {
			return errors.Is(a.err, syscall.ECONNRESET) || errors.Is(a.err, io.EOF)
		}},
		"lost, then 500":   {act: fault.Lost(fault.Status(500, nil)), want: func(a answer) bool { return a.status == 500 }, lands: true},
		"lost, then reset": {act: fault.Lost(fault.Reset()), want: func(a answer) bool { return a.err != nil }, lands: true},
		"half": {act: fault.Half(), want: func(a answer) bool {
			return a.status == 201 && errors.Is(a.err, io.ErrUnexpectedEOF) && len(a.body) > 0
		}, lands: true},
		"cut JSON":   {act: fault.CutJSON(), want: func(a answer) bool { return a.status == 201 && a.err == nil && !isJSON(a.body) }, lands: true},
		"wrong JSON": {act: fault.WrongJSON(), want: func(a answer) bool { return a.status == 201 && string(a.body) == `"unexpected"` }, lands: true},
		"drip":       {act: fault.Drip(time.Second), want: func(a answer) bool { return a.status == 201 && isJSON(a.body) }, lands: true, pauses: true},
		"delay":      {act: fault.Delay(time.Second), want: func(a answer) bool { return a.status == 201 && isJSON(a.body) }, lands: true, pauses: true},
		"own answer": {act: fault.Answer(204, nil, ""), want: func(a answer) bool { return a.status == 204 }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			rule := w.add(t, fault.Rule{Services: []string{"api"}, Method: http.MethodPost, Path: registering, Times: 1, Act: tt.act})
			if got := w.register(t, "first"); !tt.want(got) {
				t.Errorf("got %d %v %q %v", got.status, got.header, got.body, got.err)
			}
			if landed := len(w.server.Runners()) == 1; landed != tt.lands || rule.Hits() != 1 || (w.waits.Load() > 0) != tt.pauses {
				t.Errorf("registered %v, hits %d, pauses %d", landed, rule.Hits(), w.waits.Load())
			}
			if got := w.register(t, "second"); got.status != http.StatusCreated || rule.Hits() != 1 {
				t.Errorf("after the only occurrence: %d %v, hits %d", got.status, got.err, rule.Hits())
			}
		})
	}
}

func isJSON(b []byte) bool { return json.Valid(b) }

// go-github must recognise the limits for what they are.
func TestLimitsAsGoGitHubReadsThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := github.NewClient(w.client)
	var err error
	if c.BaseURL, err = c.BaseURL.Parse(w.base + "/"); err != nil {
		t.Fatal(err)
	}
	w.add(t, fault.Rule{Times: 1, Act: fault.SecondaryLimit(403, time.Minute)})
	var abuse *github.AbuseRateLimitError
	if _, _, err := c.Repositories.Get(t.Context(), "acme", "widget"); !errors.As(err, &abuse) || abuse.GetRetryAfter() != time.Minute {
		t.Errorf("secondary: %v", err)
	}
	c = github.NewClient(w.client)
	if c.BaseURL, err = c.BaseURL.Parse(w.base + "/"); err != nil {
		t.Fatal(err)
	}
	w.add(t, fault.Rule{Times: 1, Act: fault.RateLimited(403, time.Now().Add(time.Hour))})
	var limit *github.RateLimitError
	if _, _, err := c.Repositories.Get(t.Context(), "acme", "widget"); !errors.As(err, &limit) {
		t.Errorf("primary: %v", err)
	}
}

func TestMatching(t *testing.T) {
	t.Parallel()
	named := func(r *http.Request) bool {
		raw, err := io.ReadAll(r.Body)
		return err == nil && bytes.Contains(raw, []byte(`"victim"`))
	}
	tests := map[string]struct {
		rule fault.Rule
		want []int // the statuses of three registrations, the second of a runner named victim
	}{
		"all":           {fault.Rule{}, []int{500, 500, 500}},
		"method":        {fault.Rule{Method: "GET"}, []int{201, 201, 201}},
		"service":       {fault.Rule{Services: []string{"broker"}}, []int{201, 201, 201}},
		"path":          {fault.Rule{Path: "/repos/*/other/**"}, []int{201, 201, 201}},
		"deep path":     {fault.Rule{Path: "/repos/**"}, []int{500, 500, 500}},
		"skip":          {fault.Rule{Skip: 1}, []int{201, 500, 500}},
		"skip and once": {fault.Rule{Skip: 1, Times: 1}, []int{201, 500, 201}},
		"predicate":     {fault.Rule{When: named}, []int{201, 500, 201}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tt.rule.Act = fault.Status(500, nil)
			w.add(t, tt.rule)
			for i, runner := range []string{"one", "victim", "three"} {
				if got := w.register(t, runner); got.status != tt.want[i] {
					t.Errorf("%s: %d %v, want %d", runner, got.status, got.err, tt.want[i])
				}
			}
		})
	}
}

func TestRuleRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	act := fault.Reset()
	for name, r := range map[string]fault.Rule{
		"no act": {}, "no act after the loss": {Act: fault.Lost(fault.Act{})}, "no change": {Act: fault.Spoil(nil)},
		"negative": {Act: act, Skip: -1}, "pattern": {Act: act, Path: "[a"}, "service": {Act: act, Services: []string{"brokr"}},
	} {
		if _, err := w.faults.Add(r); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	w.faults.Close()
	if _, err := w.faults.Add(fault.Rule{Act: act}); err == nil {
		t.Error("accepted after the end")
	}
}

// A client that gives up ends the request; so does the removal of the rule.
func TestHang(t *testing.T) {
	t.Parallel()
	for _, ending := range []string{"client", "rule"} {
		t.Run(ending, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			rule := w.add(t, fault.Rule{Method: http.MethodPost, Act: fault.Hang()})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan answer)
			go func() { done <- w.send(ctx, http.MethodPost, "/anything", `{"some":"body"}`) }()
			if err := rule.Await(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			if ending == "client" {
				cancel()
			} else {
				rule.Remove()
			}
			if got := <-done; got.err == nil {
				t.Errorf("answered %d", got.status)
			}
			if err := rule.Await(ctx, 2); err == nil {
				t.Error("waiting for what cannot come must end")
			}
		})
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rule := w.add(t, fault.Rule{Act: fault.Hold()})
	done := make(chan answer)
	go func() { done <- w.register(t, "held") }()
	if err := rule.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if n := len(w.server.Runners()); n != 0 {
		t.Errorf("%d runners while the request is held", n)
	}
	w.faults.Clear()
	if got := <-done; got.status != http.StatusCreated {
		t.Errorf("after the release: %d %v", got.status, got.err)
	}
}

// A partition answers nothing, leaves other services alone, and heals. That it cuts a poll under way is tested with a runner
// that polls, in package stubrunner.
func TestPartition(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(t, fault.Rule{Services: []string{"broker"}, Act: fault.Status(500, nil)}) // a partition comes before all other rules
	cut, err := w.faults.Partition("broker", "run")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan answer)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { done <- w.send(ctx, http.MethodGet, "/_broker/health", "") }()
	if err := cut.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if got := w.register(t, "one"); got.status != http.StatusCreated {
		t.Errorf("another service: %d %v", got.status, got.err)
	}
	cancel()
	if got := <-done; got.err == nil {
		t.Errorf("an answer through the partition: %d", got.status)
	}
	cut.Remove()
	if got := w.send(t.Context(), http.MethodGet, "/_run/health", ""); got.status != http.StatusOK {
		t.Errorf("after the heal: %d %v", got.status, got.err)
	}
	if _, err := w.faults.Partition("nowhere"); err == nil {
		t.Error("a partition of a service that there is not")
	}
}

func TestConcurrentRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 20 {
				a, err := w.faults.Add(fault.Rule{Method: http.MethodGet, Act: fault.Status(500, nil)})
				if err != nil {
					t.Error(err)
					return
				}
				w.send(t.Context(), http.MethodGet, "/repos/acme/widget", "")
				a.Remove()
				a.Remove()
			}
		})
	}
	group.Wait()
	if got := w.send(t.Context(), http.MethodGet, "/repos/acme/widget", ""); got.status != http.StatusOK {
		t.Errorf("%d %v", got.status, got.err)
	}
}
