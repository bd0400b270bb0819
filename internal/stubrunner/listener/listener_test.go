// SPDX-License-Identifier: Apache-2.0

package listener_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"go.uber.org/goleak"

	"github.com/kettle/attest/internal/stubrunner/listener"
	"github.com/kettle/attest/internal/stubrunner/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var key = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// answer is what the services say to one kind of request.
type answer struct {
	status int
	body   string
}

// services is a small GitHub: a queue of messages, and answers that a test may change.
type services struct {
	t       *testing.T
	url     string
	mu      sync.Mutex
	answers map[string]answer
	queue   []string // messages; "" ends a poll without one, "lost" says that the session has ended
	log     []string

	settings map[string]any // of the registration, in the place of the usual ones
}

// pause waits a little for the program to go on.
func (s *services) pause() { time.Sleep(time.Millisecond) }

const jobMessage = `{"messageType":"RunnerJobRequest","plan":{"planId":"p"},"jobId":"j","jobDisplayName":"build","steps":[],
	"resources":{"endpoints":[{"name":"SystemVssConnection","url":"URL/run/","authorization":{"parameters":{"AccessToken":"sys"}}}]}}`

func newServices(t *testing.T) *services {
	t.Helper()
	s := &services{t: t, answers: map[string]answer{
		"POST /oauth": {200, `{"access_token":"tok","expires_in":3000}`}, "POST /broker/session": {200, `{"sessionId":"s"}`},
		"DELETE /broker/session": {200, ""}, "POST /broker/acknowledge": {200, ""}, "POST /run/renewjob": {200, "{}"},
		"POST /run/completejob": {200, ""},
	}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	s.answers["POST /run/acquirejob"] = answer{200, strings.ReplaceAll(jobMessage, "URL", s.url)}
	return s
}

func (s *services) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.Method + " " + r.URL.Path
	s.mu.Lock()
	s.log = append(s.log, name)
	a, known := s.answers[name]
	message, queued := "", len(s.queue) > 0
	if name == "GET /broker/message" && queued {
		message, s.queue = s.queue[0], s.queue[1:]
	}
	s.mu.Unlock()
	switch {
	case name == "POST /oauth":
		s.checkAssertion(r)
	case r.Header.Get("Authorization") == "":
		a = answer{401, ""}
	}
	switch {
	case name != "GET /broker/message" || known:
		w.WriteHeader(a.status)
		_, _ = w.Write([]byte(a.body))
	case message == "lost":
		lost := brokerFault("RunnerSessionInvalid")
		w.WriteHeader(lost.status)
		_, _ = w.Write([]byte(lost.body))
	case message != "":
		_, _ = w.Write([]byte(message))
	case queued:
		w.WriteHeader(http.StatusAccepted)
	default:
		select {
		case <-r.Context().Done():
		case <-time.After(50 * time.Millisecond):
			w.WriteHeader(http.StatusAccepted)
		}
	}
}

func (s *services) checkAssertion(r *http.Request) {
	tok, err := jwt.ParseSigned(r.FormValue("client_assertion"), []jose.SignatureAlgorithm{jose.PS256})
	var claims jwt.Claims
	if err == nil {
		err = tok.Claims(key().Public(), &claims)
	}
	if err != nil || claims.Issuer != "c" || claims.Subject != "c" || !claims.Audience.Contains(s.url+"/oauth") ||
		r.FormValue("grant_type") != "client_credentials" {
		s.t.Errorf("client assertion: %v %+v", err, claims)
	}
}

func (s *services) requests() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.log, "\n")
}

