// SPDX-License-Identifier: Apache-2.0

package github

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/job"
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

// client makes a client of srv; its retries do not wait.
func client(t *testing.T, srv *httptest.Server, change func(*Config)) *Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	host := strings.TrimPrefix(srv.URL, "https://")
	c := Config{
		URL: srv.URL, APIURL: srv.URL + "/api/v3", Scope: Repo, Target: "acme/widget", RunnerGroup: 1, Labels: []string{"attested-cvm"},
		Hosts: pinned.Hosts{host, "pipelines.example", "broker.example", "token.example"}, Roots: roots,
		Credential: Credential{Token: secret.New("t0ken")},
	}
	if change != nil {
		change(&c)
	}
	cl, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if b, ok := cl.api.Client().Transport.(*bearer); ok {
		if r, ok := b.next.(*retry); ok {
			r.sleep = func(context.Context, time.Duration) error { return nil }
		}
	}
	cl.clock = patience()
	t.Cleanup(cl.Close)
	return cl
}

// patience is a clock that only sleeping moves.
func patience() clock {
	now := time.Now()
	return clock{
		now: func() time.Time { return now },
		sleep: func(ctx context.Context, d time.Duration) error {
			now = now.Add(d)
			return ctx.Err()
		},
	}
}

const runnersPath = "/api/v3/repos/acme/widget/actions/runners"

func created(t *testing.T, b blob) http.HandlerFunc {
	return answer(http.StatusCreated, map[string]any{
		"runner": map[string]any{"id": 42, "name": "host-1-2"}, "encoded_jit_config": b.encode(t),
	})
}

func TestRegister(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		path   string
		change func(*Config)
	}{
		"repository":   {runnersPath, nil},
		"organisation": {"/api/v3/orgs/acme/actions/runners", func(c *Config) { c.Scope, c.Target, c.RunnerGroup = Org, "acme", 7 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sent map[string]any
			var auth string
			srv := fake{"POST " + tc.path + "/generate-jitconfig": func(w http.ResponseWriter, r *http.Request) {
				auth = r.Header.Get("Authorization")
				_ = json.NewDecoder(r.Body).Decode(&sent)
				created(t, goodBlob())(w, r)
			}}.serve(t)
			cl := client(t, srv, tc.change)
			reg, err := cl.Register(t.Context(), "host-1-2")
			if err != nil {
				t.Fatal(err)
			}
			if reg.ID != 42 || reg.Name != "host-1-2" || decodeJIT(t, reg.JIT)[".runner"]["DisableUpdate"] != "True" {
				t.Errorf("got %+v", reg)
			}
			want := map[string]any{
				"name": "host-1-2", "runner_group_id": float64(cl.config.RunnerGroup), "work_folder": "_work", "labels": []any{"attested-cvm"},
			}
			if d := cmp.Diff(want, sent); d != "" {
				t.Error(d)
			}
			if auth != "Bearer t0ken" {
				t.Errorf("authorization %q", auth)
			}
		})
	}
}

func TestRegisterRefusesForeignBlobAndRemovesTheRunner(t *testing.T) {
	t.Parallel()
	b := goodBlob()
	b.runner["ServerUrlV2"] = "https://evil.test/"
	removed := false
	srv := fake{
		"POST " + runnersPath + "/generate-jitconfig": created(t, b),
		"DELETE " + runnersPath + "/42":               func(w http.ResponseWriter, _ *http.Request) { removed = true; w.WriteHeader(http.StatusNoContent) },
	}.serve(t)
	if _, err := client(t, srv, nil).Register(t.Context(), "host-1-2"); !errors.Is(err, refusal.ErrIdentity) {
		t.Fatalf("got %v", err)
	}
	if !removed {
		t.Fatal("the runner stayed registered")
	}
}

