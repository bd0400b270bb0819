// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run starts the agent and gives a function that waits for its end.
func run(ctx context.Context, a *Agent) func() error {
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return func() error { return <-done }
}

func TestOneJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.agent(nil)
	wait := run(t.Context(), a)
	if err := a.Started(t.Context(), Claims{}); err != nil {
		t.Fatal(err)
	}
	if a.env.key != nil {
		t.Error("the environment key is in memory while job code runs")
	}
	first, err := a.Attest(t.Context(), Outputs{Paths: []string{"a.tar.gz"}})
	if err != nil {
		t.Fatal(err)
	}
	second, err := a.Attest(t.Context(), Outputs{Paths: []string{"b.tar.gz"}})
	if err != nil {
		t.Fatal(err)
	}
	w.exited <- 0
	if err := wait(); err != nil {
		t.Fatal(err)
	}

	one, two := verified(t, first.Bundle), verified(t, second.Bundle)
	for _, p := range []binding.Purpose{binding.Boot, binding.Dispatch, binding.Response} {
		if _, ok := one[p]; !ok {
			t.Errorf("bundle lacks evidence of purpose %s", p)
		}
	}
	if one[binding.Response].Sequence != 1 || two[binding.Response].Sequence != 2 {
		t.Error("responses are not numbered from 1")
	}
	if one[binding.Response].StatementKey == two[binding.Response].StatementKey {
		t.Error("two responses share a statement key")
	}
	if one[binding.Response].EventLogHead == two[binding.Response].EventLogHead {
		t.Error("the event log did not move between responses")
	}
	final := verified(t, w.files["final.intoto.jsonl"])
	if c, ok := final[binding.Final]; !ok || c.BuildID != testJob().Facts.BuildID() {
		t.Error("no final statement for the build")
	}
	for _, name := range []string{"boot.intoto.jsonl", "dispatch.intoto.jsonl", "response-1.intoto.jsonl", "response-2.intoto.jsonl", "changes.jsonl", "journal.jsonl", "diag.tar.zst"} {
		if !slices.Contains(w.names(), name) {
			t.Errorf("record lacks %s", name)
		}
	}
	if w.register != a.env.log.Register() {
		t.Error("the register is not what the event log replays to")
	}
	want := []string{
		"state boot", "verify image", "state registering", "register", "start", "state listening", "state claimed", "freeze", "identify",
		"allow", "thaw", "state running", "open",
		"state responding", "settle", "freeze", "hold", "thaw", "freeze", "thaw", "release", "state running",
		"state responding", "settle", "freeze", "hold", "thaw", "freeze", "thaw", "release", "state running",
		"kill", "state finished", "state removed",
	}
	events := slices.DeleteFunc(w.events, func(e string) bool { return e == "remove" }) // at the same time as the others
	if !slices.Equal(events, want) || len(w.events) == len(want) {
		t.Errorf("events:\n%q\nwant:\n%q", events, want)
	}
}

