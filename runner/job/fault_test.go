// SPDX-License-Identifier: Apache-2.0

package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
)

// lagging is a world whose jobs API shows our runner only after some time, or fails until then.
type lagging struct {
	*world
	from time.Time
	err  error
}

// Jobs implements [API].
func (l *lagging) Jobs(ctx context.Context, repo string, run, attempt int64) ([]WorkflowJob, error) {
	if time.Now().Before(l.from) {
		if l.err != nil {
			return nil, l.err
		}
		return []WorkflowJob{{ID: 41000000001, RunID: 7000000001, RunAttempt: 1, Status: "in_progress", HeadSHA: sourceSHA}}, ctx.Err()
	}
	return l.world.Jobs(ctx, repo, run, attempt)
}

// identifierOf is an identifier with the poll and the patience of production.
func (w *world) identifierOf(t *testing.T, api API, change func(*Config)) *Identifier {
	t.Helper()
	c := w.identifier(t).config
	c.API, c.Poll, c.Wait = api, 500*time.Millisecond, 0
	if change != nil {
		change(&c)
	}
	i, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// busyError is GitHub asking for a pause.
type busyError struct{ wait time.Duration }

func (e busyError) Error() string             { return "busy" }
func (e busyError) RetryAfter() time.Duration { return e.wait }
func (e busyError) Is(target error) bool      { return target == runner.ErrTryAgain }

// TestJobsLag has runner_id null, or no answer at all, for as long as GitHub may need, and longer.
func TestJobsLag(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		lag, patience time.Duration
		err           error
		want          error
		says          string
	}{
		"a minute":                      {time.Minute, 90 * time.Second, nil, nil, ""},
		"longer than the dispatch":      {2 * time.Minute, 90 * time.Second, nil, refusal.ErrIdentity, "no such job in 1m30s"},
		"unavailable for a minute":      {time.Minute, 90 * time.Second, fmt.Errorf("503: %w", runner.ErrTryAgain), nil, ""},
		"limited":                       {time.Minute, 90 * time.Second, busyError{40 * time.Second}, nil, ""},
		"unavailable for too long":      {2 * time.Minute, 90 * time.Second, fmt.Errorf("503: %w", runner.ErrTryAgain), runner.ErrTryAgain, "identifying the job: 503"},
		"limited for longer than there": {2 * time.Minute, 90 * time.Second, busyError{time.Hour}, runner.ErrTryAgain, "busy"},
		"forbidden":                     {time.Second, 90 * time.Second, runner.ErrDenied, runner.ErrDenied, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				api := &lagging{world: w, from: time.Now().Add(tc.lag), err: tc.err}
				ctx, cancel := context.WithTimeout(t.Context(), tc.patience)
				defer cancel()
				got, err := w.identifierOf(t, api, nil).Identify(ctx, w.question)
				if tc.want == nil {
					if err != nil || got == nil {
						t.Fatal(err)
					}
					return
				}
				if !errors.Is(err, tc.want) || got != nil || !strings.Contains(err.Error(), tc.says) {
					t.Fatalf("got %v", err)
				}
			})
		})
	}
}

// TestJobsLagInterrupted ends at once with its caller.
func TestJobsLagInterrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Second, cancel)
		_, err := w.identifierOf(t, &lagging{world: w, from: time.Now().Add(time.Hour)}, nil).Identify(ctx, w.question)
		if !errors.Is(err, context.Canceled) || errors.Is(err, refusal.ErrNotVerified) {
			t.Fatalf("got %v", err)
		}
	})
}

// TestAttackTwoClaims has two jobs say that they run on this one ephemeral runner, in every way that GitHub could show it.
func TestAttackTwoClaims(t *testing.T) {
	t.Parallel()
	ours := WorkflowJob{ID: 41000000001, RunID: 7000000001, RunAttempt: 1, Status: "in_progress", HeadSHA: sourceSHA, RunnerID: 42, RunnerName: "host-1-2"}
	for name, second := range map[string]WorkflowJob{
		"both in progress":     {Status: "in_progress", RunnerID: 42, RunnerName: "host-1-2"},
		"second is queued":     {Status: "queued", RunnerID: 42, RunnerName: "host-1-2"},
		"second has the name":  {Status: "in_progress", RunnerName: "host-1-2"},
		"second has the id":    {Status: "in_progress", RunnerID: 42},
		"second has completed": {Status: "completed", RunnerID: 42, RunnerName: "host-1-2"},
	} {
		second.ID = 41000000009
		for order, reverse := range map[string]bool{"": false, ", the other way round": true} {
			t.Run(name+order, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.jobs = [][]WorkflowJob{{ours, second}}
				if reverse {
					w.jobs = [][]WorkflowJob{{second, ours}}
				}
				got, err := w.identifier(t).Identify(t.Context(), w.question)
				if !errors.Is(err, refusal.ErrIdentity) || got != nil {
					t.Fatalf("got %v", err)
				}
			})
		}
	}
	w := newWorld(t)
	w.jobs = [][]WorkflowJob{{ours, {ID: 41000000009, Status: "in_progress", RunnerID: 42, RunnerName: "host-1-2"}}}
	if _, err := w.identifier(t).Identify(t.Context(), w.question); !strings.Contains(err.Error(), "jobs 41000000001 and 41000000009, which both say that they run on it") {
		t.Errorf("got %v", err)
	}
}

