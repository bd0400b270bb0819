// SPDX-License-Identifier: Apache-2.0

package fakegithub_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-github/v60/github"
	"go.uber.org/goleak"

	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keys are shared: making RSA keys would be most of these tests' time. No two runners of a test get the same.
var keys = sync.OnceValues(func() ([]*rsa.PrivateKey, error) {
	var out []*rsa.PrivateKey
	for range 4 {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
})

// lend hands the shared keys out in turn.
func lend() func() (*rsa.PrivateKey, error) {
	var next atomic.Int64
	return func() (*rsa.PrivateKey, error) {
		all, err := keys()
		if err != nil {
			return nil, err
		}
		return all[int(next.Add(1))%len(all)], nil
	}
}

const operatorToken = "ghp_operator"

// start serves one GitHub at one base URL, with the repositories acme/widget (public), acme/safe (private) and the checkout.
func start(t *testing.T, apps ...fakegithub.App) (*fakegithub.Server, string) {
	t.Helper()
	ts := httptest.NewUnstartedServer(nil)
	base := "http://" + ts.Listener.Addr().String()
	s, err := fakegithub.New(fakegithub.Config{
		Base: base, Apps: apps, NewKey: lend(), Operator: fakegithub.Operator{Login: "operator", ID: 1001, Token: secret.New(operatorToken)},
	})
	if err != nil {
		t.Fatal(err)
	}
	ts.Config.Handler = s
	ts.Start()
	t.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		ts.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	populate(t, s)
	return s, base
}

func populate(t *testing.T, s *fakegithub.Server) {
	t.Helper()
	widget := fakegithub.Repository{
		Owner: "acme", Name: "widget", ID: 1296269, OwnerID: 583231, Dir: "testdata/widget", Refs: []string{"refs/heads/main", "refs/tags/v1.0.0"},
		Vars: map[string]string{"MASCOT": "mona"}, Secrets: map[string]secret.String{"DEPLOY_KEY": secret.New("hunter2.key")},
	}
	safe := widget
	safe.Name, safe.ID, safe.Private = "safe", 1296270, true
	for _, r := range []fakegithub.Repository{widget, safe} {
		if err := s.AddRepository(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.AddCheckout("v4"); err != nil {
		t.Fatal(err)
	}
}

// client is go-github against the server; an empty token asks anonymously.
func client(t *testing.T, base, token string) *github.Client {
	t.Helper()
	c := github.NewClient(nil)
	if token != "" {
		c = c.WithAuthToken(token)
	}
	u, err := url.Parse(base + "/")
	if err != nil {
		t.Fatal(err)
	}
	c.BaseURL = u
	if c.UploadURL, err = url.Parse(base + "/_uploads/"); err != nil {
		t.Fatal(err)
	}
	return c
}

func dispatch(t *testing.T, s *fakegithub.Server, repo, file string) *fakegithub.Run {
	t.Helper()
	run, err := s.Dispatch(t.Context(), fakegithub.Dispatch{Owner: "acme", Repo: repo, Workflow: file, Ref: "main"})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// mini is a runner that speaks the wire format and runs nothing.
type mini struct {
	t       *testing.T
	id      int64
	settled map[string]string // .runner
	oauth   string            // token endpoint
	client  string
	key     *rsa.PrivateKey
	token   string
	session string
}

type file struct {
	Data map[string]string
}

// newMini registers a runner for acme/widget and decodes its configuration.
func newMini(t *testing.T, base, name string, labels ...string) *mini {
	t.Helper()
	cfg, _, err := client(t, base, operatorToken).Actions.GenerateRepoJITConfig(t.Context(), "acme", "widget",
		&github.GenerateJITConfigRequest{Name: name, RunnerGroupID: 1, Labels: labels})
	if err != nil {
		t.Fatal(err)
	}
	return fromJIT(t, cfg.GetRunner().GetID(), cfg.GetEncodedJITConfig())
}

func fromJIT(t *testing.T, id int64, encoded string) *mini {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	var files map[string][]byte
	unmarshal(t, raw, &files)
	m := &mini{t: t, id: id}
	var settings map[string]*string
	unmarshal(t, files[".runner"], &settings)
	m.settled = map[string]string{}
	for k, v := range settings {
		if v != nil {
			m.settled[k] = *v
		}
	}
	var cred file
	unmarshal(t, files[".credentials"], &cred)
	m.oauth, m.client = cred.Data["AuthorizationUrl"], cred.Data["ClientId"]
	var parts map[string][]byte
	unmarshal(t, files[".credentials_rsaparams"], &parts)
	n := func(name string) *big.Int { return new(big.Int).SetBytes(parts[name]) }
	m.key = &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n("modulus"), E: int(n("exponent").Int64())}, D: n("d"), Primes: []*big.Int{n("p"), n("q")}}
	m.key.Precompute()
	return m
}

func unmarshal(t *testing.T, raw []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatalf("%v in %.200s", err, raw)
	}
}

// assertion makes a client assertion; change may spoil it.
func (m *mini) assertion(alg jose.SignatureAlgorithm, key *rsa.PrivateKey, change map[string]any) string {
	m.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		m.t.Fatal(err)
	}
	now := time.Now()
	claims := map[string]any{
		"iss": m.client, "sub": m.client, "aud": m.oauth, "jti": "1", "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}
	maps.Copy(claims, change)
	out, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

func (m *mini) authorize(assertion string) (int, map[string]any) {
	m.t.Helper()
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_assertion": {assertion},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
	}
	status, body := send(m.t, http.MethodPost, m.oauth, "", "application/x-www-form-urlencoded", []byte(form.Encode()))
	var out map[string]any
	unmarshal(m.t, body, &out)
	return status, out
}

func (m *mini) login() {
	m.t.Helper()
	status, out := m.authorize(m.assertion(jose.PS256, m.key, nil))
	if status != http.StatusOK {
		m.t.Fatalf("token endpoint: %d %v", status, out)
	}
	m.token, _ = out["access_token"].(string)
}

func (m *mini) broker(method, path string, body any) (int, []byte) {
	m.t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		m.t.Fatal(err)
	}
	return send(m.t, method, m.settled["ServerUrlV2"]+path, m.token, "application/json", raw)
}

