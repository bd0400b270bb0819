// SPDX-License-Identifier: Apache-2.0

package github

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/runner"
)

// TestRemove replaces one of the three answers that a removal takes. It says nil only when GitHub showed that the runner
// is gone.
func TestRemove(t *testing.T) {
	t.Parallel()
	reg := runner.Registration{ID: 42, Name: ourName}
	none := answer(200, map[string]any{"runners": []any{}})
	notFound := answer(404, map[string]any{"message": "Not Found"})
	shown := answer(200, ours()[1])
	const del, get, list = "DELETE " + runnersPath + "/42", "GET " + runnersPath + "/42", "GET " + runnersPath
	for name, tc := range map[string]struct {
		change fake
		reg    runner.Registration
		want   error
		gone   []int64
	}{
		"gone now":             {reg: reg, gone: []int64{42}},
		"gone before":          {change: fake{del: notFound, get: notFound, list: none}, reg: reg},
		"by its name":          {reg: runner.Registration{Name: ourName}, gone: []int64{42}},
		"by its id":            {reg: runner.Registration{ID: 42}, gone: []int64{42}},
		"unavailable, gone":    {change: fake{del: turns(answer(503, nil), answer(204, nil)), get: notFound, list: none}, reg: reg},
		"no answer, gone":      {change: fake{del: turns(hangUp, notFound), get: notFound, list: none}, reg: reg},
		"limit, gone":          {change: fake{del: turns(with(answer(429, nil), "Retry-After", "7"), notFound), get: notFound, list: none}, reg: reg},
		"list fails, then not": {change: fake{list: turns(half(200), none), get: notFound}, reg: reg, gone: []int64{42}},
		"busy":                 {change: fake{del: answer(422, nil)}, reg: reg, want: runner.ErrBusy},
		"forbidden":            {change: fake{del: answer(403, nil)}, reg: reg, want: runner.ErrDenied},
		"no credential":        {change: fake{del: answer(401, nil)}, reg: reg, want: runner.ErrDenied},
		"broken":               {change: fake{del: answer(500, nil)}, reg: reg, want: ErrRemote},
		"no answer ever":       {change: fake{del: hangUp}, reg: reg, want: runner.ErrTryAgain},
		"listed for ever":      {change: fake{del: answer(204, nil)}, reg: reg, want: ErrListed},
		"shown for ever":       {change: fake{del: answer(204, nil), list: none, get: shown}, reg: reg, want: ErrListed},
		"GET fails":            {change: fake{get: answer(500, nil)}, reg: reg, want: ErrRemote, gone: []int64{42}},
		"invisible":            {change: fake{del: notFound, get: notFound, list: notFound}, reg: reg, want: ErrNotFound},
		"list of nothing":      {change: fake{list: answer(200, map[string]any{})}, reg: reg, want: ErrRemote, gone: []int64{42}},
		"limit of an hour":     {change: fake{del: with(answer(429, nil), "Retry-After", "3600")}, reg: reg, want: runner.ErrTryAgain},
		"nothing to go by":     {want: errNothing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newRegistered(ours()...)
			f := g.fake(runnersPath, 42)
			for path, h := range tc.change {
				f[path] = h
			}
			err := client(t, f.serve(t), nil).Remove(t.Context(), tc.reg)
			if (err == nil) != (tc.want == nil) || tc.want != nil && !errors.Is(tc.want, errNothing) && !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if !slices.Equal(g.removed(), tc.gone) {
				t.Errorf("removed %v", g.removed())
			}
		})
	}
}

var errNothing = errors.New("any error")

// TestRemoveBusyAtOnce does not wait for a job: that is the caller's to decide.
func TestRemoveBusyAtOnce(t *testing.T) {
	t.Parallel()
	g := newRegistered(busy()...)
	cl, p := patientClient(t, g.fake(runnersPath, 42).serve(t), nil)
	for _, reg := range []runner.Registration{{ID: 42, Name: ourName}, {Name: ourName}} {
		err := cl.Remove(t.Context(), reg)
		if !errors.Is(err, runner.ErrBusy) || errors.Is(err, runner.ErrTryAgain) || len(p.pauses()) != 0 {
			t.Errorf("got %v after %v", err, p.pauses())
		}
	}
}

// TestRemoveSecondOfAName finds that another runner has the name, which only a try whose outcome was unknown can have
// left, and removes it as well.
func TestRemoveSecondOfAName(t *testing.T) {
	t.Parallel()
	g := newRegistered(runnerJSON{ID: 42, Name: ourName}, runnerJSON{ID: 43, Name: ourName})
	err := client(t, g.fake(runnersPath, 42, 43).serve(t), nil).Remove(t.Context(), runner.Registration{ID: 42, Name: ourName})
	if err != nil || !slices.Equal(g.removed(), []int64{42, 43}) {
		t.Fatalf("got %v, removed %v", err, g.removed())
	}
}

// TestRemoveUnknownLate looks twice for a runner without an id.
func TestRemoveUnknownLate(t *testing.T) {
	t.Parallel()
	g := newRegistered(ours()...)
	f := g.fake(runnersPath, 42)
	none := answer(200, map[string]any{"runners": []any{}})
	f["GET "+runnersPath] = turns(none, g.list)
	cl, p := patientClient(t, f.serve(t), nil)
	if err := cl.Remove(t.Context(), runner.Registration{Name: ourName}); err != nil || !slices.Equal(g.removed(), []int64{42}) {
		t.Fatalf("got %v, removed %v", err, g.removed())
	}
	if !slices.Equal(p.pauses(), []time.Duration{settleTime}) {
		t.Errorf("paused %v", p.pauses())
	}
	f["GET "+runnersPath] = none
	if err := cl.Remove(t.Context(), runner.Registration{Name: ourName}); err != nil {
		t.Fatal(err)
	}
}