// TestEndings: whatever ends an environment, the runner is deregistered, the sandbox dead, and nothing signed that was
// not so.
func TestEndings(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	tests := map[string]struct {
		world  func(*world)
		config func(*Config)
		job    func(t *testing.T, ctx context.Context, a *Agent, w *world)
		want   error // of Run
		end    State // before removed; the zero value is failed
		final  bool
	}{
		"registration fails":     {world: func(w *world) { w.registerErrs = []error{boom} }, want: boom, end: Failed},
		"sandbox does not start": {world: func(w *world) { w.startErr = boom }, want: boom},
		"runner program ends without a job": {
			job:  func(_ *testing.T, _ context.Context, _ *Agent, w *world) { w.exited <- 1 },
			want: ErrNotDispatched,
		},
		"job cannot be identified": {
			world: func(w *world) { w.identifyErr = policyRefusal() }, want: refusal.ErrPolicy,
			job: startedFails(refusal.ErrNotVerified),
		},
		"policy denies": {
			world: func(w *world) { w.allowErr = policyRefusal() }, want: refusal.ErrPolicy,
			job: startedFails(refusal.ErrPolicy),
		},
		"secure processor fails at dispatch": {
			world: func(w *world) { w.quoteErr = boom }, want: boom,
			job: startedFails(boom),
		},
		"hook speaks twice": {
			final: true, end: Finished,
			job: func(t *testing.T, ctx context.Context, a *Agent, w *world) {
				if err := a.Started(ctx, Claims{}); err != nil {
					t.Fatal(err)
				}
				if err := a.Started(ctx, Claims{}); !errors.Is(err, refusal.ErrPolicy) {
					t.Errorf("second hook was answered with %v", err)
				}
				w.exited <- 0
			},
		},
		"attest before dispatch": {
			job: func(t *testing.T, ctx context.Context, a *Agent, w *world) {
				if _, err := a.Attest(ctx, Outputs{Paths: []string{"x"}}); !errors.Is(err, refusal.ErrPolicy) {
					t.Errorf("attest was answered with %v", err)
				}
				w.exited <- 0
			},
			want: ErrNotDispatched, end: Ghost,
		},
		"bad output is refused and the job goes on": {
			world: func(w *world) { w.hashErr = policyRefusal() }, final: true, end: Finished,
			job: func(t *testing.T, ctx context.Context, a *Agent, w *world) {
				if err := a.Started(ctx, Claims{}); err != nil {
					t.Fatal(err)
				}
				if _, err := a.Attest(ctx, Outputs{Paths: []string{"x"}}); !errors.Is(err, refusal.ErrPolicy) {
					t.Errorf("attest was answered with %v", err)
				}
				if a.State() != Running {
					t.Errorf("state %s", a.State())
				}
				w.exited <- 0
			},
		},
		"sandbox does not freeze": {
			world: func(w *world) { w.freezeErr, w.freezeAfter = boom, 1 }, want: boom, final: true,
			job: attestOnce(errEnding),
		},
		"sandbox does not thaw": {
			world: func(w *world) { w.thawErr, w.freezeAfter = boom, 1 }, want: boom, final: true,
			job: attestOnce(errEnding),
		},
		"sandbox does not freeze for the dispatch": {
			world: func(w *world) { w.freezeErr = boom }, want: boom,
			job: startedFails(boom),
		},
		"identifying takes too long": {
			world: func(w *world) {
				w.slow = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
			},
			config: func(c *Config) { c.Dispatch = 10 * time.Millisecond }, want: context.DeadlineExceeded,
			job: startedFails(context.DeadlineExceeded),
		},
		"someone else speaks at the door": {
			job:  func(_ *testing.T, _ context.Context, a *Agent, _ *world) { a.Spoil(boom) },
			want: ErrNotDispatched,
		},
		"the hook goes before the sandbox stands still": {
			world: func(w *world) { w.slow = func(context.Context) error { w.spoil(); return nil } },
			want:  ErrNotDispatched, job: startedFails(ErrNotDispatched),
		},
		"quote of another machine at dispatch": {
			world: func(w *world) {
				w.appraise = func(n int) (Self, error) {
					self := testSelf()
					if n > 2 { // after the probe and BOOT
						self.Instance.ReportID = strings.Repeat("00", 32)
					}
					return self, nil
				}
			},
			want: errAny, job: startedFails(errAny),
		},
		"secure processor refuses a response": {
			world: func(w *world) {
				w.appraise = func(n int) (Self, error) {
					if n > 3 { // after DISPATCH; a refusal of the hardware is not the job's to repair
						return Self{}, policyRefusal()
					}
					return testSelf(), nil
				}
			},
			want: refusal.ErrPolicy, job: attestOnce(errEnding),
		},
		"sandbox does not die": {
			world: func(w *world) { w.killErr = boom }, want: boom,
			job: func(t *testing.T, ctx context.Context, a *Agent, w *world) {
				if err := a.Started(ctx, Claims{}); err != nil {
					t.Fatal(err)
				}
				w.exited <- 0
			},
		},
		"job runs too long": {
			config: func(c *Config) { c.Job = 10 * time.Millisecond }, final: true,
			job: func(t *testing.T, ctx context.Context, a *Agent, _ *world) {
				if err := a.Started(ctx, Claims{}); err != nil {
					t.Fatal(err)
				}
			},
			want: errAny,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if tc.world != nil {
				tc.world(w)
			}
			a := w.agent(tc.config)
			w.spoil = func() { a.Spoil(boom) }
			wait := run(t.Context(), a)
			if tc.job != nil {
				tc.job(t, t.Context(), a, w)
			}
			err := wait()
			if tc.want == nil && err != nil || tc.want != nil && (err == nil || tc.want != errAny && !errors.Is(err, tc.want)) { //nolint:errorlint // errAny is a marker.
				t.Errorf("Run: %v, want %v", err, tc.want)
			}
			if left := w.left(); w.saw("register") != 1 || len(left) > 0 {
				t.Errorf("registered %d times, GitHub still has %q", w.saw("register"), left)
			}
			if w.started && w.killErr == nil && !w.dead {
				t.Error("the sandbox lives")
			}
			if end := cmp.Or(tc.end, Failed); w.saw("state "+string(end)) != 1 {
				t.Errorf("it ended in %q, want %s", w.events, end)
			}
			if got := slices.Contains(w.names(), "final.intoto.jsonl"); got != tc.final {
				t.Errorf("final statement: %v, want %v", got, tc.final)
			}
			if a.State() != Removed || a.env.key != nil {
				t.Errorf("state %s, environment key kept: %v", a.State(), a.env.key != nil)
			}
			if _, err := a.Attest(t.Context(), Outputs{}); !errors.Is(err, refusal.ErrPolicy) {
				t.Errorf("attest after the end: %v", err)
			}
		})
	}
}

