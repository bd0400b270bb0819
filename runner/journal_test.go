// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kettle/attest/internal/secret"
)

func at() time.Time { return time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC) }

// newJournalFile makes a journal with these events.
func newJournalFile(t *testing.T, events ...Event) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "journal.jsonl")
	f, err := CreateJournalFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	j, err := NewJournal(f, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if err := j.Enter(e, ""); err != nil {
			t.Fatal(err)
		}
		if e != OnBoot {
			continue
		}
		for _, n := range []Named{{Name: "kettle-1"}, {Name: "kettle-2"}, {ID: 7, Name: "kettle-2"}} {
			if err := j.Note("", &n); err != nil {
				t.Fatal(err)
			}
		}
	}
	return path
}

// TestJournalGolden: whoever reads journals of the past needs this form.
func TestJournalGolden(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(newJournalFile(t, OnBoot, OnFault, OnRemove))
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile("testdata/journal.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, golden) {
		t.Errorf("got\n%swant\n%s", data, golden)
	}
}

func TestReadJournal(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/journal.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	good, lines := string(data), strings.SplitAfter(strings.TrimSuffix(string(data), "\n"), "\n")
	tests := map[string]struct {
		text  string
		whole int // entries that are returned
		ok    bool
	}{
		"whole":               {good, 7, true},
		"empty":               {"", 0, true},
		"torn":                {good[:len(good)-1], 6, true},
		"torn at once":        {good[:10], 0, true},
		"a line is missing":   {lines[0] + lines[2], 1, false},
		"a line was altered":  {strings.Replace(good, "kettle-1", "kettle-3", 1), 3, false},
		"two lines swapped":   {lines[0] + lines[2] + lines[1], 1, false},
		"a line twice":        {lines[0] + lines[0], 1, false},
		"another beginning":   {lines[1], 0, false},
		"unknown key":         {strings.Replace(lines[0], `"seq"`, `"x":1,"seq"`, 1), 0, false},
		"no JSON":             {lines[0] + "hello\n", 1, false},
		"empty line":          {lines[0] + "\n", 1, false},
		"unknown first state": {strings.Replace(lines[0], "boot", "off", 1), 0, false},
		"a nameless runner":   {strings.Replace(lines[0], `"previous"`, `"runner":{"name":""},"previous"`, 1), 0, false},
		"a long one":          {strings.Repeat("x", maxJournal+1), 0, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entries, err := ReadJournal(strings.NewReader(tc.text))
			if len(entries) != tc.whole || (err == nil) != tc.ok || err != nil && !errors.Is(err, ErrJournal) {
				t.Errorf("%d entries, %v", len(entries), err)
			}
		})
	}
}

