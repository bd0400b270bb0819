// SPDX-License-Identifier: Apache-2.0

package scaleset

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/actions/scaleset"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/fakegithub/fault"
	"github.com/kettle/attest/internal/stubrunner/registration"
	"github.com/kettle/attest/internal/stubrunner/service"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/github"
)

// TestLife goes from the scale set to the end of its runner's one job.
func TestLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, ctx := w.registrar(nil), t.Context()
	reg, err := r.Register(ctx, "kettle-1")
	if err != nil {
		t.Fatal(err)
	}
	want := fakegithub.ScaleSet{ID: 1, Name: "cvm-7", Labels: []string{"attested-cvm"}, DisableUpdate: true, Owner: "host-1"}
	if got := w.github.ScaleSets(); len(got) != 1 || got[0].Name != want.Name || !got[0].DisableUpdate || got[0].Owner != want.Owner || !slices.Equal(got[0].Labels, want.Labels) {
		t.Fatalf("scale sets %+v", got)
	}
	root := t.TempDir()
	if err := registration.Save(root, reg.JIT.Reveal()); err != nil {
		t.Fatal(err)
	}
	if s, err := registration.Load(root); err != nil || s.AgentID != reg.ID || s.AgentName != "kettle-1" || !s.DisableUpdate || !s.Ephemeral {
		t.Fatalf("the runner reads %+v, %v", s, err)
	}
	if sight, err := r.Observe(ctx, reg); err != nil || sight != runner.SightOffline {
		t.Errorf("observed %q, %v", sight, err)
	}
	if a, told := r.Announced(); told {
		t.Errorf("announced %+v before there was a job", a)
	}
	first, second := w.dispatch(), w.dispatch()
	job := w.run(reg)
	until(t, "the announcement", func() bool { _, told := r.Announced(); return told })
	a, _ := r.Announced()
	sent := w.github.Runs()[0]
	if a.RunnerID != reg.ID || a.RunnerName != "kettle-1" || a.Repository != "acme/widget" || a.RunID != first.ID || a.Event != "workflow_dispatch" ||
		a.WorkflowRef != "acme/widget/.github/workflows/build.yml@refs/heads/main" || a.JobID != sent.Jobs[0].GUID {
		t.Errorf("announced %+v", a)
	}
	if sight, err := r.Observe(ctx, reg); err != nil || sight != runner.SightBusy {
		t.Errorf("observed %q, %v", sight, err)
	}
	if err := r.Remove(ctx, reg); !errors.Is(err, runner.ErrBusy) {
		t.Errorf("removing a busy runner: %v", err)
	}
	if err := job.Complete(ctx, service.Completion{Conclusion: "succeeded"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Remove(ctx, reg); err != nil {
		t.Fatal(err)
	}
	if sight, err := r.Observe(ctx, reg); err != nil || sight != runner.SightGone {
		t.Errorf("observed %q, %v", sight, err)
	}
	if got := w.github.ScaleSets(); len(got) != 1 || got[0].Owner != "" || len(w.github.Runners()) != 0 {
		t.Errorf("left: %+v, %+v", got, w.github.Runners())
	}
	if j := w.github.Runs()[1].Jobs[0]; second.ID == first.ID || j.Status != "queued" || j.RunnerID != 0 {
		t.Errorf("the second job was taken: %+v", j)
	}
}

// TestAgain registers a second time in the scale set that is there, after the first runner was removed unused.
func TestAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"kettle-1", "kettle-2"} {
		r := w.registrar(nil)
		reg, err := r.Register(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Remove(t.Context(), runner.Registration{Name: reg.Name}); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.github.ScaleSets(); len(got) != 1 || got[0].Owner != "" || len(w.github.Runners()) != 0 {
		t.Errorf("left: %+v, %+v", got, w.github.Runners())
	}
}

// TestSessionTaken waits until another machine lets go of the session, and tells when that does not happen.
func TestSessionTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other, r := w.registrar(nil), w.registrar(nil)
	if _, err := other.Register(t.Context(), "kettle-1"); err != nil {
		t.Fatal(err)
	}
	_, err := r.Register(t.Context(), "kettle-2")
	if !errors.Is(err, runner.ErrTryAgain) || status(err) != 409 || w.waited.Load() != sessionTries-1 {
		t.Fatalf("got %v after %d pauses", err, w.waited.Load())
	}
	ctx, cancel := context.WithTimeout(t.Context(), sessionPause/2)
	defer cancel()
	if _, err := r.Register(ctx, "kettle-2"); !errors.Is(err, runner.ErrTryAgain) || w.waited.Load() != sessionTries-1 {
		t.Fatalf("got %v after %d pauses", err, w.waited.Load())
	}
	if err := other.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Register(t.Context(), "kettle-2"); err != nil {
		t.Fatal(err)
	}
}