func TestRegisterAnswers(t *testing.T) {
	t.Parallel()
	list := func(busy bool) http.HandlerFunc {
		return answer(200, map[string]any{"total_count": 2, "runners": []any{
			map[string]any{"id": 41, "name": "host-1-22"}, map[string]any{"id": 42, "name": "host-1-2", "busy": busy},
		}})
	}
	for name, tc := range map[string]struct {
		post    http.HandlerFunc
		list    http.HandlerFunc
		want    error
		remove  bool
		message string
	}{
		"name taken":      {post: answer(409, map[string]any{"message": "Already exists"}), list: list(false), want: ErrNameTaken, remove: true},
		"taken and busy":  {post: answer(409, map[string]any{"message": "Already exists"}), list: list(true), want: ErrNameTaken},
		"unknown outcome": {post: answer(500, nil), list: list(false), want: ErrUnknownOutcome, remove: true},
		"bad gateway":     {post: answer(502, nil), list: answer(200, map[string]any{"runners": []any{}}), want: ErrUnknownOutcome},
		"forbidden":       {post: answer(403, map[string]any{"message": "Resource not accessible"}), want: ErrForbidden, message: "“Administration: write” of repository acme/widget"},
		"no group":        {post: answer(422, map[string]any{"message": "Invalid"}), want: ErrRemote, message: "(request REQ:1)"},
		"not found":       {post: answer(404, map[string]any{"message": "Not Found"}), want: ErrNotFound, message: "Administration"},
		"other name":      {post: answer(201, map[string]any{"runner": map[string]any{"id": 42, "name": "x"}}), want: refusal.ErrIdentity, remove: true},
		"no runner":       {post: answer(201, map[string]any{}), want: refusal.ErrIdentity},
		"no JSON":         {post: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, want: ErrRemote},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			removed := false
			f := fake{"POST " + runnersPath + "/generate-jitconfig": tc.post}
			if tc.list != nil {
				f["GET "+runnersPath] = tc.list
			}
			if tc.remove {
				f["DELETE "+runnersPath+"/42"] = func(w http.ResponseWriter, _ *http.Request) { removed = true; w.WriteHeader(204) }
			}
			_, err := client(t, f.serve(t), nil).Register(t.Context(), "host-1-2")
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.message) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if removed != tc.remove {
				t.Fatalf("removed: %v", removed)
			}
			if strings.Contains(fmt.Sprintf("%+v", err), "t0ken") {
				t.Fatal("the error shows the token")
			}
		})
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status int
		want   error
	}{
		"gone now": {204, nil}, "gone before": {404, nil}, "busy": {422, ErrBusy}, "forbidden": {403, ErrForbidden}, "broken": {500, ErrRemote},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := fake{"DELETE " + runnersPath + "/42": answer(tc.status, map[string]any{"message": "m"})}.serve(t)
			if err := client(t, srv, nil).Remove(t.Context(), runner.Registration{ID: 42}); !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestOnline(t *testing.T) {
	t.Parallel()
	srv := fake{
		runnersPathGet(42): answer(200, map[string]any{"id": 42, "name": "host-1-2", "status": "online", "busy": true}),
		runnersPathGet(43): answer(200, map[string]any{"id": 43, "name": "host-1-3", "status": "offline"}),
		runnersPathGet(44): answer(404, map[string]any{"message": "Not Found"}),
	}.serve(t)
	cl := client(t, srv, nil)
	for id, want := range map[int64]bool{42: true, 43: false, 44: false} {
		if got, err := cl.Online(t.Context(), id); err != nil || got != want {
			t.Errorf("%d: %v, %v", id, got, err)
		}
	}
	if r, err := cl.Get(t.Context(), 42); err != nil || !r.Busy || r.Name != "host-1-2" {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := cl.Get(t.Context(), 44); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func runnersPathGet(id int) string { return fmt.Sprintf("GET %s/%d", runnersPath, id) }

func TestRetry(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		method  string
		status  int
		header  string
		answers int // requests that arrive when the first answer is bad and all others are good
	}{
		"429 on POST":               {"POST", 429, "1", 2},
		"403 with Retry-After":      {"POST", 403, "1", 2},
		"403 without":               {"POST", 403, "", 1},
		"503 on GET":                {"GET", 503, "", 2},
		"503 on POST":               {"POST", 503, "", 1},
		"502 on DELETE":             {"DELETE", 502, "", 2},
		"503 on DELETE":             {"DELETE", 503, "", 2},
		"504 on DELETE":             {"DELETE", 504, "", 2},
		"500 on DELETE":             {"DELETE", 500, "", 1},
		"no answer to DELETE":       {"DELETE", 0, "", 2},
		"no answer to GET":          {"GET", 0, "", 2},
		"Retry-After of an hour":    {"GET", 429, "3600", 1},
		"Retry-After with nonsense": {"GET", 429, "soon", 2},
		"404":                       {"GET", 404, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var bodies []string
			srv := fake{tc.method + " /x": func(w http.ResponseWriter, r *http.Request) {
				raw, _ := io.ReadAll(r.Body)
				bodies = append(bodies, string(raw))
				if len(bodies) > 1 {
					return
				}
				if tc.header != "" {
					w.Header().Set("Retry-After", tc.header)
				}
				if tc.status == 0 {
					panic(http.ErrAbortHandler) // hangs up
				}
				w.WriteHeader(tc.status)
			}}.serve(t)
			base, err := pinned.Client(pinned.Config{Hosts: pinned.Hosts{strings.TrimPrefix(srv.URL, "https://")}, Roots: rootsOf(srv)})
			if err != nil {
				t.Fatal(err)
			}
			defer base.CloseIdleConnections()
			rt := &retry{next: base.Transport, sleep: func(context.Context, time.Duration) error { return nil }}
			req, err := http.NewRequestWithContext(t.Context(), tc.method, srv.URL+"/x", strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if len(bodies) != tc.answers || bodies[len(bodies)-1] != "body" {
				t.Fatalf("requests %q", bodies)
			}
		})
	}
}

func rootsOf(srv *httptest.Server) *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	return roots
}

func TestRetryEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := sleep(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
}

const repoPath = "/api/v3/repos/acme/widget"

func TestJobs(t *testing.T) {
	t.Parallel()
	srv := fake{"GET " + repoPath + "/actions/runs/7/attempts/2/jobs": func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("page") == "2" {
			answer(200, map[string]any{"total_count": 2, "jobs": []any{map[string]any{
				"id": 12, "run_id": 7, "run_attempt": 2, "name": "b", "head_sha": "c2", "status": "in_progress", "runner_id": 42,
				"runner_name": "host-1-2", "labels": []string{"attested-cvm"},
			}}})(w, r)
			return
		}
		w.Header().Set("Link", fmt.Sprintf(`<https://%s%s?page=2>; rel="next"`, r.Host, r.URL.Path))
		answer(200, map[string]any{"total_count": 2, "jobs": []any{map[string]any{"id": 11, "run_id": 7, "runner_id": nil, "status": "queued"}}})(w, r)
	}}.serve(t)
	got, err := client(t, srv, nil).Jobs(t.Context(), "acme/widget", 7, 2)
	if err != nil {
		t.Fatal(err)
	}
	want := []job.WorkflowJob{{ID: 11, RunID: 7, Status: "queued"}, {
		ID: 12, RunID: 7, RunAttempt: 2, Name: "b", HeadSHA: "c2", Status: "in_progress", RunnerID: 42, RunnerName: "host-1-2", Labels: []string{"attested-cvm"},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	repo := map[string]any{"id": 1296269, "full_name": "acme/widget", "owner": map[string]any{"id": 583231, "login": "acme"}}
	srv := fake{"GET " + repoPath + "/actions/runs/7": answer(200, map[string]any{
		"id": 7, "run_attempt": 2, "head_branch": "main", "head_sha": "c2", "path": ".github/workflows/build.yml", "event": "push",
		"actor": map[string]any{"id": 1001, "login": "operator"}, "triggering_actor": map[string]any{"id": 1002, "login": "other"},
		"repository": repo, "head_repository": nil,
		"referenced_workflows": []any{map[string]any{"path": "acme/ci/.github/workflows/x.yml@v1", "sha": "d3", "ref": "refs/tags/v1"}},
	})}.serve(t)
	got, err := client(t, srv, nil).Run(t.Context(), "acme/widget", 7)
	if err != nil {
		t.Fatal(err)
	}
	want := &job.Run{
		ID: 7, Attempt: 2, HeadBranch: "main", HeadSHA: "c2", Path: ".github/workflows/build.yml", Event: "push", Actor: "operator", ActorID: 1001,
		TriggeringActor: "other", TriggeringActorID: 1002,
		Repository: job.Repository{ID: 1296269, FullName: "acme/widget", OwnerID: 583231, Owner: "acme"},
		Referenced: []job.ReferencedWorkflow{{Path: "acme/ci/.github/workflows/x.yml@v1", SHA: "d3", Ref: "refs/tags/v1"}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestResolveRef(t *testing.T) {
	t.Parallel()
	sha := strings.Repeat("ab", 20)
	srv := fake{
		"GET " + repoPath + "/commits/v1":             func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, sha) },
		"GET " + repoPath + "/commits/feature/x":      func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, sha) },
		"GET " + repoPath + "/commits/html":           func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"GET " + repoPath + "/commits/gone":           answer(422, map[string]any{"message": "No commit found for SHA: gone"}),
		"GET /api/v3/repos/acme/elsewhere/commits/v1": answer(404, map[string]any{"message": "Not Found"}),
	}.serve(t)
	cl := client(t, srv, nil)
	for _, ref := range []string{"v1", "feature/x"} {
		if got, err := cl.ResolveRef(t.Context(), "acme/widget", ref); err != nil || got != sha {
			t.Errorf("%s: %s, %v", ref, got, err)
		}
	}
	for repo, ref := range map[string]string{"acme/widget": "html", "acme/elsewhere": "v1", "acme/../x": "v1", "acme": "v1"} {
		if got, err := cl.ResolveRef(t.Context(), repo, ref); err == nil {
			t.Errorf("%s@%s: %s", repo, ref, got)
		}
	}
	if _, err := cl.ResolveRef(t.Context(), "acme/widget", "gone"); !errors.Is(err, ErrRemote) {
		t.Errorf("got %v", err)
	}
}

func TestRepository(t *testing.T) {
	t.Parallel()
	srv := fake{"GET " + repoPath: answer(200, map[string]any{
		"id": 1, "full_name": "acme/widget", "private": true, "fork": true, "owner": map[string]any{"id": 2, "login": "acme"},
	})}.serve(t)
	got, err := client(t, srv, nil).Repository(t.Context(), "acme/widget")
	want := job.Repository{ID: 1, FullName: "acme/widget", Owner: "acme", OwnerID: 2, Private: true, Fork: true}
	if err != nil || got != want {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestApp(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	var auth string
	srv := fake{
		"POST /api/v3/app/installations/5/access_tokens": answer(201, map[string]any{"token": "inst", "expires_at": time.Now().Add(time.Hour)}),
		"GET " + repoPath: func(w http.ResponseWriter, r *http.Request) {
			auth = r.Header.Get("Authorization")
			answer(200, map[string]any{"id": 1})(w, r)
		},
	}.serve(t)
	cl := client(t, srv, func(c *Config) {
		c.Credential = Credential{App: &App{ID: 3, InstallationID: 5, PrivateKey: secret.New(string(pemKey))}}
	})
	if _, err := cl.Repository(t.Context(), "acme/widget"); err != nil || auth != "token inst" {
		t.Fatalf("%q, %v", auth, err)
	}
}

func TestNoAnswer(t *testing.T) {
	t.Parallel()
	srv := fake{}.serve(t)
	cl := client(t, srv, nil)
	srv.Close()
	err := cl.Remove(t.Context(), runner.Registration{ID: 42})
	if !errors.Is(err, ErrRemote) {
		t.Fatalf("got %v", err)
	}
}

func TestBadConfig(t *testing.T) {
	t.Parallel()
	good := func() Config {
		return Config{
			URL: "https://github.example", APIURL: "https://api.example", Scope: Repo, Target: "a/b", RunnerGroup: 1, Labels: []string{"l"},
			Hosts: pinned.Hosts{"github.example", "api.example"}, Credential: Credential{Token: secret.New("t")},
		}
	}
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no url":          func(c *Config) { c.URL = "" },
		"http":            func(c *Config) { c.APIURL = "http://api.example" },
		"host not pinned": func(c *Config) { c.APIURL = "https://evil.test" },
		"no scope":        func(c *Config) { c.Scope = "" },
		"enterprise":      func(c *Config) { c.Scope = "enterprise" },
		"repo as org":     func(c *Config) { c.Scope = Org },
		"org as repo":     func(c *Config) { c.Target = "a" },
		"climbing target": func(c *Config) { c.Target = "a/.." },
		"no group":        func(c *Config) { c.RunnerGroup = 0 },
		"no labels":       func(c *Config) { c.Labels = nil },
		"empty label":     func(c *Config) { c.Labels = []string{""} },
		"101 labels":      func(c *Config) { c.Labels = strings.Split(strings.Repeat("l,", 100)+"l", ",") },
		"no credential":   func(c *Config) { c.Credential = Credential{} },
		"two credentials": func(c *Config) { c.Credential.App = &App{ID: 1, InstallationID: 1, PrivateKey: secret.New("k")} },
		"half an App":     func(c *Config) { c.Credential = Credential{App: &App{ID: 1}} },
		"no key in PEM": func(c *Config) {
			c.Credential = Credential{App: &App{ID: 1, InstallationID: 1, PrivateKey: secret.New("k")}}
		},
	} {
		c := good()
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
