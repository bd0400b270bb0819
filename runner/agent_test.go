// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kettle/attest/attest/binding"
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
	for _, name := range []string{"boot.intoto.jsonl", "dispatch.intoto.jsonl", "response-1.intoto.jsonl", "response-2.intoto.jsonl", "journal.jsonl"} {
		if !slices.Contains(w.names(), name) {
			t.Errorf("record lacks %s", name)
		}
	}
	if w.register != a.env.log.Register() {
		t.Error("the register is not what the event log replays to")
	}
	want := []string{
		"phase boot", "phase register", "register", "start", "phase listening", "phase dispatch", "identify", "allow",
		"phase run", "phase respond", "freeze", "thaw", "phase run", "phase respond", "freeze", "thaw", "phase run",
		"kill", "remove", "phase finish", "kill", "phase off",
	}
	if !slices.Equal(w.events, want) {
		t.Errorf("events:\n%q\nwant:\n%q", w.events, want)
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
		final  bool
	}{
		"registration fails":     {world: func(w *world) { w.registerErr = boom }, want: boom},
		"sandbox does not start": {world: func(w *world) { w.startErr = boom }, want: boom},
		"runner program ends without a job": {
			job:  func(_ *testing.T, _ context.Context, _ *Agent, w *world) { w.exited <- 1 },
			want: ErrNotDispatched,
		},
		"hook is silent": {config: func(c *Config) { c.Idle = 10 * time.Millisecond }, want: ErrNotDispatched},
		"job cannot be identified": {
			world: func(w *world) { w.identifyErr = policyRefusal() }, want: refusal.ErrPolicy,
			job: func(t *testing.T, ctx context.Context, a *Agent, _ *world) {
				if err := a.Started(ctx, Claims{}); !errors.Is(err, refusal.ErrNotVerified) {
					t.Errorf("hook was answered with %v", err)
				}
			},
		},
		"policy denies": {
			world: func(w *world) { w.allowErr = policyRefusal() }, want: refusal.ErrPolicy,
			job: func(t *testing.T, ctx context.Context, a *Agent, _ *world) {
				if err := a.Started(ctx, Claims{}); !errors.Is(err, refusal.ErrPolicy) {
					t.Errorf("hook was answered with %v", err)
				}
			},
		},
		"secure processor fails at dispatch": {
			world: func(w *world) { w.quoteErr = boom }, want: boom,
			job: func(t *testing.T, ctx context.Context, a *Agent, _ *world) {
				if err := a.Started(ctx, Claims{}); !errors.Is(err, boom) {
					t.Errorf("hook was answered with %v", err)
				}
			},
		},
		"hook speaks twice": {
			final: true,
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
			want: ErrNotDispatched,
		},
		"bad output is refused and the job goes on": {
			world: func(w *world) { w.hashErr = policyRefusal() }, final: true,
			job: func(t *testing.T, ctx context.Context, a *Agent, w *world) {
				if err := a.Started(ctx, Claims{}); err != nil {
					t.Fatal(err)
				}
				if _, err := a.Attest(ctx, Outputs{Paths: []string{"x"}}); !errors.Is(err, refusal.ErrPolicy) {
					t.Errorf("attest was answered with %v", err)
				}
				if a.Phase() != Running {
					t.Errorf("phase %s", a.Phase())
				}
				w.exited <- 0
			},
		},
		"sandbox does not freeze": {
			world: func(w *world) { w.freezeErr = boom }, want: boom, final: true,
			job: attestOnce(boom),
		},
		"sandbox does not thaw": {
			world: func(w *world) { w.thawErr = boom }, want: boom, final: true,
			job: attestOnce(boom),
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
			wait := run(t.Context(), a)
			if tc.job != nil {
				tc.job(t, t.Context(), a, w)
			}
			err := wait()
			if tc.want == nil && err != nil || tc.want != nil && (err == nil || tc.want != errAny && !errors.Is(err, tc.want)) { //nolint:errorlint // errAny is a marker.
				t.Errorf("Run: %v, want %v", err, tc.want)
			}
			if w.saw("register") != 1 || w.registerErr == nil && w.saw("remove") != 1 {
				t.Errorf("registered %d times, removed %d times", w.saw("register"), w.saw("remove"))
			}
			if w.registerErr == nil && w.killErr == nil && !w.dead {
				t.Error("the sandbox lives")
			}
			if got := slices.Contains(w.names(), "final.intoto.jsonl"); got != tc.final {
				t.Errorf("final statement: %v, want %v", got, tc.final)
			}
			if a.Phase() != Off || a.env.key != nil {
				t.Errorf("phase %s, environment key kept: %v", a.Phase(), a.env.key != nil)
			}
			if _, err := a.Attest(t.Context(), Outputs{}); !errors.Is(err, refusal.ErrPolicy) {
				t.Errorf("attest after the end: %v", err)
			}
		})
	}
}

// errAny marks a Run that must fail, whatever the error is.
var errAny = errors.New("any")

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
			if err := wait(); err != nil {
				t.Fatal(err)
			}
			got := a.conclude(t.Context())
			if got.Outcome != want || got.ConclusionOrigin != statement.FromJob {
				t.Errorf("outcome %q by %q, want %q by the job", got.Outcome, got.ConclusionOrigin, want)
			}
		})
	}
}

func TestTransitions(t *testing.T) {
	t.Parallel()
	phases := []Phase{Boot, Register, Listening, Dispatch, Running, Respond, Finish, Off}
	allowed := map[[2]Phase]bool{
		{Boot, Register}: true, {Register, Listening}: true, {Listening, Dispatch}: true, {Dispatch, Running}: true,
		{Running, Respond}: true, {Respond, Running}: true, {Finish, Off}: true,
	}
	for _, p := range phases[:6] {
		allowed[[2]Phase{p, Finish}] = true
	}
	for _, from := range phases {
		for _, to := range phases {
			err := from.Next(to)
			if got := err == nil; got != allowed[[2]Phase{from, to}] {
				t.Errorf("%s to %s: allowed %v", from, to, got)
			}
			if e := (*TransitionError)(nil); err != nil && !errors.As(err, &e) {
				t.Errorf("%s to %s: %T", from, to, err)
			}
		}
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