// TestSessionExpires renews the session when its token has ended, and misses nothing.
func TestSessionExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.registrar(nil)
	reg, err := r.Register(t.Context(), "kettle-1")
	if err != nil {
		t.Fatal(err)
	}
	w.github.ExpireScaleSetTokens(false)
	w.dispatch()
	w.run(reg)
	w.github.ExpireScaleSetTokens(false)
	until(t, "the announcement", func() bool { _, told := r.Announced(); return told })
}

// TestListenerPersists is answered badly in every way while it waits for its job.
func TestListenerPersists(t *testing.T) {
	t.Parallel()
	for name, act := range map[string]fault.Act{
		"forbidden": fault.Status(http.StatusForbidden, nil), "page": fault.Page(http.StatusOK), "half": fault.Half(), "wrong JSON": fault.WrongJSON(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			r := w.registrar(nil)
			w.dispatch()
			armed := w.fault(fault.Rule{Services: []string{"pipelines"}, Path: "/**/messages", Method: http.MethodGet, Times: 3, Act: act})
			reg, err := r.Register(t.Context(), "kettle-1")
			if err != nil {
				t.Fatal(err)
			}
			if err := armed.Await(t.Context(), 3); err != nil {
				t.Fatal(err)
			}
			w.run(reg)
			until(t, "the announcement", func() bool { _, told := r.Announced(); return told })
		})
	}
}

