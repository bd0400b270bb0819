// SPDX-License-Identifier: Apache-2.0

package github

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/runner"
)

const ourName = "host-1-2"

func created(t *testing.T, b blob) http.HandlerFunc {
	return answer(http.StatusCreated, map[string]any{
		"runner": map[string]any{"id": 42, "name": ourName}, "encoded_jit_config": b.encode(t),
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
		"enterprise": {"/api/v3/enterprises/acme-inc/actions/runners", func(c *Config) {
			c.Scope, c.Target, c.RunnerGroup, c.Labels = Enterprise, "acme-inc", 3, []string{"attested-cvm", "linux"}
		}},
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
			reg, err := cl.Register(t.Context(), ourName)
			if err != nil {
				t.Fatal(err)
			}
			if reg.ID != 42 || reg.Name != ourName || decodeJIT(t, reg.JIT)[".runner"]["DisableUpdate"] != "True" {
				t.Errorf("got %+v", reg)
			}
			var labels []any
			for _, l := range cl.config.Labels {
				labels = append(labels, l)
			}
			want := map[string]any{
				"name": ourName, "runner_group_id": float64(cl.config.RunnerGroup), "work_folder": "_work", "labels": labels,
			}
			if d := cmp.Diff(want, sent); d != "" {
				t.Error(d)
			}
			if auth != "Bearer t0ken" {
				t.Errorf("authorization %q", auth)
			}
		})
	}
	if _, err := client(t, fake{}.serve(t), nil).Register(t.Context(), ""); err == nil {
		t.Error("registered a runner without a name")
	}
}

// TestAttackForeignBlob has GitHub, or whoever answers for it, point the runner elsewhere: nothing of it is handed out, and
// the runner is removed.
func TestAttackForeignBlob(t *testing.T) {
	t.Parallel()
	b := goodBlob()
	b.runner["ServerUrlV2"] = "https://evil.test/"
	g := newRegistered(runnerJSON{ID: 42, Name: ourName})
	f := g.fake(runnersPath, 42)
	f["POST "+runnersPath+"/generate-jitconfig"] = created(t, b)
	reg, err := client(t, f.serve(t), nil).Register(t.Context(), ourName)
	if !errors.Is(err, refusal.ErrIdentity) || errors.Is(err, runner.ErrTryAgain) || !reg.JIT.Empty() {
		t.Fatalf("got %+v, %v", reg, err)
	}
	if !slices.Equal(g.removed(), []int64{42}) {
		t.Fatal("the runner stayed registered")
	}
}

