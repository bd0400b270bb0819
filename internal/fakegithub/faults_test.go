// SPDX-License-Identifier: Apache-2.0

package fakegithub_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/secret"
)

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// startWith is start with a configuration that the test completes.
func startWith(t *testing.T, change func(*fakegithub.Config)) (*fakegithub.Server, string) {
	t.Helper()
	ts := httptest.NewUnstartedServer(nil)
	cfg := fakegithub.Config{
		Base: "http://" + ts.Listener.Addr().String(), NewKey: lend(),
		Operator: fakegithub.Operator{Login: "operator", ID: 1001, Token: secret.New(operatorToken)},
	}
	change(&cfg)
	s, err := fakegithub.New(cfg)
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
	return s, cfg.Base
}

func misbehave(t *testing.T, s *fakegithub.Server, f fakegithub.Faults) {
	t.Helper()
	if err := s.Misbehave(f); err != nil {
		t.Fatal(err)
	}
}

func TestJobsAPILies(t *testing.T) {
	t.Parallel()
	c := newClock()
	s, base := startWith(t, func(cfg *fakegithub.Config) { cfg.Now = c.Now })
	gh := client(t, base, operatorToken)
	m := newMini(t, base, "host-1", "self-hosted", "attested-cvm")
	m.connect()
	run := dispatch(t, s, "widget", "build.yml")
	other := dispatch(t, s, "widget", "build.yml")
	m.acquire(m.offered())
	shown := func(id int64) int64 {
		t.Helper()
		job, _, err := gh.Actions.GetWorkflowJobByID(t.Context(), "acme", "widget", id)
		if err != nil {
			t.Fatal(err)
		}
		return job.GetRunnerID()
	}
	misbehave(t, s, fakegithub.Faults{RunnerLag: time.Minute})
	if got := shown(run.Jobs[0].ID); got != 0 {
		t.Errorf("runner %d while the API lags", got)
	}
	c.pass(time.Minute)
	if got := shown(run.Jobs[0].ID); got != m.id {
		t.Errorf("runner %d after the lag, want %d", got, m.id)
	}
	misbehave(t, s, fakegithub.Faults{JobRunner: func(fakegithub.Job) (int64, string) { return m.id + 1, "host-2" }})
	if got := shown(run.Jobs[0].ID); got != m.id+1 {
		t.Errorf("runner %d, want a wrong one", got)
	}
	misbehave(t, s, fakegithub.Faults{JobRunner: func(fakegithub.Job) (int64, string) { return m.id, "host-1" }})
	if first, second := shown(run.Jobs[0].ID), shown(other.Jobs[0].ID); first != m.id || second != m.id {
		t.Errorf("runners %d and %d, want the same", first, second)
	}
	misbehave(t, s, fakegithub.Faults{})
	if got := shown(other.Jobs[0].ID); got != 0 {
		t.Errorf("runner %d of a job that waits", got)
	}
}

func TestGhosts(t *testing.T) {
	t.Parallel()
	for _, code := range []int{404, 409, 422} {
		for _, cancel := range []bool{false, true} {
			t.Run(strconv.Itoa(code)+" cancelled "+strconv.FormatBool(cancel), func(t *testing.T) {
				t.Parallel()
				s, base := startWith(t, func(c *fakegithub.Config) { c.Poll = time.Millisecond })
				misbehave(t, s, fakegithub.Faults{Acquire: func(fakegithub.Job, fakegithub.Runner) fakegithub.Refusal {
					return fakegithub.Refusal{Status: code, Cancel: cancel}
				}})
				m := newMini(t, base, "host-1", "self-hosted", "attested-cvm")
				m.connect()
				run := dispatch(t, s, "widget", "build.yml")
				o := m.offered()
				got, body := m.call(o.URL+"acquirejob", m.token, map[string]string{"jobMessageId": o.ID})
				if got != code || !strings.Contains(string(body), `"source":"actions-run-service"`) {
					t.Errorf("%d %s", got, body)
				}
				if code, _ := m.poll("Online"); code != http.StatusAccepted {
					t.Errorf("the broker must go on as if nothing were wrong: %d", code)
				}
				if _, _, err := client(t, base, operatorToken).Actions.GetRunner(t.Context(), "acme", "widget", m.id); status(err) != http.StatusNotFound {
					t.Errorf("the registration must be gone: %v", err)
				}
				book := s.Ledger()
				if len(book.Registered) != 0 || book.Refused != 1 || book.Acquired != 0 {
					t.Errorf("%+v", book)
				}
				if cancel {
					if done, err := s.Wait(t.Context(), run); err != nil || done.Conclusion != "cancelled" {
						t.Errorf("%+v %v", done, err)
					}
					return
				}
				misbehave(t, s, fakegithub.Faults{})
				next := newMini(t, base, "host-2", "self-hosted", "attested-cvm")
				next.connect()
				next.acquire(next.offeredAgain(run.Jobs[0].GUID))
			})
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		faults fakegithub.Faults
		query  string
		status int
		body   string
	}{
		"too old":         {fakegithub.Faults{MinimumVersion: "2.337.0"}, "&runnerVersion=2.336.0", 403, `"errorKind":"RunnerVersionTooOld"`},
		"no version":      {fakegithub.Faults{MinimumVersion: "2.337.0"}, "", 403, `"errorKind":"RunnerVersionTooOld"`},
		"old enough":      {fakegithub.Faults{MinimumVersion: "2.99.0"}, "&runnerVersion=2.336.0", 202, ""},
		"update":          {fakegithub.Faults{Update: "2.340.0"}, "&runnerVersion=2.336.0", 200, `"messageType":"RunnerRefresh"`},
		"update disabled": {fakegithub.Faults{Update: "2.340.0"}, "&runnerVersion=2.336.0&disableUpdate=true", 202, ""},
		"up to date":      {fakegithub.Faults{Update: "2.340.0"}, "&runnerVersion=2.340.0", 202, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, base := startWith(t, func(c *fakegithub.Config) { c.Poll = time.Millisecond })
			misbehave(t, s, tt.faults)
			m := newMini(t, base, "host-1", "a")
			m.connect()
			code, body := m.broker(http.MethodGet, "message?sessionId="+m.session+"&os=Linux"+tt.query, nil)
			if code != tt.status || !strings.Contains(string(body), tt.body) {
				t.Fatalf("%d %s", code, body)
			}
			r, _, err := client(t, base, operatorToken).Actions.GetRunner(t.Context(), "acme", "widget", m.id)
			if err != nil || r.GetOS() != "linux" || r.GetStatus() != "online" {
				t.Errorf("%+v %v", r, err)
			}
			if code, body := m.broker(http.MethodGet, "message?sessionId="+m.session+"&os=Linux"+tt.query, nil); tt.status == 200 && code != 202 {
				t.Errorf("told twice: %d %s", code, body)
			}
		})
	}
}