// TestAttackJournalStates: a chain that is whole does not make a life that cannot be.
func TestAttackJournalStates(t *testing.T) {
	t.Parallel()
	for name, states := range map[string][]State{
		"a second job": {Registering, Listening, Claimed, Running, Claimed}, "a life after the end": {Failed, Removed, Registering},
		"running without a claim": {Registering, Listening, Running}, "no such state": {"off"},
	} {
		var b bytes.Buffer
		j, err := NewJournal(&b, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range states {
			if err := j.write(Entry{State: s}); err != nil {
				t.Fatal(err)
			}
		}
		if entries, err := ReadJournal(&b); !errors.Is(err, ErrJournal) || len(entries) == len(states)+1 {
			t.Errorf("%s: %d entries, %v", name, len(entries), err)
		}
	}
}

// deadDisk takes some writes and then no more.
type deadDisk int

func (d *deadDisk) Write(p []byte) (int, error) {
	if *d--; *d < 0 {
		return 0, errors.New("no space left on device")
	}
	return len(p), nil
}

// halfDisk writes half of the third line, and then works again.
type halfDisk struct {
	bytes.Buffer
	writes int
}

func (d *halfDisk) Write(p []byte) (int, error) {
	if d.writes++; d.writes == 3 {
		n, _ := d.Buffer.Write(p[:len(p)/2])
		return n, errors.New("no space left on device")
	}
	return d.Buffer.Write(p)
}

// TestJournalStaysBroken: nothing is written behind half a line, so that what is whole can be read.
func TestJournalStaysBroken(t *testing.T) {
	t.Parallel()
	d := &halfDisk{}
	j, err := NewJournal(d, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range []Event{OnBoot, OnConnect, OnFault} {
		if err := j.Enter(e, ""); (err == nil) != (i == 0) {
			t.Errorf("%s: %v", e, err)
		}
	}
	if entries, err := ReadJournal(d); err != nil || len(entries) != 2 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

// TestReasonsAreLines: whatever a reason holds, its line can be sent and printed.
func TestReasonsAreLines(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	j, err := NewJournal(&b, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Note(strings.Repeat("\x1b[2J\u202e\n\x00", 5000), nil); err != nil {
		t.Fatal(err)
	}
	line := strings.Split(b.String(), "\n")[1]
	if len(line) > 8<<10 || strings.ContainsAny(line, "\x1b\x00\u202e") || strings.Contains(line, `\u`) {
		t.Errorf("%d bytes: %.80q", len(line), line)
	}
	if _, err := ReadJournal(strings.NewReader(b.String())); err != nil {
		t.Error(err)
	}
}

// TestJournalLeads: what cannot be written down does not happen.
func TestJournalLeads(t *testing.T) {
	t.Parallel()
	d := deadDisk(2)
	j, err := NewJournal(&d, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Enter(OnBoot, ""); err != nil {
		t.Fatal(err)
	}
	if err := j.Enter(OnConnect, ""); err == nil {
		t.Error("a transition without its line")
	}
	if s, _ := j.State(); s != Registering {
		t.Errorf("state %s", s)
	}
}

func TestAgentWithoutJournalRegistersNothing(t *testing.T) {
	t.Parallel()
	for writes := range 3 {
		w := newWorld(t)
		d := deadDisk(writes)
		a, err := New(w.agent(nil).config, ports(w, &d))
		if err == nil {
			err = a.Run(t.Context())
		}
		if err == nil || w.saw("register") > 0 {
			t.Errorf("after %d lines: %v, registered %d times", writes, err, w.saw("register"))
		}
	}
}

// gone is a registrar that knows some runners and fails some times.
type gone struct {
	fails   int
	removed []string
}

func (g *gone) Register(context.Context, string) (Registration, error) {
	return Registration{}, ErrDenied
}
func (g *gone) Observe(context.Context, Registration) (Sight, error) { return SightGone, nil }
func (g *gone) Remove(_ context.Context, r Registration) error {
	if g.fails--; g.fails >= 0 {
		return ErrBusy
	}
	g.removed = append(g.removed, r.Name)
	return nil
}

// TestRecover interrupts a life in every state: the runners are removed, the journal ends, and the environment is never
// used again.
func TestRecover(t *testing.T) {
	t.Parallel()
	lives := map[State][]Event{
		Boot: {}, Registering: {OnBoot}, Listening: {OnBoot, OnConnect}, Claimed: {OnBoot, OnConnect, OnHook},
		Running: {OnBoot, OnConnect, OnHook, OnBind}, Responding: {OnBoot, OnConnect, OnHook, OnBind, OnAsk},
		Finished: {OnBoot, OnConnect, OnHook, OnBind, OnSuccess}, Failed: {OnBoot, OnFault},
		Cancelled: {OnBoot, OnConnect, OnHook, OnBind, OnCancel}, Ghost: {OnBoot, OnConnect, OnLoss},
		IdleExpired: {OnBoot, OnConnect, OnExpiry}, Removed: {OnBoot, OnFault, OnRemove},
	}
	for _, s := range allStates {
		for _, torn := range []string{"", `{"seq":99,"at":"20`} {
			t.Run(string(s)+torn, func(t *testing.T) {
				t.Parallel()
				path := newJournalFile(t, lives[s]...)
				f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteString(torn); err != nil || f.Close() != nil {
					t.Fatal(err)
				}
				synctest.Test(t, func(t *testing.T) { recovered(t, path, s) })
			})
		}
	}
}

func recovered(t *testing.T, path string, s State) {
	g := &gone{fails: 2}
	if err := Recover(t.Context(), path, g, at); !errors.Is(err, ErrUsed) {
		t.Fatalf("a used environment: %v", err)
	}
	want := []string{"kettle-1", "kettle-2"}
	if s == Removed || s == Boot {
		want = nil
	}
	slices.Sort(g.removed)
	if !slices.Equal(g.removed, want) {
		t.Errorf("removed %q, want %q", g.removed, want)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := ReadJournal(bytes.NewReader(data))
	if err != nil || entries[len(entries)-1].State != Removed {
		t.Errorf("the journal: %v\n%s", err, data)
	}
	if err := Recover(t.Context(), path, &gone{}, at); !errors.Is(err, ErrUsed) {
		t.Errorf("once more: %v", err)
	}
	if _, err := CreateJournalFile(path); !errors.Is(err, ErrUsed) {
		t.Errorf("a second life: %v", err)
	}
}

func TestRecoverRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := newJournalFile(t, OnBoot)
		if err := Recover(t.Context(), path, &gone{fails: 1000}, at); !errors.Is(err, ErrUsed) || !errors.Is(err, ErrBusy) {
			t.Errorf("GitHub never lets go: %v", err)
		}
		data, err := os.ReadFile(path)
		if err != nil || bytes.Contains(data, []byte(`"removed"`)) {
			t.Errorf("the journal says removed, %v:\n%s", err, data)
		}
		if err := os.WriteFile(path, append(data, []byte("rubbish\n")...), 0o600); err != nil {
			t.Fatal(err)
		}
		g := &gone{}
		if err := Recover(t.Context(), path, g, at); !errors.Is(err, ErrUsed) || !errors.Is(err, ErrJournal) || len(g.removed) != 2 {
			t.Errorf("a journal with rubbish: %v, removed %q", err, g.removed)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Recover(t.Context(), path, g, at); !errors.Is(err, ErrUsed) {
			t.Errorf("an empty journal: %v", err)
		}
		if err := Recover(t.Context(), filepath.Join(t.TempDir(), "none"), g, at); err != nil {
			t.Errorf("no journal: %v", err)
		}
	})
}

func FuzzReadJournal(f *testing.F) {
	data, err := os.ReadFile("testdata/journal.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := ReadJournal(bytes.NewReader(data))
		if err != nil && !errors.Is(err, ErrJournal) {
			t.Fatal(err)
		}
		for i, e := range entries {
			if e.Seq != i || i > 0 && entries[i-1].State.Ended() && !e.State.Ended() {
				t.Fatalf("entry %d: %+v", i, e)
			}
		}
	})
}

// later is an error that says when to come again.
type later struct{ d time.Duration }

func (later) Error() string               { return "secondary rate limit" }
func (l later) RetryAfter() time.Duration { return l.d }
func (later) Is(target error) bool        { return target == ErrTryAgain }

func TestRegistering(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		errs  []error
		tries int
		took  time.Duration
		want  error
		alarm Alarm
	}{
		"name taken, unknown, then good": {[]error{ErrTryAgain, ErrTryAgain}, 3, 3 * time.Second, nil, ""},
		"told when":                      {[]error{later{30 * time.Second}}, 2, 30 * time.Second, nil, ""},
		"told too late":                  {[]error{later{time.Hour}}, 1, time.Minute, context.DeadlineExceeded, ""},
		"denied":                         {[]error{errors.Join(ErrDenied, ErrNotMade)}, 1, 0, ErrDenied, AlarmDenied},
		"denied while tidying up":        {[]error{errors.Join(ErrTryAgain, ErrDenied)}, 1, 0, ErrDenied, AlarmDenied},
		"never":                          {slices.Repeat([]error{ErrTryAgain}, 100), 8, time.Minute, context.DeadlineExceeded, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.registerErrs = tc.errs
				a := w.agent(nil)
				before := time.Now()
				ctx, stop := context.WithCancel(t.Context())
				wait := run(ctx, a)
				time.Sleep(tc.took)
				synctest.Wait()
				if n := w.saw("register"); n != tc.tries {
					t.Errorf("%d tries after %s, want %d", n, time.Since(before), tc.tries)
				}
				stop()
				if err := wait(); tc.want != nil && !errors.Is(err, tc.want) {
					t.Errorf("got %v, want %v", err, tc.want)
				}
				if left := w.left(); len(left) > 0 {
					t.Errorf("GitHub still has %q", left)
				}
				if tc.alarm != "" && !slices.Contains(a.Status().Alarms, tc.alarm) {
					t.Errorf("alarms %q", a.Status().Alarms)
				}
			})
		})
	}
}