func (m *mini) connect() {
	m.t.Helper()
	m.login()
	status, body := m.broker(http.MethodPost, "session", map[string]any{"ownerName": "host", "agent": map[string]any{"id": m.id, "name": m.settled["AgentName"]}})
	if status != http.StatusCreated {
		m.t.Fatalf("session: %d %s", status, body)
	}
	var out struct{ SessionID string }
	unmarshal(m.t, body, &out)
	m.session = out.SessionID
}

type message struct {
	MessageID   int64
	MessageType string
	Body        string
}

func (m *mini) poll(state string) (int, message) {
	m.t.Helper()
	status, body := m.broker(http.MethodGet, "message?sessionId="+m.session+"&status="+state+"&os=Linux&disableUpdate=true", nil)
	var out message
	if status == http.StatusOK {
		unmarshal(m.t, body, &out)
	}
	return status, out
}

// offer is what a RunnerJobRequest says.
type offer struct {
	ID         string `json:"runner_request_id"`
	URL        string `json:"run_service_url"`
	Billing    string `json:"billing_owner_id"`
	MustAnswer bool   `json:"should_acknowledge"`
}

func (m *mini) offered() offer {
	m.t.Helper()
	status, msg := m.poll("Online")
	if status != http.StatusOK || msg.MessageType != "RunnerJobRequest" {
		m.t.Fatalf("message: %d %+v", status, msg)
	}
	var o offer
	unmarshal(m.t, []byte(msg.Body), &o)
	return o
}

