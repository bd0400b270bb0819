// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/channel"
)

// later is a fault that says when to come again.
type later struct{ wait time.Duration }

func (later) Error() string               { return "429" }
func (l later) RetryAfter() time.Duration { return l.wait }

func repeat(err error, n int) []error {
	out := make([]error, n)
	for i := range out {
		out[i] = err
	}
	return out
}

// TestFaults: whatever GitHub does, the runner goes, or the launcher says that it may be left.
func TestFaults(t *testing.T) {
	t.Parallel()
	remote := errors.New("502")
	tests := map[string]struct {
		faults      []error
		busy        int
		left        bool
		least, most time.Duration
	}{
		"none":                  {least: 10 * time.Second, most: 15 * time.Second},
		"once":                  {faults: repeat(remote, 1), most: 20 * time.Second},
		"every other time":      {faults: []error{nil, remote, nil, remote, nil, remote}, most: time.Minute},
		"for minutes":           {faults: repeat(remote, 20), least: 10 * time.Minute, most: 20 * time.Minute},
		"without end":           {faults: repeat(remote, 1000), left: true, least: 25 * time.Minute, most: 35 * time.Minute},
		"asks to wait":          {faults: []error{later{7 * time.Minute}}, least: 7 * time.Minute, most: 8 * time.Minute},
		"asks to wait too long": {faults: []error{later{24 * time.Hour}}, left: true, most: time.Second},
		"denied once":           {faults: []error{runner.ErrDenied}, most: time.Minute},
		"denied":                {faults: repeat(runner.ErrDenied, 1000), left: true, most: 10 * time.Second},
		"busy":                  {busy: 10, least: 4 * time.Minute, most: 10 * time.Minute},
		"busy without end":      {busy: 1000, left: true, least: 25 * time.Minute, most: 35 * time.Minute},
		"busy and broken":       {busy: 10, faults: []error{remote, nil, remote}, most: 12 * time.Minute},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				var ended time.Time
				record, err := b.run(func(g *guest) {
					g.hello()
					g.live(b.registry, 5)
					b.registry.busy[g.prefix+"-0000000a"], b.registry.faults, ended = tt.busy, tt.faults, time.Now()
					b.machine.powerOff()
				})
				if took := time.Since(ended); took < tt.least || took > tt.most {
					t.Errorf("it took %v", took)
				}
				if !tt.left {
					if err != nil || record.Removed != 1 {
						t.Fatalf("got %+v, %v", record, err)
					}
					b.registry.untouched(t)
					return
				}
				var left *LeftError
				if !errors.As(err, &left) || !errors.Is(err, ErrLeft) || left.Environment != b.folder.environment {
					t.Fatalf("got %v", err)
				}
				if got := series(t, b.reaper.Metrics, "kettle_unreaped_environments"+where+" "); got != "1" {
					t.Errorf("%s environments are left", got)
				}
				b.registry.faults, b.registry.busy = nil, nil
				found, err := b.reaper.Recover(t.Context(), b.state)
				if err != nil || len(found.Reaped) != 1 {
					t.Fatalf("afterwards: %+v, %v", found, err)
				}
				b.registry.untouched(t)
			})
		})
	}
}

// TestListedForEver: a GitHub that says to have removed a runner and lists it all the same is not believed.
func TestListedForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		name := b.folder.Prefix() + "-0000000a"
		b.registry.listed = func(int) { b.registry.last++; b.registry.runners[b.registry.last] = found(b.registry.last, name) }
		_, err := b.run(func(*guest) { b.machine.powerOff() })
		if !errors.Is(err, ErrLeft) || !errors.Is(err, errListed) || b.registry.calls > 200 {
			t.Errorf("after %d calls: %v", b.registry.calls, err)
		}
	})
}

// TestReapLate: an operator sees that reaping does not get on.
func TestReapLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.registry.faults = repeat(runner.ErrBusy, 3)
		_, err := b.run(func(*guest) {
			b.machine.powerOff()
			time.Sleep(2 * time.Second)
			if st := b.session.Status(); st.Step != Reaping || len(st.Alarms) != 1 || st.Alarms[0] != ReapLate {
				t.Errorf("status %+v", st)
			}
		})
		if st := b.session.Status(); err != nil || len(st.Alarms) != 0 {
			t.Errorf("afterwards %+v, %v", st, err)
		}
		if got := series(t, b.reaper.Metrics, `kettle_reap_faults_total{enterprise="",organization="acme",reason="busy",repository="widget"} `); got != "3" {
			t.Errorf("%q faults", got)
		}
	})
}