// TestRegisterAnswers has every call of a registration answered badly. What GitHub registered is removed.
func TestRegisterAnswers(t *testing.T) {
	t.Parallel()
	const generate, register, token = "/**/generatejitconfig", "/actions/runner-registration", "/**/registration-token"
	answer := func(status int, body string) fault.Act {
		return fault.Answer(status, http.Header{"Content-Type": {"application/json"}}, body)
	}
	again, denied := runner.ErrTryAgain, runner.ErrDenied
	for name, tc := range map[string]struct {
		path  string
		act   fault.Act
		want  error
		says  string
		after time.Duration
	}{
		"registered, no answer":      {generate, fault.Lost(fault.Reset()), again, "", 0},
		"registered, 500":            {generate, fault.Lost(fault.Status(500, nil)), again, "", 0},
		"registered, half an answer": {generate, fault.CutJSON(), again, "", 0},
		"registered, null":           {generate, fault.Spoil(func([]byte) []byte { return []byte("null") }), again, "names no runner", 0},
		"registered, other name":     {generate, replace(`"name":"kettle-1"`, `"name":"kettle-2"`), refusal.ErrIdentity, "", 0},
		"registered, other set":      {generate, replace(`"runnerScaleSetId":1`, `"runnerScaleSetId":2`), refusal.ErrIdentity, "", 0},
		"registered, bad blob":       {generate, replace(`"encodedJITConfig":"ey`, `"encodedJITConfig":"xx`), refusal.ErrMalformed, "", 0},
		"limited":                    {generate, fault.SecondaryLimit(403, 2*time.Minute), again, "", 2 * time.Minute},
		"forbidden":                  {token, fault.Status(403, nil), denied, "“Administration: write” of repository acme/widget", 0},
		"bad credential":             {token, fault.Status(401, nil), denied, "the scope repo", 0},
		"not found":                  {token, fault.Status(404, nil), denied, "the credential needs", 0},
		"token service down":         {token, fault.Status(502, nil), again, "", 0},
		"no token in the answer":     {token, answer(201, "{}"), again, "cannot be understood", 0},
		"token is null":              {token, answer(201, "null"), again, "cannot be understood", 0},
		"registration refused":       {register, fault.Status(403, nil), denied, "", 0},
		"registration down":          {register, fault.Page(503), again, "", 0},
		"tenant elsewhere":           {register, answer(200, `{"url":"https://evil.test/","token":"eyJhbGciOiJub25lIn0.eyJleHAiOjk5OTk5OTk5OTl9."}`), denied, "evil.test", 0},
		"tenant without TLS":         {register, answer(200, `{"url":"http://pipelines.actions.github.demo.test/","token":"eyJhbGciOiJub25lIn0.eyJleHAiOjk5OTk5OTk5OTl9."}`), denied, "", 0},
		"admin token without an end": {register, answer(200, `{"url":"https://pipelines.actions.github.demo.test/","token":"eyJhbGciOiJub25lIn0.e30."}`), again, "cannot be understood", 0},
		"one scale set, none given":  {"/**/runnerscalesets", answer(200, `{"count":1,"value":[]}`), again, "cannot be understood", 0},
		"another scale set":          {"/**/runnerscalesets", answer(200, `{"count":1,"value":[{"id":9,"name":"x"}]}`), again, "cannot be understood", 0},
		"scale set without labels":   {"/**/runnerscalesets", answer(200, `{"count":1,"value":[{"id":9,"name":"cvm-7"}]}`), denied, "it has the labels []", 0},
		"session refused":            {"/**/sessions", fault.Status(403, nil), denied, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			r := w.registrar(nil)
			w.fault(fault.Rule{Path: tc.path, Times: 1, Act: tc.act})
			reg, err := r.Register(t.Context(), "kettle-1")
			if !errors.Is(err, tc.want) || !reg.JIT.Empty() || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("got %+v, %v", reg, err)
			}
			if strings.Contains(err.Error(), "ghp_operator") {
				t.Error("the error shows the credential")
			}
			var later runner.Later
			if tc.after > 0 && (!errors.As(err, &later) || later.RetryAfter() != tc.after) {
				t.Errorf("no pause of %s: %v", tc.after, err)
			}
			if left := w.github.Runners(); len(left) != 0 {
				t.Errorf("left: %+v", left)
			}
			if tc.after == 0 { // the fault is over: another try, under a new name, succeeds
				if _, err := r.Register(t.Context(), "kettle-2"); err != nil {
					t.Errorf("the second try: %v", err)
				}
			}
		})
	}
}

func replace(old, with string) fault.Act {
	return fault.Spoil(func(b []byte) []byte { return []byte(strings.Replace(string(b), old, with, 1)) })
}

// TestAttackCredential sends nothing of the credential to any host but the REST API's.
func TestAttackCredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	leaked, api := 0, 0
	w.fault(fault.Rule{When: func(r *http.Request) bool {
		if strings.Contains(r.Header.Get("Authorization"), "ghp_operator") {
			if api++; r.Host != "api.github.demo.test" {
				leaked++
			}
		}
		if strings.Contains(r.Header.Get("Authorization"), placeholder) {
			leaked++
		}
		return false
	}, Act: fault.Reset()})
	r := w.registrar(nil)
	reg, err := r.Register(t.Context(), "kettle-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Remove(t.Context(), reg); err != nil || leaked != 0 || api == 0 {
		t.Fatalf("%d of %d requests with the credential, %v", leaked, api, err)
	}
}