func (s *services) jit() string {
	s.t.Helper()
	k := key()
	files := map[string]any{
		".runner": map[string]any{
			"AgentId": "7", "AgentName": "r", "WorkFolder": "_work", "Ephemeral": "True", "UseV2Flow": "True", "DisableUpdate": "True",
			"ServerUrlV2": s.url + "/broker/",
		},
		".credentials": map[string]any{"Scheme": "OAuth", "Data": map[string]any{
			"ClientId": "c", "AuthorizationUrl": s.url + "/oauth", "RequireFipsCryptography": "True",
		}},
		".credentials_rsaparams": map[string]any{
			"modulus": k.N.Bytes(), "exponent": big.NewInt(int64(k.E)).Bytes(), "d": k.D.Bytes(), "p": k.Primes[0].Bytes(), "q": k.Primes[1].Bytes(),
		},
	}
	if settings, ok := files[".runner"].(map[string]any); ok {
		maps.Copy(settings, s.settings)
	}
	out := map[string][]byte{}
	for name, v := range files {
		data, err := json.Marshal(v)
		if err != nil {
			s.t.Fatal(err)
		}
		out[name] = data
	}
	data, err := json.Marshal(out)
	if err != nil {
		s.t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(data)
}

func queued(kind string, body map[string]any) string {
	inner, _ := json.Marshal(body)
	outer, _ := json.Marshal(map[string]any{"messageId": 1, "messageType": kind, "body": string(inner)})
	return string(outer)
}

func (s *services) offer() string {
	return queued("RunnerJobRequest", map[string]any{
		"runner_request_id": "q", "run_service_url": s.url + "/run/", "billing_owner_id": "o", "should_acknowledge": true,
	})
}

// console is the outcome of one run.
type console struct {
	code     int
	out, err bytes.Buffer
	root     string
}

func run(t *testing.T, ctx context.Context, s *services, change func(*listener.Config)) *console { //nolint:revive // The context is the stop signal.
	t.Helper()
	c := &console{root: t.TempDir()}
	client := &http.Client{Transport: &http.Transport{}}
	config := listener.Config{
		Root: c.root, Options: listener.ParseOptions([]string{"run", "--jitconfig", s.jit()}, nil), Out: &c.out, Err: &c.err,
		Getenv: func(string) string { return "" }, Client: client,
		Timing:   listener.Timing{SessionRetry: time.Millisecond, ConflictLimit: 5 * time.Millisecond, PollRetry: time.Millisecond},
		Dispatch: func(context.Context, listener.Assignment) (message.Result, error) { return message.Succeeded, nil },
	}
	if change != nil {
		change(&config)
	}
	c.code = listener.Run(ctx, config)
	client.CloseIdleConnections()
	return c
}

func brokerFault(kind string) answer {
	return answer{403, `{"source":"actions-broker-listener","errorKind":"` + kind + `","errorMessage":"m"}`}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	env := func(name string) func(*listener.Config) {
		return func(c *listener.Config) {
			c.Getenv = func(n string) string { return map[bool]string{true: "1"}[n == name] }
		}
	}
	tests := map[string]struct {
		prepare func(*services)
		change  func(*listener.Config)
		code    int
		says    string
		gone    bool // the registration's files
	}{
		"one job":       {prepare: func(s *services) { s.queue = []string{"", s.offer()} }, code: 0, says: "Running job: build", gone: true},
		"hosted result": {prepare: func(s *services) { s.queue = []string{s.offer()} }, change: env("ACTIONS_RUNNER_RETURN_JOB_RESULT_FOR_HOSTED"), code: 100, gone: true},
		"bad blob":      {change: func(c *listener.Config) { c.Options.JIT = "%" }, code: 1, says: "illegal base64"},
		"missing":       {change: func(c *listener.Config) { c.Options.JIT = "" }, code: 1, says: "Runner is not configured."},
		"invalid client": {prepare: func(s *services) { s.answers["POST /oauth"] = answer{400, `{"error":"invalid_client"}`} }, code: 1,
			says: "Failed to create a session. The runner registration has been deleted"},
		"forbidden":       {prepare: func(s *services) { s.answers["POST /broker/session"] = answer{403, ""} }, code: 1, says: "Failed to create session."},
		"conflict":        {prepare: func(s *services) { s.answers["POST /broker/session"] = answer{409, ""} }, code: 5, says: "A session for this runner already exists."},
		"too old":         {prepare: func(s *services) { s.answers["GET /broker/message"] = brokerFault("RunnerVersionTooOld") }, code: 1, says: "deprecated"},
		"too old, told":   {prepare: func(s *services) { s.answers["GET /broker/message"] = brokerFault("RunnerVersionTooOld") }, change: env("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE"), code: 7},
		"not found":       {prepare: func(s *services) { s.answers["GET /broker/message"] = brokerFault("RunnerNotFound") }, code: 0, says: "no longer exists", gone: true},
		"deprovisioned":   {prepare: func(s *services) { s.answers["GET /broker/message"] = brokerFault("HostedRunnerDeprovisioned") }, code: 0},
		"ten errors":      {prepare: func(s *services) { s.answers["GET /broker/message"] = answer{500, "x"} }, code: 2, says: "Runner connect error"},
		"unauthorized":    {prepare: func(s *services) { s.answers["GET /broker/message"] = answer{401, ""} }, code: 1, says: "non-retryable"},
		"hosted shutdown": {prepare: func(s *services) { s.queue = []string{queued("HostedRunnerShutdown", nil)} }, code: 0},
		"job gone": {prepare: func(s *services) {
			s.queue = []string{s.offer()}
			s.answers["POST /broker/acknowledge"] = brokerFault("AcknowledgeJobNotFound")
		}, code: 0, gone: true},
		"acknowledge fails": {prepare: func(s *services) {
			s.queue = []string{s.offer()}
			s.answers["POST /broker/acknowledge"] = answer{500, ""}
		}, code: 0, gone: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServices(t)
			if tt.prepare != nil {
				tt.prepare(s)
			}
			c := run(t, t.Context(), s, tt.change)
			if c.code != tt.code {
				t.Errorf("exit code %d, want %d\n%s%s", c.code, tt.code, &c.out, &c.err)
			}
			if !strings.Contains(c.out.String()+c.err.String(), tt.says) {
				t.Errorf("%q is missing in:\n%s%s", tt.says, &c.out, &c.err)
			}
			_, err := os.Stat(filepath.Join(c.root, ".runner"))
			if gone := errors.Is(err, os.ErrNotExist); gone != tt.gone && name != "missing" && name != "bad blob" {
				t.Errorf(".runner is gone: %v", gone)
			}
		})
	}
}