// TestRegisterAnswers has every answer that ends a try: what it matches, what it says, and what is left at GitHub.
func TestRegisterAnswers(t *testing.T) {
	t.Parallel()
	message := func(m string) map[string]any { return map[string]any{"message": m} }
	again, denied := runner.ErrTryAgain, runner.ErrDenied
	malformed := goodBlob()
	malformed.key = nil
	for name, tc := range map[string]struct {
		post  http.HandlerFunc
		left  []runnerJSON // at GitHub, whatever it answered
		want  []error
		not   []error
		says  string
		gone  bool // the runner 42 was removed
		after time.Duration
	}{
		"name taken":       {post: answer(409, message("Already exists")), left: ours(), want: []error{ErrNameTaken, again}, gone: true},
		"taken and busy":   {post: answer(409, message("Already exists")), left: busy(), want: []error{ErrNameTaken, again}, says: "runs a job"},
		"taken elsewhere":  {post: answer(409, message("Already exists")), want: []error{ErrNameTaken, again}},
		"5xx, registered":  {post: answer(500, nil), left: ours(), want: []error{ErrUnknownOutcome, again}, gone: true},
		"5xx, nothing":     {post: answer(502, nil), want: []error{ErrUnknownOutcome, again}},
		"no answer":        {post: hangUp, left: ours(), want: []error{ErrUnknownOutcome, again}, gone: true, says: "no answer"},
		"half an answer":   {post: half(201), left: ours(), want: []error{ErrUnknownOutcome, again}, gone: true, says: "cannot be read"},
		"HTML":             {post: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, left: ours(), want: []error{ErrUnknownOutcome, again}, gone: true},
		"nothing in it":    {post: answer(201, map[string]any{}), left: ours(), want: []error{ErrUnknownOutcome, again}, gone: true, says: "names no runner"},
		"empty":            {post: answer(201, nil), left: ours(), want: []error{ErrUnknownOutcome, again}, gone: true},
		"accepted":         {post: answer(202, message("later")), left: ours(), want: []error{ErrUnknownOutcome, again}, gone: true},
		"id as text":       {post: answer(201, map[string]any{"runner": map[string]any{"id": "42"}}), left: ours(), want: []error{ErrUnknownOutcome, again}, gone: true},
		"5xx with a pause": {post: with(answer(503, nil), "Retry-After", "20"), want: []error{again}, after: 20 * time.Second},
		"429":              {post: with(answer(429, message("slow")), "Retry-After", "120"), want: []error{again}, not: []error{ErrUnknownOutcome, denied}, after: 2 * time.Minute, says: "try again in 2m0s"},
		"secondary limit":  {post: with(answer(403, message("You have exceeded a secondary rate limit.")), "Retry-After", "300"), want: []error{again}, not: []error{ErrForbidden, denied}, after: 5 * time.Minute},
		"primary limit":    {post: with(with(answer(403, message("API rate limit exceeded")), "X-RateLimit-Remaining", "0"), "X-RateLimit-Reset", "9999999999"), want: []error{again}, not: []error{denied}, after: maxPause},
		"bad credentials":  {post: answer(401, message("Bad credentials")), want: []error{ErrForbidden, denied}, not: []error{again}, says: "“Administration: write” of repository acme/widget, as a GitHub App or fine-grained token, or the scope repo, as a classic token"},
		"forbidden":        {post: with(answer(403, message("Resource not accessible by integration")), "X-Accepted-GitHub-Permissions", "administration=write"), want: []error{denied}, not: []error{again}, says: "(GitHub accepts administration=write); if it has that, runner group 1 is one that repository acme/widget may not use"},
		"not found":        {post: answer(404, message("Not Found")), want: []error{ErrNotFound, denied}, not: []error{again}, says: "without that GitHub does not show repository acme/widget; with it, there is no runner group 1 (request REQ:1)"},
		"invalid":          {post: answer(422, message("Invalid group")), want: []error{denied}, not: []error{again}, says: `"Invalid group" (request REQ:1)`},
		"other name":       {post: answer(201, map[string]any{"runner": map[string]any{"id": 42, "name": "x"}}), left: ours(), want: []error{refusal.ErrIdentity}, not: []error{again}, gone: true},
		"no id":            {post: answer(201, map[string]any{"runner": map[string]any{"name": ourName}}), left: ours(), want: []error{refusal.ErrIdentity}, gone: true},
		"malformed blob":   {post: created(t, malformed), left: ours(), want: []error{refusal.ErrMalformed, again}, gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newRegistered(tc.left...)
			f := g.fake(runnersPath, 42)
			f["POST "+runnersPath+"/generate-jitconfig"] = tc.post
			reg, err := client(t, f.serve(t), nil).Register(t.Context(), ourName)
			for _, want := range tc.want {
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
			}
			for _, not := range tc.not {
				if errors.Is(err, not) {
					t.Errorf("%v is %v", err, not)
				}
			}
			if !strings.Contains(err.Error(), tc.says) || !reg.JIT.Empty() {
				t.Errorf("got %+v, %v", reg, err)
			}
			if got := slices.Equal(g.removed(), []int64{42}); got != tc.gone {
				t.Errorf("removed %v", g.removed())
			}
			var later runner.Later
			if tc.after > 0 && (!errors.As(err, &later) || later.RetryAfter() != tc.after) {
				t.Errorf("no pause of %s: %v", tc.after, err)
			}
			if strings.Contains(fmt.Sprintf("%+v", err), "t0ken") {
				t.Error("the error shows the token")
			}
		})
	}
}