// work is a job as acquired.
type work struct {
	m                     *mini
	url                   string
	Plan                  struct{ PlanID string }
	JobID, JobDisplayName string
	Resources             struct {
		Endpoints []struct {
			URL           string
			Data          map[string]string
			Authorization struct{ Parameters map[string]string }
		}
	}
	Variables   map[string]struct{ Value string }
	Steps       []struct{ ID, ContextName string }
	Mask        []struct{ Value string }
	ContextData map[string]json.RawMessage
}

func (m *mini) acquire(o offer) *work {
	m.t.Helper()
	if status, body := m.broker(http.MethodPost, "acknowledge?sessionId="+m.session, map[string]string{"runnerRequestId": o.ID}); status != http.StatusOK {
		m.t.Fatalf("acknowledge: %d %s", status, body)
	}
	status, body := m.call(o.URL+"acquirejob", m.token, map[string]string{"jobMessageId": o.ID, "runnerOS": "Linux", "billingOwnerId": o.Billing})
	if status != http.StatusOK {
		m.t.Fatalf("acquirejob: %d %s", status, body)
	}
	w := &work{m: m, url: o.URL}
	unmarshal(m.t, body, w)
	return w
}

func (m *mini) call(target, token string, body any) (int, []byte) {
	m.t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		m.t.Fatal(err)
	}
	return send(m.t, http.MethodPost, target, token, "application/json", raw)
}

func (w *work) system() string {
	return w.Resources.Endpoints[0].Authorization.Parameters["AccessToken"]
}

func (w *work) renew() int {
	w.m.t.Helper()
	status, _ := w.m.call(w.url+"renewjob", w.system(), map[string]string{"planId": w.Plan.PlanID, "jobId": w.JobID})
	return status
}

func (w *work) complete(conclusion string, outputs map[string]any) int {
	w.m.t.Helper()
	status, _ := w.m.call(w.url+"completejob", w.system(), map[string]any{
		"planId": w.Plan.PlanID, "jobId": w.JobID, "conclusion": conclusion, "outputs": outputs,
		"stepResults": []any{map[string]any{"external_id": w.Steps[0].ID, "number": 2, "name": "step", "status": "completed", "conclusion": conclusion,
			"started_at": "2026-06-30T15:56:54.349511Z", "completed_at": "2026-06-30T15:56:55.060474Z"}},
	})
	return status
}

// upload stores a log or a summary through the results service.
func (w *work) upload(method, field, step string, chunks ...string) {
	w.m.t.Helper()
	base := w.Variables["system.github.results_endpoint"].Value
	ask := map[string]any{"workflow_run_backend_id": w.Plan.PlanID, "workflow_job_run_backend_id": w.JobID, "step_backend_id": step}
	status, body := w.m.call(base+"twirp/results.services.receiver.Receiver/"+method, w.system(), ask)
	if status != http.StatusOK {
		w.m.t.Fatalf("%s: %d %s", method, status, body)
	}
	var answer map[string]any
	unmarshal(w.m.t, body, &answer)
	target, _ := answer[field].(string)
	if len(chunks) == 1 {
		put(w.m.t, target, "BlockBlob", chunks[0], http.StatusCreated)
		return
	}
	put(w.m.t, target, "AppendBlob", "", http.StatusCreated)
	for i, c := range chunks {
		seal := ""
		if i == len(chunks)-1 {
			seal = "&seal=true"
		}
		put(w.m.t, target+"&comp=appendblock"+seal, "", c, http.StatusCreated)
	}
}

func put(t *testing.T, target, kind, data string, want int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, target, strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		req.Header.Set("X-Ms-Blob-Type", kind)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != want {
		t.Fatalf("PUT blob: %d, want %d", resp.StatusCode, want)
	}
}

func send(t *testing.T, method, target, token, kind string, body []byte) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
	}()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, raw
}

func get(t *testing.T, c *http.Client, target string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}