func TestOrderOfRequests(t *testing.T) {
	t.Parallel()
	s := newServices(t)
	s.queue = []string{s.offer()}
	run(t, t.Context(), s, nil)
	want := []string{"POST /oauth", "POST /broker/session", "GET /broker/message", "POST /broker/acknowledge", "POST /run/acquirejob", "DELETE /broker/session"}
	rest := s.requests()
	for _, w := range want {
		_, after, ok := strings.Cut(rest, w)
		if !ok {
			t.Fatalf("%s is missing or out of order in:\n%s", w, s.requests())
		}
		rest = after
	}
}

// TestGhost shows that a runner whose job is gone at acquirejob keeps listening until it is stopped.
func TestGhost(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"404", "409", "422"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			s := newServices(t)
			s.queue = []string{s.offer()}
			s.answers["POST /run/acquirejob"] = answer{422, `{"source":"actions-run-service","statusCode":` + code + `}`}
			ctx, stop := context.WithCancel(t.Context())
			go func() {
				for strings.Count(s.requests(), "GET /broker/message") < 4 {
					s.pause()
				}
				stop()
			}()
			c := run(t, ctx, s, nil)
			if c.code != 0 || strings.Contains(c.out.String(), "Running job") || strings.Count(s.requests(), "GET /broker/message") < 3 {
				t.Errorf("exit code %d\n%s\n%s", c.code, &c.out, s.requests())
			}
			if _, err := os.Stat(filepath.Join(c.root, ".runner")); err != nil {
				t.Error("the registration is gone")
			}
		})
	}
}

func TestSessionRecovers(t *testing.T) {
	t.Parallel()
	s := newServices(t)
	s.queue = []string{"lost", s.offer()}
	if c := run(t, t.Context(), s, nil); c.code != 0 || strings.Count(s.requests(), "POST /broker/session") < 2 {
		t.Errorf("exit code %d\n%s", c.code, s.requests())
	}
}