// hopeless denies everything, after it has registered a runner or not.
type hopeless struct {
	*world
	err error
}

func (h hopeless) Register(ctx context.Context, name string) (Registration, error) {
	_, _ = h.world.Register(ctx, name)
	return Registration{}, h.err
}

func (h hopeless) Remove(context.Context, Registration) error { h.note("remove"); return ErrDenied }

// TestAttackForgottenName: only GitHub's own answer that it made no runner lets a name be forgotten.
func TestAttackForgottenName(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err   error
		state State
	}{
		"made none":         {errors.Join(ErrDenied, ErrNotMade), Removed},
		"denied later":      {errors.Join(errors.New("a foreign configuration"), ErrDenied), Failed},
		"unknown, denied":   {errors.Join(ErrTryAgain, ErrDenied), Failed},
		"of another manner": {errors.New("garbled"), Failed},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			p := ports(w, w)
			p.Registrar = hopeless{w, tc.err}
			a, err := New(w.agent(nil).config, p)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Run(t.Context()); err == nil || a.State() != tc.state || w.saw("register") != 1 {
				t.Errorf("%s: state %s after %d tries, %v", name, a.State(), w.saw("register"), err)
			}
			if left := tc.state == Failed; left != slices.Contains(a.Status().Alarms, AlarmDeregister) || left != (w.saw("remove") > 0) {
				t.Errorf("%s: alarms %q, %d removals", name, a.Status().Alarms, w.saw("remove"))
			}
		})
	}
}