// errAny marks a Run that must fail, whatever the error is.
var errAny = errors.New("any")

func startedFails(want error) func(*testing.T, context.Context, *Agent, *world) {
	return func(t *testing.T, ctx context.Context, a *Agent, w *world) {
		t.Helper()
		err := a.Started(ctx, Claims{})
		w.exited <- 1
		if err == nil || want != errAny && !errors.Is(err, want) { //nolint:errorlint // errAny is a marker.
			t.Errorf("hook was answered with %v, want %v", err, want)
		}
		if w.saw("open") > 0 {
			t.Error("the gate opened for a job that was refused")
		}
	}
}

func attestOnce(want error) func(*testing.T, context.Context, *Agent, *world) {
	return func(t *testing.T, ctx context.Context, a *Agent, _ *world) {
		t.Helper()
		if err := a.Started(ctx, Claims{}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Attest(ctx, Outputs{Paths: []string{"x"}}); !errors.Is(err, want) {
			t.Errorf("attest was answered with %v", err)
		}
	}
}

func TestCancelledContextStillDeregisters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	a := w.agent(nil)
	wait := run(ctx, a)
	if err := a.Started(t.Context(), Claims{}); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
	if w.saw("remove") != 1 || w.saw("kill") == 0 {
		t.Error("the runner or the sandbox is left behind")
	}
}

// TestResponsesAreBounded: a job cannot fill the machine's memory with responses.
func TestResponsesAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.agent(nil)
	wait := run(t.Context(), a)
	if err := a.Started(t.Context(), Claims{}); err != nil {
		t.Fatal(err)
	}
	for range maxResponses {
		if _, err := a.Attest(t.Context(), Outputs{Paths: []string{"x"}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Attest(t.Context(), Outputs{Paths: []string{"x"}}); !errors.Is(err, refusal.ErrPolicy) {
		t.Errorf("one more: %v", err)
	}
	if got := a.Status(); got.Responses != maxResponses || got.BuildID == "" || !strings.HasPrefix(got.Runner, "kettle-00112233-") || got.RunnerID != 41 || got.Platform != "sim" {
		t.Errorf("status %+v", got)
	}
	w.exited <- 0
	if err := wait(); err != nil {
		t.Fatal(err)
	}
}

// TestEachStepHasItsOwnTime: a sink that does not take one file gets the others, and the journal tells.
func TestEachStepHasItsOwnTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.hang = "boot.intoto.jsonl"
	a := w.agent(nil)
	wait := run(t.Context(), a)
	if err := a.Started(t.Context(), Claims{}); err != nil {
		t.Fatal(err)
	}
	w.exited <- 0
	if err := wait(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Run: %v", err)
	}
	names := w.names()
	if slices.Contains(names, w.hang) || !slices.Contains(names, "final.intoto.jsonl") || !slices.Contains(names, "dispatch.intoto.jsonl") {
		t.Errorf("record %q", names)
	}
	if journal := string(w.files["journal.jsonl"]); !strings.Contains(journal, "delivering boot.intoto.jsonl") {
		t.Errorf("journal:\n%s", journal)
	}
}

func TestConclusions(t *testing.T) {
	t.Parallel()
	for conclusion, want := range map[string]string{
		"success": "finished", "failure": "failed", "cancelled": "cancelled", "timed_out": "failed", "": "failed", "neutral": "failed",
	} {
		t.Run(conclusion, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.conclusion = conclusion
			a := w.agent(nil)
			wait := run(t.Context(), a)
			if err := a.Started(t.Context(), Claims{}); err != nil {
				t.Fatal(err)
			}
			w.exited <- 0
			if err := wait(); (err == nil) != (conclusion != "") {
				t.Fatal(err)
			}
			f, err := bundle.ReadFile(bytes.NewReader(w.files["final.intoto.jsonl"]))
			if err != nil {
				t.Fatal(err)
			}
			final, err := statement.ParseFinal(f.Bundles[0].Payload())
			if err != nil {
				t.Fatal(err)
			}
			if got := final.Conditions; got.Outcome != want || got.ConclusionOrigin != statement.FromJob || w.saw("state "+want) != 1 {
				t.Errorf("outcome %q by %q, states %q, want %q by the job", got.Outcome, got.ConclusionOrigin, w.events, want)
			}
		})
	}
}

func TestPortsAreRequired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := New(w.agent(nil).config, Ports{}); err == nil {
		t.Error("an agent without ports was made")
	}
	if _, err := New(Config{}, Ports{}); err == nil {
		t.Error("an agent without a configuration was made")
	}
}