// rotating gives one key set after the other.
type rotating struct {
	*world
	sets [][]byte
	errs []error
	asks int
}

// Keys implements [Tokens].
func (r *rotating) Keys(ctx context.Context) ([]byte, error) {
	at := r.asks
	r.asks++
	if at < len(r.errs) && r.errs[at] != nil {
		return nil, r.errs[at]
	}
	if at < len(r.sets) && r.sets[at] != nil {
		return r.sets[at], nil
	}
	return r.world.Keys(ctx)
}

// TestKeyRotation has the issuer change its keys between the token and its keys: they are fetched once more, and once
// only.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	other := otherKeys("k2")
	for name, tc := range map[string]struct {
		sets [][]byte
		errs []error
		asks int
		want error
	}{
		"no rotation":            {nil, nil, 1, nil},
		"an old set first":       {[][]byte{other}, nil, 2, nil},
		"unknown key for good":   {[][]byte{other, other, other}, nil, 2, refusal.ErrChain},
		"other key of that name": {[][]byte{otherKeys("k1")}, nil, 1, refusal.ErrSignature},
		"keys unavailable once":  {nil, []error{runner.ErrTryAgain}, 2, nil},
		"keys unavailable":       {nil, []error{runner.ErrTryAgain, runner.ErrTryAgain, runner.ErrTryAgain, runner.ErrTryAgain}, 4, runner.ErrTryAgain},
		"keys refused":           {nil, []error{errors.New("no")}, 1, errAny},
		"old set, then none":     {[][]byte{other}, []error{nil, errors.New("no")}, 2, errAny},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				r := &rotating{world: w, sets: tc.sets, errs: tc.errs}
				got, err := w.identifierOf(t, w, func(c *Config) { c.Tokens = r }).Identify(t.Context(), w.question)
				if r.asks != tc.asks || (err == nil) != (tc.want == nil) || (got == nil) != (tc.want != nil) {
					t.Fatalf("asked %d times, %v", r.asks, err)
				}
				if tc.want != nil && !errors.Is(tc.want, errAny) && !errors.Is(err, tc.want) {
					t.Fatalf("got %v", err)
				}
			})
		})
	}
}

var errAny = errors.New("any error")

