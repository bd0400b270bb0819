// SPDX-License-Identifier: Apache-2.0

package github

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/kettle/attest/runner"
)

// TestPolled asks whether anything has changed, and believes 304.
func TestPolled(t *testing.T) {
	t.Parallel()
	var asked []string
	status := "offline"
	srv := fake{"GET " + runnersPath + "/42": func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("If-None-Match"))
		tag := `W/"` + status + `"`
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", tag)
		answer(200, runnerJSON{ID: 42, Name: ourName, Status: status})(w, r)
	}}.serve(t)
	cl := client(t, srv, nil)
	for i, want := range []runner.Sight{runner.SightOffline, runner.SightOffline, runner.SightIdle, runner.SightIdle} {
		if i == 2 {
			status = "online"
		}
		got, err := cl.Observe(t.Context(), runner.Registration{ID: 42, Name: ourName})
		if err != nil || got != want {
			t.Errorf("%d: %q, %v", i, got, err)
		}
	}
	if got := fmt.Sprintf("%q", asked); got != `["" "W/\"offline\"" "W/\"offline\"" "W/\"online\""]` {
		t.Errorf("asked %s", got)
	}
}

// TestAttackOldProof has GitHub, or a cache before it, say that nothing has changed: what proves a removal is asked for
// whole.
func TestAttackOldProof(t *testing.T) {
	t.Parallel()
	g := newRegistered(ours()...)
	f := g.fake(runnersPath, 42)
	for path, h := range f {
		f[path] = func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-None-Match") != "" && r.Method == http.MethodGet {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			with(h, "ETag", `"x"`)(w, r)
		}
	}
	cl := client(t, f.serve(t), nil)
	reg := runner.Registration{ID: 42, Name: ourName}
	for range 2 {
		if got, err := cl.Observe(t.Context(), reg); err != nil || got != runner.SightOffline {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if err := cl.Remove(t.Context(), reg); err != nil || len(g.removed()) != 1 {
		t.Fatalf("got %v, removed %v", err, g.removed())
	}
}

// TestKeptBounds keeps some answers, none that is too long, and none that broke off.
func TestKeptBounds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body  io.Reader
		kept  int
		fails bool
	}{
		"short": {strings.NewReader("x"), 1, false},
		"long":  {strings.NewReader(strings.Repeat("x", maxKeptBytes+9)), 0, false},
		"half":  {io.MultiReader(strings.NewReader("x"), failing{io.ErrUnexpectedEOF}), 0, true},
	} {
		e := new(etags)
		want := -1
		if s, ok := tc.body.(*strings.Reader); ok {
			want = s.Len()
		}
		resp := &http.Response{StatusCode: 200, Header: http.Header{"Etag": {`"x"`}}, Body: io.NopCloser(tc.body)}
		e.keep("u", resp)
		raw, err := io.ReadAll(resp.Body)
		if len(e.kept) != tc.kept || (err != nil) != tc.fails || want >= 0 && len(raw) != want {
			t.Errorf("%s: kept %d, read %d bytes, %v", name, len(e.kept), len(raw), err)
		}
	}
	e := new(etags)
	for i := range 3 * maxKept {
		e.keep(fmt.Sprint(i%(2*maxKept)), &http.Response{Header: http.Header{"Etag": {`"x"`}}, Body: io.NopCloser(strings.NewReader("x"))})
	}
	if _, ok := e.find(fmt.Sprint(maxKept - 1)); len(e.kept) != maxKept || !ok {
		t.Errorf("kept %d, the newest is there: %v", len(e.kept), ok)
	}
}