// TestForeignScaleSet is told of a scale set that someone else made under its name: it leaves that as it is.
func TestForeignScaleSet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.registrar(nil).Register(t.Context(), "kettle-1"); err != nil {
		t.Fatal(err)
	}
	r := w.registrar(func(c *github.Config) { c.Labels = []string{"other"} })
	_, err := r.Register(t.Context(), "kettle-2")
	if !errors.Is(err, runner.ErrDenied) || !strings.Contains(err.Error(), `it has the labels ["attested-cvm"], and the configuration says ["other"]`) {
		t.Fatalf("got %v", err)
	}
	if got := w.github.ScaleSets()[0].Labels; !slices.Equal(got, []string{"attested-cvm"}) {
		t.Errorf("labels %q", got)
	}
}

// TestUpdatesDisabled turns updates off in a scale set that someone made with them.
func TestUpdatesDisabled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fault(fault.Rule{Path: "/**/runnerscalesets", Method: http.MethodGet, Times: 1, Act: replace(`"disableUpdate":true`, `"disableUpdate":false`)})
	first := w.registrar(nil)
	w.fault(fault.Rule{Path: "/**/runnerscalesets", Method: http.MethodPost, Times: 1, Act: replace(`"RunnerSetting":{"disableUpdate":true}`, `"RunnerSetting":{}`)})
	updates := w.fault(fault.Rule{Path: "/**/runnerscalesets/*", Method: http.MethodPatch, Act: fault.Delay(0)})
	if _, err := first.Register(t.Context(), "kettle-1"); err != nil || updates.Hits() != 1 || !w.github.ScaleSets()[0].DisableUpdate {
		t.Fatalf("%d updates, %v", updates.Hits(), err)
	}
}

// TestRemoveAnswers says nil only when the runner is gone, and keeps the session until then.
func TestRemoveAnswers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rule fault.Rule
		want error
	}{
		"agent, forbidden": {fault.Rule{Path: "/**/agents/*", Method: http.MethodDelete, Times: 1, Act: fault.Status(403, nil)}, runner.ErrDenied},
		"proof, forbidden": {fault.Rule{Path: "/repos/**/runners", Method: http.MethodGet, Times: 1, Act: fault.Status(403, nil)}, runner.ErrDenied},
		"session, refused": {fault.Rule{Path: "/**/sessions/*", Method: http.MethodDelete, Times: 1, Act: fault.Status(400, nil)}, runner.ErrDenied},
		"session, is gone": {fault.Rule{Path: "/**/sessions/*", Method: http.MethodDelete, Times: 1, Act: fault.Status(404, nil)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			r := w.registrar(nil)
			reg, err := r.Register(t.Context(), "kettle-1")
			if err != nil {
				t.Fatal(err)
			}
			w.fault(tc.rule)
			if err := r.Remove(t.Context(), reg); !errors.Is(err, tc.want) {
				t.Fatalf("got %v", err)
			}
			if err := r.Remove(t.Context(), reg); err != nil || len(w.github.Runners()) != 0 {
				t.Fatalf("got %v, left %+v", err, w.github.Runners())
			}
		})
	}
	r := newWorld(t).registrar(nil)
	if err := r.Remove(t.Context(), runner.Registration{}); err == nil {
		t.Error("removed nothing")
	}
	if err := r.Remove(t.Context(), runner.Registration{Name: "a&b"}); err == nil {
		t.Error("put a name into a URL as it is")
	}
	if _, err := r.Register(t.Context(), ""); err == nil {
		t.Error("registered a runner without a name")
	}
}

// TestTurn ends with its caller while another call is under way.
func TestTurn(t *testing.T) {
	t.Parallel()
	r := newWorld(t).registrar(nil)
	<-r.turn
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.Register(ctx, "kettle-1")
	for _, err := range []error{err, r.Remove(ctx, runner.Registration{ID: 1}), r.Close(ctx)} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	r.turn <- struct{}{}
}