// TestWrongClock judges a token that GitHub made just now on a machine whose clock is wrong: whatever is refused, is
// refused in a sentence that names the clock.
func TestWrongClock(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	for name, tc := range map[string]struct {
		off  time.Duration
		fine bool
	}{
		"right": {0, true}, "a minute ahead": {time.Minute, true}, "a minute behind": {-time.Minute, true},
		"10 minutes ahead": {10 * time.Minute, false}, "10 minutes behind": {-10 * time.Minute, false},
		"2 years ahead": {2 * year, false}, "2 years behind": {-2 * year, false},
	} {
		w := newWorld(t)
		i := w.identifierOf(t, w, func(c *Config) { c.Now = func() time.Time { return now.Add(tc.off) } })
		got, err := i.Identify(t.Context(), w.question)
		if tc.fine {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !errors.Is(err, refusal.ErrExpired) || got != nil || !strings.Contains(err.Error(), "this machine's clock at") ||
			!strings.Contains(err.Error(), "correct the clock") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestAttackTokenTimes gives tokens of other times on a machine whose clock is right: an old one is refused as what it
// is, whatever the clock.
func TestAttackTokenTimes(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	for name, change := range map[string]map[string]any{
		"expired":                    {"exp": at(-3 * time.Minute)},
		"not yet valid":              {"nbf": at(10 * time.Minute)},
		"of the future":              {"iat": at(time.Hour), "nbf": at(time.Hour), "exp": at(2 * time.Hour)},
		"old, that lives for ever":   {"iat": at(-time.Hour), "exp": at(1000 * time.Hour)},
		"without a time of issue":    {"iat": nil},
		"without an end":             {"exp": nil},
		"without a beginning":        {"nbf": nil},
		"with times as text":         {"exp": "tomorrow"},
		"old, and of another issuer": {"iat": at(-time.Hour), "iss": "https://evil.test"},
	} {
		w := newWorld(t)
		for k, v := range change {
			if v == nil {
				delete(w.claims, k)
				continue
			}
			w.claims[k] = v
		}
		got, err := w.identifier(t).Identify(t.Context(), w.question)
		if !errors.Is(err, refusal.ErrNotVerified) || got != nil {
			t.Errorf("%s: got %v", name, err)
		}
		if strings.HasSuffix(name, "issuer") && strings.Contains(err.Error(), "this machine's clock at") {
			t.Errorf("%s: the clock is blamed: %v", name, err)
		}
	}
}

// TestAttackCheckRunType writes the id of the job in every type that JSON has. Text and whole numbers are what GitHub
// writes.
func TestAttackCheckRunType(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		value any
		fine  bool
	}{
		"text": {"41000000001", true}, "number": {41000000001, true}, "null": {nil, false}, "bool": {true, false},
		"list": {[]any{41000000001}, false}, "object": {map[string]any{"id": 41000000001}, false}, "fraction": {json.RawMessage("41000000001.5"), false},
		"exponent": {json.RawMessage("4.1000000001e10"), false}, "negative": {-41000000001, false}, "empty": {"", false},
		"leading zero": {"041000000001", false}, "spaces": {" 41000000001", false}, "hex": {"0x98bca5a01", false},
	} {
		w := newWorld(t)
		w.claims["check_run_id"] = tc.value
		got, err := w.identifier(t).Identify(t.Context(), w.question)
		if tc.fine != (err == nil) || tc.fine != (got != nil) || err != nil && !errors.Is(err, refusal.ErrNotVerified) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestConclusionLag waits for the conclusion as long as it is given time.
func TestConclusionLag(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.jobs = [][]WorkflowJob{w.jobs[0], w.jobs[0], {{ID: 41000000001, Status: "completed", Conclusion: "success"}}}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		facts := statement.Facts{Repository: "acme/widget", RunID: "7000000001", RunAttempt: "1", JobID: "41000000001"}
		got, err := w.identifierOf(t, w, nil).Conclusion(ctx, facts)
		if err != nil || got != "success" {
			t.Fatalf("got %q, %v", got, err)
		}
	})
}

// TestIssuerUnavailable tells what another try may mend from what it does not.
func TestIssuerUnavailable(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		again  bool
	}{
		"503":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, true},
		"429":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }, true},
		"reset": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, true},
		"half": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "99")
			_, _ = io.WriteString(w, `{"v`)
		}, true},
		"403":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, false},
		"redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/jwks", http.StatusFound) }, false},
	} {
		s, i := newIssuerServer(t)
		s.answer = tc.answer
		_, err := i.Fetch(t.Context(), s.URL+"/idtoken", newWorld(t).question.Claims.IDTokenRequest, "a")
		if err == nil || errors.Is(err, runner.ErrTryAgain) != tc.again {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// FuzzVerifyToken gives tokens with a good signature and a payload of anyone's choice.
func FuzzVerifyToken(f *testing.F) {
	w := newWorld(f)
	good, err := json.Marshal(w.claims)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"iat":1e300,"exp":-1,"nbf":{}}`))
	f.Add([]byte(`{"check_run_id":[]}`))
	key := issuerKey()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "k1"))
	if err != nil {
		f.Fatal(err)
	}
	jwks, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "RS256"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		sig, err := signer.Sign(payload)
		if err != nil {
			t.Skip()
		}
		raw, err := sig.CompactSerialize()
		if err != nil {
			t.Skip()
		}
		world := newWorld(t)
		i := world.identifier(t)
		i.config.Tokens = fixed{raw, jwks}
		got, err := i.Identify(t.Context(), world.question)
		if (got == nil) == (err == nil) {
			t.Fatalf("got %v, %v", got, err)
		}
		if got != nil && got.Facts.JobID != "41000000001" {
			t.Fatalf("another job: %+v", got.Facts)
		}
	})
}

// fixed gives one token and one key set.
type fixed struct {
	token string
	keys  []byte
}

// Fetch implements [Tokens].
func (f fixed) Fetch(context.Context, string, secret.String, string) (string, error) {
	return f.token, nil
}

// Keys implements [Tokens].
func (f fixed) Keys(context.Context) ([]byte, error) { return f.keys, nil }
