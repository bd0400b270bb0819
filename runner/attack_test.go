// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

// Each test here passes when its attack fails; mutants_test.go cuts out one check after the other and lets it succeed.

// TestAttackSecondLife starts the program a second time on the same machine.
func TestAttackSecondLife(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	f, err := CreateJournalFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if again, err := CreateJournalFile(path); !errors.Is(err, ErrUsed) {
		t.Errorf("a second life: %v", err)
		_ = again.Close()
	}
}

// TestAttackRewrittenJournal changes a line that others stand behind: then the runner that it named would be left.
func TestAttackRewrittenJournal(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	j, err := NewJournal(&b, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{j.Note("asking", &Named{Name: "kettle-ours"}), j.Enter(OnBoot, ""), j.Enter(OnFault, "")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	entries, err := ReadJournal(strings.NewReader(strings.Replace(b.String(), "kettle-ours", "kettle-else", 1)))
	if !errors.Is(err, ErrJournal) || len(entries) > 2 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

// TestAttackKeyBesideAJob looks for the environment key in the memory of a supervisor whose job runs.
func TestAttackKeyBesideAJob(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent(nil)
		wait := run(t.Context(), a)
		if err := a.Started(t.Context(), Claims{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if a.env.key != nil {
			t.Error("the environment key lives beside a job")
		}
		w.exited <- 0
		_ = wait()
	})
}

// TestAttackSecondHook: a job that starts another one's hook in the same environment.
func TestAttackSecondHook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent(nil)
		wait := run(t.Context(), a)
		if err := a.Started(t.Context(), Claims{}); err != nil {
			t.Fatal(err)
		}
		if err := a.Started(t.Context(), Claims{}); err == nil {
			t.Error("a second hook was answered as the first")
		}
		w.exited <- 0
		_ = wait()
	})
}

// TestAttackVoiceBesideTheHook: a step that runs before the sandbox stands still, and speaks at the door meanwhile.
func TestAttackVoiceBesideTheHook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent(nil)
		w.slow = func(context.Context) error { a.Spoil(errors.New("a voice")); return nil }
		wait := run(t.Context(), a)
		if err := a.Started(t.Context(), Claims{}); err == nil {
			t.Error("the job was dispatched beside another voice")
			w.exited <- 0
		}
		_ = wait()
	})
}

// TestAttackOtherMachine: a secure processor that quotes another machine after BOOT.
func TestAttackOtherMachine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.appraise = func(n int) (Self, error) {
			s := testSelf()
			if n > 2 { // behind the probe and BOOT
				s.Instance.ReportID = strings.Repeat("00", 32)
			}
			return s, nil
		}
		a := w.agent(nil)
		wait := run(t.Context(), a)
		if err := a.Started(t.Context(), Claims{}); err == nil {
			t.Error("the job was dispatched by another machine's quote")
			w.exited <- 0
		}
		_ = wait()
	})
}

// TestAttackJobWhileLeaving: a job reaches the runner while the environment is asked to end. GitHub, asked first to let go
// of the runner, says so, and the job is not lost.
func TestAttackJobWhileLeaving(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent(nil)
		wait := run(t.Context(), a)
		synctest.Wait()
		w.fail(&w.removeErrs, ErrBusy, 1)
		a.Drain()
		synctest.Wait()
		if err := a.Started(t.Context(), Claims{}); err != nil {
			t.Errorf("the job was lost: %v", err)
		} else {
			w.exited <- 0
		}
		_ = wait()
	})
}

// asked looks into the journal when GitHub is asked for a runner: whoever is left after a crash has nothing else.
type asked struct {
	*world
	named bool
}

func (r *asked) Register(_ context.Context, name string) (Registration, error) {
	r.mu.Lock()
	entries, err := ReadJournal(bytes.NewReader(r.journal.Bytes()))
	r.mu.Unlock()
	for _, reg := range Runners(entries) {
		r.named = r.named || err == nil && reg.Name == name
	}
	return Registration{}, ErrNotMade
}

// TestAttackCrashWhileAsking: the machine dies between GitHub's registering a runner and its answer.
func TestAttackCrashWhileAsking(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := ports(w, w)
	r := &asked{world: w}
	p.Registrar = r
	config := w.agent(nil).config
	w.journal.Reset() // of that agent
	a, err := New(config, p)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); err == nil || !r.named {
		t.Errorf("GitHub was asked for a runner of which the journal knows nothing: %v", err)
	}
}