func ours() []runnerJSON {
	return []runnerJSON{{ID: 41, Name: ourName + "2", Status: "offline"}, {ID: 42, Name: strings.ToUpper(ourName), Status: "offline"}}
}

func busy() []runnerJSON { return []runnerJSON{{ID: 42, Name: ourName, Status: "online", Busy: true}} }

// TestRegisterPermissions says for each scope what is needed.
func TestRegisterPermissions(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		scope  Scope
		target string
		path   string
		says   string
	}{
		"organisation": {Org, "acme", "orgs/acme", "“Self-hosted runners: write” of organisation acme, as a GitHub App or fine-grained token, or the scope admin:org, as a classic token"},
		"enterprise":   {Enterprise, "acme-inc", "enterprises/acme-inc", "the scope manage_runners:enterprise of enterprise acme-inc, as a classic token: no App"},
	} {
		f := fake{"POST /api/v3/" + tc.path + "/actions/runners/generate-jitconfig": answer(403, nil)}
		_, err := client(t, f.serve(t), func(c *Config) { c.Scope, c.Target, c.RunnerGroup = tc.scope, tc.target, 7 }).Register(t.Context(), ourName)
		if !errors.Is(err, runner.ErrDenied) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), "runner group 7") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestRegisteredLate shows what GitHub registered only at the second look.
func TestRegisteredLate(t *testing.T) {
	t.Parallel()
	g := newRegistered(ours()...)
	f := g.fake(runnersPath, 42)
	f["POST "+runnersPath+"/generate-jitconfig"] = answer(504, nil)
	f["GET "+runnersPath] = turns(answer(200, map[string]any{"runners": []any{}}), g.list)
	_, err := client(t, f.serve(t), nil).Register(t.Context(), ourName)
	if !errors.Is(err, ErrUnknownOutcome) || !slices.Equal(g.removed(), []int64{42}) {
		t.Fatalf("got %v, removed %v", err, g.removed())
	}
}

// TestRegisterInterrupted cleans up although its caller has given up.
func TestRegisterInterrupted(t *testing.T) {
	t.Parallel()
	g := newRegistered(ours()...)
	f := g.fake(runnersPath, 42)
	ctx, cancel := context.WithCancel(t.Context())
	f["POST "+runnersPath+"/generate-jitconfig"] = func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then the server notices that its client is gone
		cancel()
		<-r.Context().Done()
	}
	_, err := client(t, f.serve(t), nil).Register(ctx, ourName)
	if !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, context.Canceled) || !slices.Equal(g.removed(), []int64{42}) {
		t.Fatalf("got %v, removed %v", err, g.removed())
	}
}

// TestCleanUpFails tells both what went wrong and that something may be left.
func TestCleanUpFails(t *testing.T) {
	t.Parallel()
	f := fake{"POST " + runnersPath + "/generate-jitconfig": answer(500, nil), "GET " + runnersPath: answer(401, nil)}
	_, err := client(t, f.serve(t), nil).Register(t.Context(), ourName)
	if !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, ErrForbidden) {
		t.Fatalf("got %v", err)
	}
}

// TestNotSent asks a host that is not pinned: no other try mends that, and nothing can be left behind.
func TestNotSent(t *testing.T) {
	t.Parallel()
	cl := client(t, fake{}.serve(t), nil)
	cl.api.BaseURL.Host = "evil.test"
	_, err := cl.Register(t.Context(), ourName)
	if err == nil || errors.Is(err, runner.ErrTryAgain) || errors.Is(err, ErrUnknownOutcome) {
		t.Fatalf("got %v", err)
	}
}