// TestRemoveEnds is interrupted while GitHub still lists the runner, and does not begin a pause that its caller's time
// does not allow.
func TestRemoveEnds(t *testing.T) {
	t.Parallel()
	g := newRegistered(ours()...)
	f := g.fake(runnersPath, 42)
	f["DELETE "+runnersPath+"/42"] = answer(204, nil)
	cl, p := patientClient(t, f.serve(t), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cl.clock.sleep = func(ctx context.Context, d time.Duration) error {
		cancel()
		return sleep(ctx, d)
	}
	if err := cl.Remove(ctx, runner.Registration{ID: 42, Name: ourName}); !errors.Is(err, ErrListed) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	f["DELETE "+runnersPath+"/42"] = with(answer(429, nil), "Retry-After", "50")
	cl.clock = p.clock()
	ctx, cancel = context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	if err := cl.Remove(ctx, runner.Registration{ID: 42, Name: ourName}); !errors.Is(err, runner.ErrTryAgain) || len(p.pauses()) != 0 {
		t.Errorf("got %v after %v", err, p.pauses())
	}
}

func TestObserve(t *testing.T) {
	t.Parallel()
	g := newRegistered(
		runnerJSON{ID: 42, Name: "a", Status: "online", Busy: true}, runnerJSON{ID: 43, Name: "b", Status: "offline"},
		runnerJSON{ID: 44, Name: "c", Status: "online"},
	)
	f := g.fake(runnersPath, 42, 43, 44, 45)
	f["GET "+runnersPath+"/46"] = answer(200, map[string]any{"id": 46, "status": "asleep"})
	f["GET "+runnersPath+"/47"] = answer(200, map[string]any{"id": 48, "status": "online"})
	f["GET "+runnersPath+"/49"] = answer(200, nil)
	cl := client(t, f.serve(t), nil)
	for reg, want := range map[runner.Registration]runner.Sight{
		{ID: 42, Name: "a"}: runner.SightBusy, {ID: 43, Name: "b"}: runner.SightOffline, {ID: 44, Name: "c"}: runner.SightIdle,
		{ID: 45, Name: "d"}: runner.SightGone, {ID: 45}: runner.SightGone,
		{Name: "a"}: runner.SightBusy, {Name: "B"}: runner.SightOffline, {Name: "c"}: runner.SightIdle, {Name: "d"}: runner.SightGone,
	} {
		if got, err := cl.Observe(t.Context(), reg); err != nil || got != want {
			t.Errorf("%d %q: %q, %v", reg.ID, reg.Name, got, err)
		}
	}
	for _, id := range []int64{0, 46, 47, 49} {
		if got, err := cl.Observe(t.Context(), runner.Registration{ID: id}); err == nil {
			t.Errorf("%d: %q", id, got)
		}
	}
}

// TestObserveInvisible is not told that a runner is gone by a GitHub that shows nothing at all to this credential.
func TestObserveInvisible(t *testing.T) {
	t.Parallel()
	notFound := answer(404, map[string]any{"message": "Not Found"})
	cl := client(t, fake{"GET " + runnersPath + "/42": notFound, "GET " + runnersPath: notFound}.serve(t), nil)
	if got, err := cl.Observe(t.Context(), runner.Registration{ID: 42, Name: ourName}); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestRunners(t *testing.T) {
	t.Parallel()
	page := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("page") == "2" {
			answer(200, map[string]any{"runners": []any{map[string]any{"id": 3, "name": "kettle-b", "status": "online"}}})(w, r)
			return
		}
		w.Header().Set("Link", `<https://`+r.Host+r.URL.Path+`?per_page=100&page=2>; rel="next"`)
		answer(200, map[string]any{"runners": []any{
			map[string]any{"id": 1, "name": "kettle-a", "busy": true}, map[string]any{"id": 2, "name": "other"},
		}})(w, r)
	}
	const path = "/api/v3/orgs/acme/actions/runners"
	cl := client(t, fake{"GET " + path: page}.serve(t), func(c *Config) { c.Scope, c.Target = Org, "acme" })
	got, err := cl.Runners(t.Context(), "kettle-")
	want := []Runner{{ID: 1, Name: "kettle-a", Busy: true}, {ID: 3, Name: "kettle-b", Online: true}}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if got, err := cl.Runners(t.Context(), ""); err == nil {
		t.Fatalf("a list of everyone's runners: %+v", got)
	}
	endless := fake{"GET " + path: with(answer(200, map[string]any{"runners": []any{}}), "Link", `<https://x/?page=2>; rel="next"`)}
	if _, err := client(t, endless.serve(t), func(c *Config) { c.Scope, c.Target = Org, "acme" }).Runners(t.Context(), "k"); err == nil || !strings.Contains(err.Error(), "pages") {
		t.Fatalf("got %v", err)
	}
	broken := fake{"GET " + path: turns(page, half(200))}
	if got, err := client(t, broken.serve(t), func(c *Config) { c.Scope, c.Target = Org, "acme" }).Runners(t.Context(), "k"); err == nil {
		t.Fatalf("half a list: %+v", got)
	}
}