// strange registers a runner of another name.
type strange struct{ *world }

func (s strange) Register(ctx context.Context, name string) (Registration, error) {
	r, err := s.world.Register(ctx, name)
	r.Name, r.JIT = "another", secret.New("jit")
	return r, err
}

func TestAttackAnotherName(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := ports(w, w)
		p.Registrar = strange{w}
		a, err := New(w.agent(nil).config, p)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Run(t.Context()); err == nil || w.saw("start") > 0 || len(w.left()) > 0 {
			t.Errorf("a runner of another name: %v, left %q", err, w.left())
		}
	})
}

// numberless registers a runner and does not say which.
type numberless struct{ *world }

func (n numberless) Register(ctx context.Context, name string) (Registration, error) {
	r, err := n.world.Register(ctx, name)
	r.ID = 0
	return r, err
}

func TestAttackNoNumber(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := ports(w, w)
		p.Registrar = numberless{w}
		a, err := New(w.agent(nil).config, p)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Run(t.Context()); err == nil || w.saw("start") > 0 || len(w.left()) > 0 {
			t.Errorf("a runner without an id: %v, left %q", err, w.left())
		}
	})
}

// TestLeftBehind: GitHub does not let go of the runner. The journal does not say removed, and the operator is told.
func TestLeftBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.fail(&w.removeErrs, ErrBusy, 1000)
		a := w.agent(nil)
		wait := run(t.Context(), a)
		synctest.Wait()
		w.exited <- 1
		if err := wait(); !errors.Is(err, ErrBusy) {
			t.Errorf("got %v", err)
		}
		if a.State() != Failed || !slices.Contains(a.Status().Alarms, AlarmDeregister) {
			t.Errorf("state %s, alarms %q", a.State(), a.Status().Alarms)
		}
		if journal := string(w.files["journal.jsonl"]); !strings.Contains(journal, "a runner may be left") {
			t.Errorf("journal:\n%s", journal)
		}
	})
}