// TestCancellation shows that the cancellation of the running job, and of no other, reaches the dispatch.
func TestCancellation(t *testing.T) {
	t.Parallel()
	s := newServices(t)
	cancel := func(job string) string {
		return queued("JobCancellation", map[string]any{"jobId": job, "timeout": "00:02:00"})
	}
	s.queue = []string{cancel("j"), s.offer(), cancel("other"), s.offer(), cancel("j")}
	var limits []time.Duration
	run(t, t.Context(), s, func(c *listener.Config) {
		c.Dispatch = func(_ context.Context, a listener.Assignment) (message.Result, error) {
			limits = append(limits, <-a.Cancel)
			return message.Canceled, nil
		}
	})
	if len(limits) != 1 || limits[0] != 2*time.Minute {
		t.Errorf("limits: %v", limits)
	}
}

func TestStopDuringJob(t *testing.T) {
	t.Parallel()
	s := newServices(t)
	s.queue = []string{s.offer()}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	stopped := false
	c := run(t, ctx, s, func(c *listener.Config) {
		c.Dispatch = func(_ context.Context, a listener.Assignment) (message.Result, error) {
			stop()
			<-a.Stop
			stopped = true
			return message.Canceled, nil
		}
	})
	if c.code != 0 || !stopped {
		t.Errorf("exit code %d, stopped %v", c.code, stopped)
	}
}

// TestWorkerNeverStarts shows that no Worker starts when the first renewal fails, and that a job whose Worker can't run
// is reported.
func TestWorkerNeverStarts(t *testing.T) {
	t.Parallel()
	s := newServices(t)
	s.queue = []string{s.offer()}
	s.answers["POST /run/renewjob"] = answer{404, `{"source":"actions-run-service","statusCode":404}`}
	c := run(t, t.Context(), s, func(c *listener.Config) { c.Dispatch = nil })
	if c.code != 0 || strings.Contains(c.out.String(), "completed with result") || strings.Contains(s.requests(), "completejob") {
		t.Errorf("exit code %d\n%s\n%s", c.code, &c.out, s.requests())
	}
}

func TestCrashedWorker(t *testing.T) {
	t.Parallel()
	s := newServices(t)
	s.queue = []string{s.offer()}
	c := run(t, t.Context(), s, func(c *listener.Config) {
		c.Dispatch = nil
		if err := os.MkdirAll(filepath.Join(c.Root, "bin"), 0o755); err != nil {
			t.Fatal(err)
		}
		script := "#!/bin/sh\ncat <&3 >/dev/null 2>&1 & echo boom >&2; exit 1\n"
		if err := os.WriteFile(filepath.Join(c.Root, "bin/Runner.Worker"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	})
	if c.code != 0 || !strings.Contains(c.out.String(), "Job build completed with result: Failed") || !strings.Contains(s.requests(), "POST /run/completejob") {
		t.Errorf("exit code %d\n%s\n%s", c.code, &c.out, s.requests())
	}
}

func TestParseOptions(t *testing.T) {
	t.Parallel()
	env := []string{"actions_runner_input_jitconfig=fromenv", "ACTIONS_RUNNER_INPUT_ONCE=true", "OTHER=1"}
	o := listener.ParseOptions([]string{"run", "--what"}, env)
	if !o.Run || !o.Once || o.JIT != "fromenv" || len(o.Unknown) != 1 {
		t.Errorf("%+v", o)
	}
	for _, args := range [][]string{{"run", "--jitconfig", "arg"}, {"run", "--jitconfig=arg"}} {
		if o := listener.ParseOptions(args, env); o.JIT != "arg" {
			t.Errorf("%v: %+v", args, o)
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("ACTIONS_RUNNER_INPUT_X", "1")
	t.Setenv("KETTLE_TEST_GONE", "1")
	t.Setenv("KETTLE_TEST_SET", "")
	root := t.TempDir()
	if err := listener.LoadEnvFile(root); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, ".env"), []byte("KETTLE_TEST_SET=a=\"b\"\n\n=x\nword\nKETTLE_TEST_GONE=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(listener.LoadEnvFile(root), listener.ClearInputs()); err != nil {
		t.Fatal(err)
	}
	if got := os.Getenv("KETTLE_TEST_SET"); got != `a="b"` {
		t.Errorf("value: %q", got)
	}
	for _, name := range []string{"KETTLE_TEST_GONE", "ACTIONS_RUNNER_INPUT_X"} {
		if _, set := os.LookupEnv(name); set {
			t.Errorf("%s is still set", name)
		}
	}
}
