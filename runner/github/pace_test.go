// SPDX-License-Identifier: Apache-2.0

package github

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/runner/job/pinned"
)

// paced is a pace before a server, and its clock.
func paced(t *testing.T, f fake) (*pace, *patience, string) {
	t.Helper()
	srv := f.serve(t)
	base, err := pinned.Client(pinned.Config{Hosts: pinned.Hosts{strings.TrimPrefix(srv.URL, "https://")}, Roots: rootsOf(srv)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(base.CloseIdleConnections)
	p := &patience{at: time.Now()}
	return &pace{next: base.Transport, clock: p.clock()}, p, srv.URL
}

func request(t *testing.T, ctx context.Context, method, url string) *http.Request { //nolint:revive // t first, as in every helper of tests.
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func TestPace(t *testing.T) {
	t.Parallel()
	const date = "Mon, 21 Dec 2026 12:00:00 GMT"
	limit := `{"message":"You have exceeded a secondary rate limit. Please wait.","documentation_url":"https://x/#secondary-rate-limits"}`
	in := func(seconds int) string {
		return strconv.FormatInt(time.Date(2026, 12, 21, 12, 0, seconds, 0, time.UTC).Unix(), 10)
	}
	for name, tc := range map[string]struct {
		method  string
		status  int
		header  map[string]string
		body    string
		pauses  []time.Duration
		answers int // requests that arrive when the first answer is bad and all others are good
	}{
		"429 on POST":                  {"POST", 429, map[string]string{"Retry-After": "1"}, "", seconds(1), 2},
		"429 without a time":           {"POST", 429, nil, "", seconds(60), 2},
		"403 with Retry-After":         {"POST", 403, map[string]string{"Retry-After": "30"}, "", seconds(30), 2},
		"403 with a date":              {"POST", 403, map[string]string{"Retry-After": "Mon, 21 Dec 2026 12:00:20 GMT"}, "", seconds(20), 2},
		"403 with an old date":         {"POST", 403, map[string]string{"Retry-After": "Mon, 21 Dec 2020 12:00:20 GMT"}, "", seconds(1), 2},
		"403 without":                  {"POST", 403, nil, `{"message":"Resource not accessible"}`, nil, 1},
		"403, secondary limit":         {"POST", 403, nil, limit, seconds(60), 2},
		"403, abuse":                   {"POST", 403, nil, `{"message":"You have triggered an abuse detection mechanism."}`, seconds(60), 2},
		"403, none remaining":          {"POST", 403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": in(45)}, "", seconds(45), 2},
		"429, none remaining":          {"GET", 429, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": in(45)}, "", seconds(45), 2},
		"403, reset is past":           {"POST", 403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": in(-45)}, "", seconds(1), 2},
		"403, reset in a while":        {"GET", 403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": in(600)}, "", nil, 1},
		"403, reset is nonsense":       {"GET", 403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "soon"}, "", seconds(60), 2},
		"403, some remaining":          {"GET", 403, map[string]string{"X-RateLimit-Remaining": "7", "X-RateLimit-Reset": in(45)}, "", nil, 1},
		"503 on GET":                   {"GET", 503, nil, "", seconds(1), 2},
		"503 with Retry-After":         {"GET", 503, map[string]string{"Retry-After": "9"}, "", seconds(9), 2},
		"503 on POST":                  {"POST", 503, nil, "", nil, 1},
		"502 on DELETE":                {"DELETE", 502, nil, "", seconds(1), 2},
		"504 on DELETE":                {"DELETE", 504, nil, "", seconds(1), 2},
		"500 on DELETE":                {"DELETE", 500, nil, "", seconds(1), 2},
		"no answer to DELETE":          {"DELETE", 0, nil, "", seconds(1), 2},
		"no answer to GET":             {"GET", 0, nil, "", seconds(1), 2},
		"no answer to POST":            {"POST", 0, nil, "", nil, 1},
		"Retry-After of an hour":       {"GET", 429, map[string]string{"Retry-After": "3600"}, "", nil, 1},
		"Retry-After of 10^30 seconds": {"GET", 429, map[string]string{"Retry-After": "1" + strings.Repeat("0", 30)}, "", nil, 1},
		"Retry-After with nonsense":    {"GET", 429, map[string]string{"Retry-After": "soon"}, "", seconds(60), 2},
		"Retry-After below zero":       {"GET", 429, map[string]string{"Retry-After": "-5"}, "", seconds(60), 2},
		"404":                          {"GET", 404, nil, "", nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var bodies []string
			rt, p, url := paced(t, fake{tc.method + " /x": func(w http.ResponseWriter, r *http.Request) {
				raw, _ := io.ReadAll(r.Body)
				bodies = append(bodies, string(raw))
				if len(bodies) > 1 {
					return
				}
				w.Header().Set("Date", date)
				for k, v := range tc.header {
					w.Header().Set(k, v)
				}
				if tc.status == 0 {
					panic(http.ErrAbortHandler) // hangs up
				}
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			}})
			resp, err := rt.RoundTrip(request(t, t.Context(), tc.method, url+"/x"))
			if err != nil && (tc.status != 0 || tc.answers > 1) {
				t.Fatal(err)
			}
			if err == nil {
				defer resp.Body.Close()
				if resp.Header.Get("X-RateLimit-Remaining") != "" {
					t.Error("go-github would count with this machine's clock")
				}
				if raw, _ := io.ReadAll(resp.Body); tc.answers == 1 && string(raw) != tc.body {
					t.Errorf("body %q", raw)
				}
			}
			if len(bodies) != tc.answers || bodies[len(bodies)-1] != "body" || !slices.Equal(p.pauses(), tc.pauses) {
				t.Fatalf("requests %q after %v", bodies, p.pauses())
			}
		})
	}
}

func seconds(s ...int) []time.Duration {
	var out []time.Duration
	for _, one := range s {
		out = append(out, time.Duration(one)*time.Second)
	}
	return out
}

// TestPaceHoldsBack lets no request out before a limit is over, whatever it is for, and gives up a limit that is longer
// than GitHub ever means.
func TestPaceHoldsBack(t *testing.T) {
	t.Parallel()
	asked := 0
	rt, p, url := paced(t, fake{
		"GET /x": func(w http.ResponseWriter, r *http.Request) {
			asked++
			with(answer(429, nil), "Retry-After", "999999")(w, r)
		},
		"DELETE /x": answer(204, nil),
	})
	ask := func(method string) *http.Response {
		resp, err := rt.RoundTrip(request(t, t.Context(), method, url+"/x"))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp
	}
	if resp := ask("GET"); resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "3600" {
		t.Fatalf("got %s, Retry-After %s", resp.Status, resp.Header.Get("Retry-After"))
	}
	p.pass(10 * time.Minute)
	if resp := ask("DELETE"); resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "3000" || asked != 1 {
		t.Fatalf("got %s, Retry-After %s, asked %d times", resp.Status, resp.Header.Get("Retry-After"), asked)
	}
	p.pass(49*time.Minute + 30*time.Second)
	if resp := ask("DELETE"); resp.StatusCode != 204 || !slices.Equal(p.pauses(), seconds(30)) {
		t.Fatalf("got %s after %v", resp.Status, p.pauses())
	}
}

// TestPaceGivesUp tries some times and no more, each time after a longer pause.
func TestPaceGivesUp(t *testing.T) {
	t.Parallel()
	rt, p, url := paced(t, fake{"GET /x": answer(502, nil)})
	resp, err := rt.RoundTrip(request(t, t.Context(), "GET", url+"/x"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 502 || !slices.Equal(p.pauses(), seconds(1, 2, 4)) {
		t.Errorf("got %s after %v", resp.Status, p.pauses())
	}
}

// TestPaceKnowsItsEnd does not sleep through its caller's deadline: the caller is told, and how long it would be.
func TestPaceKnowsItsEnd(t *testing.T) {
	t.Parallel()
	rt, p, url := paced(t, fake{"POST /x": with(answer(429, nil), "Retry-After", "50")})
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	resp, err := rt.RoundTrip(request(t, ctx, "POST", url+"/x"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "50" || len(p.pauses()) != 0 {
		t.Errorf("got %s after %v", resp.Status, p.pauses())
	}
}

// TestRefusedHostIsNotRetried counts the tries of a request that must not leave.
func TestRefusedHostIsNotRetried(t *testing.T) {
	t.Parallel()
	rt, p, _ := paced(t, fake{})
	for _, raw := range []string{"https://evil.test/", "http://127.0.0.1/"} {
		resp, err := rt.RoundTrip(request(t, t.Context(), http.MethodDelete, raw))
		if err == nil {
			_ = resp.Body.Close()
			t.Errorf("%s was asked", raw)
		}
	}
	if len(p.pauses()) != 0 {
		t.Errorf("tried again after %v", p.pauses())
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
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

// FuzzLimit feeds what an answer may say about pauses: whatever that is, the pause has bounds.
func FuzzLimit(f *testing.F) {
	f.Add(403, "30", "", "", "Mon, 21 Dec 2026 12:00:00 GMT", `{"message":"x"}`)
	f.Add(429, "Mon, 21 Dec 2026 12:00:20 GMT", "0", "1797000000", "nonsense", `{"documentation_url":"#secondary-rate-limits"}`)
	f.Add(403, "", "0", "99999999999999999999", "", "")
	f.Fuzz(func(t *testing.T, status int, after, remaining, reset, date, body string) {
		resp := &http.Response{StatusCode: status, Header: http.Header{
			"Retry-After": {after}, "X-Ratelimit-Remaining": {remaining}, "X-Ratelimit-Reset": {reset}, "Date": {date},
		}, Body: io.NopCloser(strings.NewReader(body))}
		wait, is := limited(resp, time.Unix(1797000000, 0))
		if is && (wait < firstWait || wait > maxPause) {
			t.Errorf("pause of %s", wait)
		}
		if raw, err := io.ReadAll(resp.Body); err != nil || string(raw) != body {
			t.Errorf("the body is spoiled: %q, %v", raw, err)
		}
	})
}