func TestNew(t *testing.T) {
	t.Parallel()
	client, err := github.New(newWorld(t).config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	good := Config{GitHub: client, Name: "cvm-7", Owner: "o", Version: "v"}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no client": func(c *Config) { c.GitHub = nil }, "no name": func(c *Config) { c.Name = "" }, "no owner": func(c *Config) { c.Owner = "" },
		"no version": func(c *Config) { c.Version = "" }, "name for a URL": func(c *Config) { c.Name = "a&runnerGroupId=2" },
		"long name": func(c *Config) { c.Name = strings.Repeat("a", 65) },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestAttackTwoStarts is told of two jobs on its runner: neither is announced.
func TestAttackTwoStarts(t *testing.T) {
	t.Parallel()
	start := func(id int, name string, run int64) *scaleset.JobStarted {
		return &scaleset.JobStarted{RunnerID: id, RunnerName: name, JobMessageBase: scaleset.JobMessageBase{WorkflowRunID: run}}
	}
	for name, tc := range map[string]struct {
		started []*scaleset.JobStarted
		run     int64 // 0: nothing is announced
	}{
		"one":               {[]*scaleset.JobStarted{start(7, "k", 1)}, 1},
		"one, told twice":   {[]*scaleset.JobStarted{start(7, "k", 1), start(7, "k", 1)}, 1},
		"another's":         {[]*scaleset.JobStarted{start(8, "l", 1), nil}, 0},
		"another's and one": {[]*scaleset.JobStarted{start(8, "l", 2), start(7, "k", 1)}, 1},
		"two":               {[]*scaleset.JobStarted{start(7, "k", 1), start(7, "k", 2)}, 0},
		"our name as well":  {[]*scaleset.JobStarted{start(7, "k", 1), start(8, "k", 1)}, 0},
		"our id as well":    {[]*scaleset.JobStarted{start(7, "l", 1), start(7, "k", 1)}, 0},
	} {
		r := &Registrar{seat: seat{reg: runner.Registration{ID: 7, Name: "k"}}}
		r.hear(&scaleset.RunnerScaleSetMessage{JobStartedMessages: tc.started})
		if a, told := r.Announced(); told != (tc.run != 0) || a.RunID != tc.run {
			t.Errorf("%s: %+v, %v", name, a, told)
		}
	}
}

// TestOneJob takes one offer, and another only when the first was cancelled before it began.
func TestOneJob(t *testing.T) {
	t.Parallel()
	offers := &scaleset.RunnerScaleSetMessage{JobAvailableMessages: []*scaleset.JobAvailable{
		nil, {}, {JobMessageBase: scaleset.JobMessageBase{RunnerRequestID: 5}}, {JobMessageBase: scaleset.JobMessageBase{RunnerRequestID: 6}},
	}}
	completed := &scaleset.RunnerScaleSetMessage{JobCompletedMessages: []*scaleset.JobCompleted{nil, {JobMessageBase: scaleset.JobMessageBase{RunnerRequestID: 5}}}}
	started := &scaleset.RunnerScaleSetMessage{JobStartedMessages: []*scaleset.JobStarted{{RunnerID: 7, RunnerName: "k"}}}
	r := &Registrar{clock: clock{now: time.Now}, seat: seat{reg: runner.Registration{ID: 7, Name: "k"}}}
	want := func(when string, id int64) {
		t.Helper()
		if got, err := r.wanted(offers); got != id || err != nil {
			t.Errorf("%s: %d, %v", when, got, err)
		}
	}
	want("at first", 5)
	r.seat.request = 4
	want("with another", 0)
	r.seat.request = 5
	want("with one that was not granted yet", 5)
	r.seat.granted = true
	want("with one", 0)
	r.hear(completed)
	want("after it was cancelled", 5)
	r.seat.request, r.seat.granted = 5, true
	r.hear(started)
	r.hear(completed)
	want("after it ended", 0)
	r.seat.request, r.seat.granted = 0, false
	want("with a job that was not acquired", 0)
}
