// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A stand is a state that the model brings an agent into, where it then stays until it is let go.
type stand struct {
	hold  func(w *world)                      // makes the world stay there
	drive func(ctx context.Context, a *Agent) // brings the agent there, from listening
	state State
}

func stands() map[string]stand {
	ask := func(ctx context.Context, a *Agent) { _ = a.Started(ctx, Claims{}) }
	respond := func(ctx context.Context, a *Agent) {
		if a.Started(ctx, Claims{}) == nil {
			_, _ = a.Attest(ctx, Outputs{Paths: []string{"x"}})
		}
	}
	return map[string]stand{
		"boot":                {hold: func(w *world) { w.stay["quote"] = true }, state: Boot},
		"asking for a runner": {hold: func(w *world) { w.stay["register"] = true }, state: Registering},
		"starting":            {hold: func(w *world) { w.stay["start"] = true }, state: Registering},
		"not yet connected":   {hold: func(w *world) { w.see(SightOffline) }, state: Registering},
		"listening":           {state: Listening},
		"claimed":             {hold: func(w *world) { w.stay["identify"] = true }, drive: ask, state: Claimed},
		"running":             {drive: ask, state: Running},
		"responding":          {hold: func(w *world) { w.stay["hold"] = true }, drive: respond, state: Responding},
	}
}

// stimuli are everything that may come from outside.
func stimuli() map[string]func(ctx context.Context, a *Agent, w *world, stop func()) {
	boom := errors.New("boom")
	return map[string]func(context.Context, *Agent, *world, func()){
		"nothing": func(context.Context, *Agent, *world, func()) {},
		"hook":    func(ctx context.Context, a *Agent, _ *world, _ func()) { go func() { _ = a.Started(ctx, Claims{}) }() },
		"attest": func(ctx context.Context, a *Agent, _ *world, _ func()) {
			go func() { _, _ = a.Attest(ctx, Outputs{Paths: []string{"y"}}) }()
		},
		"out of turn":  func(_ context.Context, a *Agent, _ *world, _ func()) { a.Spoil(boom) },
		"drain":        func(_ context.Context, a *Agent, _ *world, _ func()) { a.Drain(); a.Drain() },
		"power button": func(_ context.Context, _ *Agent, _ *world, stop func()) { stop() },
		"exit 0":       func(_ context.Context, _ *Agent, w *world, _ func()) { w.exited <- 0 },
		"exit 1":       func(_ context.Context, _ *Agent, w *world, _ func()) { w.exited <- 1 },
		"exit 7":       func(_ context.Context, _ *Agent, w *world, _ func()) { w.exited <- 7 },
		"killed":       func(_ context.Context, _ *Agent, w *world, _ func()) { w.exited <- -1 },
		"gone":         func(_ context.Context, _ *Agent, w *world, _ func()) { w.see(SightGone) },
		"busy": func(_ context.Context, _ *Agent, w *world, _ func()) {
			w.see(SightBusy)
			w.fail(&w.removeErrs, ErrBusy, 8)
		},
		"offline":       func(_ context.Context, _ *Agent, w *world, _ func()) { w.see(SightOffline) },
		"strange sight": func(_ context.Context, _ *Agent, w *world, _ func()) { w.see("on holiday") },
		"GitHub down": func(_ context.Context, _ *Agent, w *world, _ func()) {
			w.change(func() { w.sightErr, w.conclusion = boom, "" })
			w.fail(&w.removeErrs, boom, 5)
			w.fail(&w.registerErrs, ErrTryAgain, 3)
		},
		"credential denied": func(_ context.Context, _ *Agent, w *world, _ func()) { w.fail(&w.registerErrs, ErrDenied, 1) },
		"drained while busy": func(_ context.Context, a *Agent, w *world, _ func()) {
			w.fail(&w.removeErrs, ErrBusy, 1)
			a.Drain()
		},
		"sink down": func(_ context.Context, _ *Agent, w *world, _ func()) {
			w.change(func() { w.hang = "final.intoto.jsonl" })
		},
		"logs unpacked": func(_ context.Context, _ *Agent, w *world, _ func()) { w.change(func() { w.packErr = boom }) },
	}
}

// TestModel brings a whole agent into every state and lets everything happen to it that may come from outside. Whatever
// it is: the life ends, in one ending, GitHub has no runner left, the sandbox is dead, there is no key, and no second job
// was taken.
func TestModel(t *testing.T) {
	t.Parallel()
	for name, st := range stands() {
		for what, stimulus := range stimuli() {
			t.Run(name+"/"+what, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { model(t, st, stimulus) })
			})
		}
	}
}

func model(t *testing.T, st stand, stimulus func(context.Context, *Agent, *world, func())) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	w := newWorld(t)
	w.letGo = make(chan struct{})
	if st.hold != nil {
		st.hold(w)
	}
	a := w.agent(nil)
	wait := run(ctx, a)
	if st.drive != nil {
		go st.drive(t.Context(), a)
	}
	time.Sleep(11 * time.Second) // twice looking at GitHub
	synctest.Wait()
	if got := a.State(); got != st.state {
		t.Fatalf("it stands in %s, want %s", got, st.state)
	}
	stimulus(t.Context(), a, w, stop)
	synctest.Wait()
	close(w.letGo)
	err := wait()

	endings := 0
	for _, s := range []State{Finished, Failed, Cancelled, Ghost, IdleExpired} {
		endings += w.saw("state " + string(s))
	}
	if a.State() != Removed || endings != 1 {
		t.Errorf("it is in %s after %d endings: %q", a.State(), endings, w.events)
	}
	if left := w.left(); len(left) > 0 {
		t.Errorf("GitHub still has %q", left)
	}
	if w.started && !w.dead || a.env != nil && a.env.key != nil {
		t.Error("the sandbox or the environment key is left")
	}
	if n := w.saw("state claimed"); n > 1 || w.saw("open") > n {
		t.Errorf("%d claims", n)
	}
	if _, err := a.Attest(t.Context(), Outputs{}); err == nil {
		t.Error("it attests after its end")
	}
	if good := w.saw("state finished") == 1; good && (err != nil && w.hang == "" && w.packErr == nil || a.exit != 0) {
		t.Errorf("finished with exit code %d, %v", a.exit, err)
	}
	checkJournal(t, w, a)
}

// checkJournal reads the journal as whoever is left would.
func checkJournal(t *testing.T, w *world, a *Agent) {
	t.Helper()
	entries, err := ReadJournal(strings.NewReader(w.journal.String()))
	if err != nil || string(a.journal.Bytes()) != w.journal.String() {
		t.Errorf("the journal: %v\n%s", err, w.journal.String())
	}
	if n := len(entries); n == 0 || entries[n-1].State != Removed {
		t.Errorf("the journal ends early:\n%s", w.journal.String())
	}
	names := []string{}
	for _, r := range Runners(entries) {
		names = append(names, r.Name)
	}
	if len(names) != w.saw("register") || len(slices.Compact(slices.Sorted(slices.Values(names)))) != len(names) {
		t.Errorf("the journal names %q for %d tries", names, w.saw("register"))
	}
}
