// SPDX-License-Identifier: Apache-2.0

package fakegithub_test

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-github/v60/github"

	"github.com/kettle/attest/internal/fakegithub"
)

func TestSkewAndETag(t *testing.T) {
	t.Parallel()
	s, base := start(t)
	run := dispatch(t, s, "widget", "build.yml")
	newMini(t, base, "host-1", "a")
	ask := func(path, tag string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+operatorToken)
		if tag != "" {
			req.Header.Set("If-None-Match", tag)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		return resp
	}
	misbehave(t, s, fakegithub.Faults{Requests: 100})
	id := strconv.FormatInt(run.ID, 10)
	for _, path := range []string{"/repos/acme/widget/actions/runs/" + id, "/repos/acme/widget/actions/runs/" + id + "/jobs", "/repos/acme/widget/actions/runners"} {
		first := ask(path, "")
		again := ask(path, first.Header.Get("ETag"))
		if first.Header.Get("ETag") == "" || again.StatusCode != http.StatusNotModified {
			t.Errorf("%s: %d, tag %q", path, again.StatusCode, first.Header.Get("ETag"))
		}
		if a, b := first.Header.Get("X-RateLimit-Remaining"), again.Header.Get("X-RateLimit-Remaining"); a != b {
			t.Errorf("%s: an answer of 304 cost something: %s, then %s", path, a, b)
		}
		s.Cancel(run)
		if changed := ask(path, first.Header.Get("ETag")); strings.Contains(path, "/runs/") && path == "/repos/acme/widget/actions/runs/"+id && changed.StatusCode != http.StatusOK {
			t.Errorf("%s: %d after a change", path, changed.StatusCode)
		}
	}
	misbehave(t, s, fakegithub.Faults{Skew: -10 * time.Minute})
	date, err := http.ParseTime(ask("/repos/acme/widget", "").Header.Get("Date"))
	if err != nil || time.Since(date) < 9*time.Minute {
		t.Errorf("date %v: %v", date, err)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	c := newClock()
	s, base := startWith(t, func(cfg *fakegithub.Config) { cfg.Now = c.Now })
	gh := client(t, base, operatorToken)
	register := func(name string) error {
		_, _, err := gh.Actions.GenerateRepoJITConfig(t.Context(), "acme", "widget", &github.GenerateJITConfigRequest{Name: name, RunnerGroupID: 1, Labels: []string{"a"}})
		return err
	}
	misbehave(t, s, fakegithub.Faults{Registrations: 1})
	if err := register("one"); err != nil {
		t.Fatal(err)
	}
	c.pass(time.Minute)
	var abuse *github.AbuseRateLimitError
	if err := register("two"); !errors.As(err, &abuse) || abuse.GetRetryAfter() != 4*time.Minute {
		t.Errorf("second registration: %v", err)
	}
	gh = client(t, base, operatorToken) // go-github would hold the next request back by itself
	c.pass(4 * time.Minute)
	if err := register("two"); err != nil {
		t.Errorf("after the window: %v", err)
	}
	misbehave(t, s, fakegithub.Faults{Requests: 2})
	for range 2 {
		if _, _, err := gh.Repositories.Get(t.Context(), "acme", "widget"); err != nil {
			t.Fatal(err)
		}
	}
	var limit *github.RateLimitError
	if _, _, err := client(t, base, operatorToken).Repositories.Get(t.Context(), "acme", "widget"); !errors.As(err, &limit) {
		t.Errorf("third request: %v", err)
	}
	c.pass(time.Hour)
	if _, _, err := client(t, base, operatorToken).Repositories.Get(t.Context(), "acme", "widget"); err != nil {
		t.Errorf("an hour later: %v", err)
	}
}

func TestInstallationTokenEnds(t *testing.T) {
	t.Parallel()
	c := newClock()
	app, key := newApp(t, map[string]string{"administration": "write"})
	s, base := startWith(t, func(cfg *fakegithub.Config) { cfg.Now, cfg.Apps = c.Now, []fakegithub.App{app} })
	fresh := func() *github.Client { return client(t, base, installationToken(t, base, key)) }
	list := func(gh *github.Client) int {
		_, _, err := gh.Actions.ListRunners(t.Context(), "acme", "safe", nil)
		return status(err)
	}
	misbehave(t, s, fakegithub.Faults{InstallationLife: time.Minute})
	gh := fresh()
	if got := list(gh); got != http.StatusOK {
		t.Fatal(got)
	}
	c.pass(time.Minute)
	if got := list(gh); got != http.StatusUnauthorized {
		t.Errorf("after its end: %d", got)
	}
	gh = fresh()
	s.RevokeInstallations()
	if got := list(gh); got != http.StatusUnauthorized {
		t.Errorf("revoked: %d", got)
	}
}

func TestDeadRunners(t *testing.T) {
	t.Parallel()
	c := newClock()
	s, base := startWith(t, func(cfg *fakegithub.Config) { cfg.Now = c.Now })
	dead := newMini(t, base, "host-1", "self-hosted", "attested-cvm")
	dead.connect()
	run := dispatch(t, s, "widget", "build.yml")
	o := dead.offered()
	c.pass(time.Minute)
	if code, _ := dead.poll("Online"); code != http.StatusBadRequest {
		t.Errorf("the session must be over: %d", code)
	}
	if code, _ := dead.call(o.URL+"acquirejob", dead.token, map[string]string{"jobMessageId": o.ID}); code != http.StatusNotFound {
		t.Errorf("a late acquirejob: %d", code)
	}
	next := newMini(t, base, "host-2", "self-hosted", "attested-cvm")
	next.connect()
	w := next.acquire(next.offeredAgain(run.Jobs[0].GUID))
	c.pass(9 * time.Minute)
	if code := w.renew(); code != http.StatusOK {
		t.Fatal(code)
	}
	c.pass(9 * time.Minute)
	if got := s.Ledger(); len(got.Unfinished) != 1 || got.Lost != 0 {
		t.Errorf("%+v", got)
	}
	c.pass(time.Minute)
	if code := w.renew(); code != http.StatusNotFound {
		t.Errorf("a late renewal: %d", code)
	}
	if done, err := s.Wait(t.Context(), run); err != nil || done.Conclusion != "failure" {
		t.Errorf("%+v %v", done, err)
	}
	if got := s.Ledger(); got.Lost != 1 || got.Acquired != 1 || got.Registrations != 2 || len(got.Unfinished)+len(got.Registered)+len(got.TakenTwice) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestGreedyRunner(t *testing.T) {
	t.Parallel()
	s, base := start(t)
	m := newMini(t, base, "host-1", "self-hosted", "attested-cvm")
	m.connect()
	dispatch(t, s, "widget", "build.yml")
	o := m.offered()
	m.acquire(o)
	m.call(o.URL+"acquirejob", m.token, map[string]string{"jobMessageId": o.ID})
	m.call(o.URL+"acquirejob", m.token, map[string]string{"jobMessageId": o.ID})
	if got := s.Ledger(); len(got.Greedy) != 1 || got.Greedy[0].ID != m.id || len(got.TakenTwice) != 0 || got.Refused != 2 {
		t.Errorf("%+v", got)
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	s, base := startWith(t, func(c *fakegithub.Config) { c.Keep = 3 })
	for i := range 10 {
		m := newMini(t, base, "host-"+strconv.Itoa(i), "self-hosted", "attested-cvm")
		m.connect()
		run := dispatch(t, s, "widget", "build.yml")
		w := m.acquire(m.offered())
		w.upload("GetJobLogsSignedBlobURL", "logs_url", "", "whole\n")
		w.complete("succeeded", nil)
		if _, ok := s.JobLog(run.Jobs[0].ID); !ok {
			t.Error("the log of the last run is gone")
		}
	}
	if got := s.Ledger(); len(s.Runs()) > 4 || got.Completed != 10 || got.Registrations != 10 || len(got.Registered) != 0 {
		t.Errorf("%d runs, %+v", len(s.Runs()), got)
	}
}