func TestSessionConflict(t *testing.T) {
	t.Parallel()
	s, base := start(t)
	m := newMini(t, base, "host-1", "a")
	m.login()
	misbehave(t, s, fakegithub.Faults{SessionConflict: true})
	if code, _ := m.broker(http.MethodPost, "session", map[string]any{"agent": map[string]any{"id": m.id}}); code != http.StatusConflict {
		t.Errorf("%d", code)
	}
	misbehave(t, s, fakegithub.Faults{})
	m.connect()
}

// idToken fetches one and verifies it as a client of the issuer would.
func (w *work) idToken(s *fakegithub.Server) (map[string]any, error) {
	w.m.t.Helper()
	target := w.Resources.Endpoints[0].Data["GenerateIdTokenUrl"]
	code, body := send(w.m.t, http.MethodGet, target+"&audience=x", w.system(), "", nil)
	if code != http.StatusOK {
		w.m.t.Fatalf("%d %s", code, body)
	}
	var answer struct{ Value string }
	unmarshal(w.m.t, body, &answer)
	keys := s.JWKS()
	set := &oidc.StaticKeySet{}
	for _, k := range keys.Keys {
		if strings.Contains(decodeHead(w.m.t, answer.Value), k.KeyID) {
			set.PublicKeys = append(set.PublicKeys, k.Key)
		}
	}
	token, err := oidc.NewVerifier(s.Issuer(), set, &oidc.Config{ClientID: "x"}).Verify(w.m.t.Context(), answer.Value)
	if err != nil {
		return nil, err
	}
	var claims map[string]any
	return claims, token.Claims(&claims)
}

func TestTokensThatDoNotFit(t *testing.T) {
	t.Parallel()
	s, base := start(t)
	m := newMini(t, base, "host-1", "self-hosted", "attested-cvm")
	m.connect()
	dispatch(t, s, "widget", "build.yml")
	w := m.acquire(m.offered())
	set := func(name string, value any) fakegithub.Faults {
		return fakegithub.Faults{IDToken: func(c map[string]any) { c[name] = value }}
	}
	past, future := time.Now().Add(-time.Hour).Unix(), time.Now().Add(time.Hour).Unix()
	for name, tt := range map[string]struct {
		faults fakegithub.Faults
		ok     bool
	}{
		"sound":           {fakegithub.Faults{}, true},
		"expired":         {set("exp", past), false},
		"not yet valid":   {set("nbf", future), false},
		"wrong issuer":    {set("iss", "https://elsewhere.test"), false},
		"unknown key":     {fakegithub.Faults{KeyID: "nobody"}, false},
		"foreign key":     {fakegithub.Faults{ForeignKey: true}, false},
		"number":          {set("check_run_id", 41), true},
		"list":            {set("check_run_id", []int{41}), true},
		"clock far ahead": {fakegithub.Faults{Skew: 2 * 365 * 24 * time.Hour}, false},
	} {
		misbehave(t, s, tt.faults)
		claims, err := w.idToken(s)
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
		if _, text := claims["check_run_id"].(string); tt.ok && text != (name == "sound") {
			t.Errorf("%s: check_run_id %v", name, claims["check_run_id"])
		}
	}
	misbehave(t, s, fakegithub.Faults{})
	before := s.JWKS().Keys[0].KeyID
	if err := s.RotateIssuer(true); err != nil {
		t.Fatal(err)
	}
	if keys := s.JWKS().Keys; len(keys) != 2 || keys[0].KeyID == before || keys[1].KeyID != before {
		t.Errorf("after a rotation: %+v", keys)
	}
	if _, err := w.idToken(s); err != nil {
		t.Error(err)
	}
	if err := s.RotateIssuer(false); err != nil {
		t.Fatal(err)
	}
	if keys := s.JWKS().Keys; len(keys) != 1 {
		t.Errorf("after a withdrawal: %+v", keys)
	}
}

// A runner that dies with an offer, or with a job, gives it up in time.
// What is over does not pile up.

// decodeHead returns the header of a JWT.
func decodeHead(t *testing.T, token string) string {
	t.Helper()
	head, _, _ := strings.Cut(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