// leave makes the folder of a launcher that died, with a runner at GitHub.
func leave(t *testing.T, state string, r *registry) *Folder {
	t.Helper()
	f, err := CreateFolder(state, target())
	if err != nil {
		t.Fatal(err)
	}
	j, err := f.createJournal()
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t}
	for _, s := range life()[:4] {
		if _, err := j.append(g.line(s, &runner.Named{Name: f.Prefix() + "-0000000a"})); err != nil {
			t.Fatal(err)
		}
	}
	r.register(f.Prefix() + "-0000000a")
	if err := errors.Join(j.close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestRecover goes through what a crashed host can leave.
func TestRecover(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		spoil func(t *testing.T, path string)
		want  string // the fault in the record's journal, or of the environment that is left
		left  bool
	}{
		"whole":         {func(*testing.T, string) {}, "", false},
		"torn journal":  {func(t *testing.T, p string) { chop(t, filepath.Join(p, journalFile), 10) }, "not written to its end", false},
		"bent journal":  {func(t *testing.T, p string) { flip(t, filepath.Join(p, journalFile)) }, "line 2", false},
		"no journal":    {func(t *testing.T, p string) { remove(t, filepath.Join(p, journalFile)) }, "", false},
		"no launch":     {func(t *testing.T, p string) { remove(t, filepath.Join(p, launchFile)) }, "", false},
		"huge journal":  {func(t *testing.T, p string) { grow(t, filepath.Join(p, journalFile)) }, "more than", false},
		"torn launch":   {func(t *testing.T, p string) { chop(t, filepath.Join(p, launchFile), 10) }, "launch.json", true},
		"other's place": {func(t *testing.T, p string) { swap(t, filepath.Join(p, launchFile), "acme/widget", "acme/gadget") }, "acme/gadget", true},
		"other's name": {func(t *testing.T, p string) {
			swap(t, filepath.Join(p, launchFile), "kettle-"+filepath.Base(p), "kettle-ffffffffffffffff")
		}, "not of this environment", true},
		"link as journal": {func(t *testing.T, p string) {
			remove(t, filepath.Join(p, journalFile))
			if err := os.Symlink("/etc/passwd", filepath.Join(p, journalFile)); err != nil {
				t.Fatal(err)
			}
		}, "too many levels", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, state := newRegistry(), t.TempDir()
				f := leave(t, state, r)
				tt.spoil(t, f.path)
				reaper := &Reaper{Registry: r, Target: target(), Limits: DefaultLimits()}
				got, err := reaper.Recover(t.Context(), state)
				if err != nil {
					t.Fatal(err)
				}
				if tt.left {
					if len(got.Left) != 1 || got.Left[0].Environment != f.environment || got.Err() == nil || !strings.Contains(got.Err().Error(), tt.want) {
						t.Errorf("got %+v", got)
					}
					return
				}
				if len(got.Reaped) != 1 || got.Reaped[0].Removed != 1 || !strings.Contains(got.Reaped[0].Journal.Fault, tt.want) || got.Err() != nil {
					t.Errorf("got %+v: %v", got, got.Err())
				}
				r.untouched(t)
			})
		})
	}
}

func chop(t *testing.T, path string, n int64) {
	t.Helper()
	info, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, info.Size()-n)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, path string) {
	t.Helper()
	swap(t, path, "registering", "listening")
}

func swap(t *testing.T, path, old, replacement string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, bytes.ReplaceAll(data, []byte(old), []byte(replacement)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func grow(t *testing.T, path string) {
	t.Helper()
	if err := os.Truncate(path, maxFile+1); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// TestSurvey says how environments stand from their files alone.
func TestSurvey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, state := newRegistry(), t.TempDir()
		if got, err := Survey(filepath.Join(state, "not")); len(got) != 0 || err != nil {
			t.Errorf("no folder: %v, %v", got, err)
		}
		dead := leave(t, state, r)
		living, err := CreateFolder(state, target())
		if err != nil {
			t.Fatal(err)
		}
		defer living.Close()
		for _, name := range []string{"lost+found", "0123456789ABCDEF"} {
			if err := os.Mkdir(filepath.Join(state, name), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		step := func() map[string]Step {
			all, err := Survey(state)
			if err != nil {
				t.Fatal(err)
			}
			out := map[string]Step{}
			for _, s := range all {
				out[s.Environment] = s.Step
				if text, err := json.Marshal(s); err != nil {
					t.Error(err)
				} else if _, err := ParseStatus(text); err != nil {
					t.Errorf("%s: %v", text, err)
				}
			}
			return out
		}
		if got := step(); len(got) != 2 || got[dead.environment] != Left || got[living.environment] != Following {
			t.Errorf("got %v", got)
		}
		if _, err := (&Reaper{Registry: r, Target: target(), Limits: DefaultLimits()}).Recover(t.Context(), state); err != nil {
			t.Fatal(err)
		}
		if got := step(); got[dead.environment] != Reaped || got[living.environment] != Following {
			t.Errorf("got %v", got)
		}
		if err := os.WriteFile(filepath.Join(dead.path, recordFile), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := step(); got[dead.environment] != Left {
			t.Errorf("a record that says nothing: %v", got)
		}
	})
}

// FuzzJournal: no bytes make a journal that names a foreign runner, or more than is allowed.
func FuzzJournal(f *testing.F) {
	g := &guest{}
	first := g.line(runner.Boot, nil) + "\n"
	f.Add([]byte(first))
	f.Add([]byte(first + g.line(runner.Registering, &runner.Named{ID: 3, Name: "kettle-0123456789abcdef-00"}) + "\n"))
	f.Add([]byte(first[:20]))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		folder := &Folder{path: dir, environment: "0123456789abcdef"}
		if err := os.WriteFile(filepath.Join(dir, journalFile), data, 0o600); err != nil {
			t.Fatal(err)
		}
		j := folder.readJournal()
		if j.Lines > maxLines || len(j.Named) > maxNamed || !printable(j.Fault) {
			t.Fatalf("got %+v", j)
		}
		for _, n := range j.Named {
			if !strings.HasPrefix(n.Name, "kettle-0123456789abcdef-") || !printable(n.Name) {
				t.Fatalf("named %q", n.Name)
			}
		}
		if j.Lines == 0 != (j.Head == binding.Digest{}) {
			t.Fatalf("%d lines, head %s", j.Lines, j.Head)
		}
	})
}

func printable(s string) bool { return channel.Printable(s, len(s)) == s }
