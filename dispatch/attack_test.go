// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/channel"
)

// TestAttackForeignNames: a VM whose journal and status name other people's runners has none of them removed.
func TestAttackForeignNames(t *testing.T) {
	t.Parallel()
	for name, foreign := range map[string]func(g *guest) runner.Named{
		"someone else's":       func(*guest) runner.Named { return runner.Named{ID: 21, Name: "someone-else"} },
		"another VM's":         func(*guest) runner.Named { return runner.Named{ID: 22, Name: "kettle-ffffffffffffffff-00000001"} },
		"an id under own name": func(g *guest) runner.Named { return runner.Named{ID: 21, Name: g.prefix + "-0000000a"} },
		"an id, own new name":  func(g *guest) runner.Named { return runner.Named{ID: 21, Name: g.prefix + "-0000000b"} },
		"own prefix, longer":   func(g *guest) runner.Named { return runner.Named{ID: 21, Name: g.prefix + "0-0000000a"} },
		"prefix alone":         func(g *guest) runner.Named { return runner.Named{ID: 21, Name: g.prefix + "-"} },
		"prefix in the middle": func(g *guest) runner.Named { return runner.Named{ID: 21, Name: "x" + g.prefix + "-0000000a"} },
		"a query":              func(g *guest) runner.Named { return runner.Named{ID: 21, Name: g.prefix + "-&name=someone-else"} },
		"no name":              func(*guest) runner.Named { return runner.Named{ID: 21} },
		"a path":               func(g *guest) runner.Named { return runner.Named{ID: 21, Name: g.prefix + "-/../someone-else"} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				record, err := b.run(func(g *guest) {
					g.hello()
					g.live(b.registry, 3)
					named := foreign(g)
					g.enter(runner.Listening, &named)
					if named.Name != "" && !strings.ContainsAny(named.Name, "&/") {
						g.say(channel.Status{State: "listening", Runner: channel.Runner{ID: named.ID, Name: named.Name}})
					}
					synctest.Wait()
					if st := b.session.Status(); st.Runner == nil || !owned(b.folder.Prefix(), st.Runner.Name) {
						t.Errorf("the launcher shows %+v", st.Runner)
					}
					b.machine.powerOff()
				})
				if err != nil {
					t.Fatal(err)
				}
				b.registry.untouched(t)
				if record.Removed != 1 || len(record.Found) != 1 || record.Found[0].ID == 21 {
					t.Errorf("got %+v", record)
				}
				for id, by := range b.registry.by {
					if id == 21 || id == 22 {
						t.Errorf("runner %d was removed as %s", id, by)
					}
				}
			})
		})
	}
}

// TestAttackChosenPrefix: a VM cannot choose the prefix that it is reaped by, nor another one's.
func TestAttackChosenPrefix(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		record, err := b.run(func(g *guest) {
			g.hello()
			g.prefix = "kettle-ffffffffffffffff" // it takes another VM's
			g.live(b.registry, 4)
			b.machine.powerOff()
		})
		if err != nil {
			t.Fatal(err)
		}
		if record.Removed != 0 || record.Journal.Foreign != 4 || len(record.Journal.Named) != 0 {
			t.Errorf("got %+v", record)
		}
		if !slices.Contains(b.registry.names(), "kettle-ffffffffffffffff-00000001") {
			t.Error("the other VM lost its runner")
		}
	})
}

// TestAttackJournal: a journal that is not the next line of its chain ends the VM, and none of it is kept.
func TestAttackJournal(t *testing.T) {
	t.Parallel()
	entry := func(e runner.Entry) string {
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return string(line)
	}
	for name, forged := range map[string]func(g *guest) string{
		"line left out":     func(g *guest) string { g.line(runner.Claimed, nil); return g.line(runner.Running, nil) },
		"other past":        func(g *guest) string { g.last = binding.Digest{1}; return g.line(runner.Claimed, nil) },
		"no past":           func(g *guest) string { g.last = binding.Digest{}; return g.line(runner.Claimed, nil) },
		"line again":        func(g *guest) string { g.seq--; return g.line(runner.Listening, nil) },
		"negative seq":      func(g *guest) string { return entry(runner.Entry{Seq: -1, Previous: g.last}) },
		"not JSON":          func(*guest) string { return "rm -rf" },
		"two objects":       func(g *guest) string { return g.line(runner.Claimed, nil) + "{}" },
		"unknown field":     func(g *guest) string { return strings.Replace(g.line(runner.Claimed, nil), "{", `{"x":1,`, 1) },
		"a key in two ways": func(g *guest) string { return strings.Replace(g.line(runner.Claimed, nil), "{", `{"Seq":0,`, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				record, err := b.run(func(g *guest) {
					g.hello()
					g.live(b.registry, 3)
					g.say(channel.Journal{Seq: 4, Line: forged(g)})
				})
				if err != nil || record.How != Broken || record.Journal.Lines != 4 || record.Journal.Fault != "" {
					t.Fatalf("got %+v, %v", record, err)
				}
				b.registry.untouched(t)
			})
		})
	}
}

// TestAttackFlood: a VM that writes without end is ended, and costs the host no more than a bounded file.
func TestAttackFlood(t *testing.T) {
	t.Parallel()
	for name, reason := range map[string]string{"short lines": "", "long lines": strings.Repeat("x", channel.MaxLine-400)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				record, err := b.run(func(g *guest) {
					g.hello()
					for i := range 2 * maxLines {
						e := runner.Entry{Seq: i, State: runner.Running, Reason: reason, Previous: g.last}
						e.Runner = &runner.Named{Name: g.prefix + "-" + strings.Repeat("a", i%40+1)}
						line, _ := json.Marshal(e)
						g.last = binding.Sum(line)
						if g.Send(g.ctx, channel.Journal{Seq: int64(i), Line: string(line)}) != nil {
							return
						}
					}
					t.Error("it was let go on")
				})
				if err != nil || record.How != Broken {
					t.Fatalf("got %+v, %v", record, err)
				}
				b.registry.untouched(t)
				if st := b.session.Status(); st.Lines > maxLines {
					t.Errorf("%d lines", st.Lines)
				}
			})
		})
	}
}

// TestAttackSlowLoris: half a message holds nobody for ever.
func TestAttackSlowLoris(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		record, err := b.run(func(g *guest) {
			g.hello()
			g.live(b.registry, 3)
			for { // a byte a minute
				if _, err := b.machine.inside.Write([]byte{0}); err != nil {
					return
				}
				time.Sleep(time.Minute)
			}
		})
		if err != nil || (record.How != Silent && record.How != Broken) {
			t.Errorf("got %+v, %v", record, err)
		}
		b.registry.untouched(t)
	})
}

// TestAttackCalmsItsReaper: a VM that claims to have removed its runner, and has not, is reaped like any other.
func TestAttackCalmsItsReaper(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		record, err := b.run(func(g *guest) {
			g.hello()
			g.live(b.registry, 3)
			g.enter(runner.IdleExpired, nil)
			g.enter(runner.Removed, nil)
			g.say(channel.End{Outcome: "Everything is removed, on my honour."})
			b.machine.powerOff()
		})
		if err != nil || record.Removed != 1 {
			t.Errorf("got %+v, %v", record, err)
		}
		b.registry.untouched(t)
	})
}

// TestAttackTerminal: what a VM says cannot drive an operator's terminal or forge a line of the record.
func TestAttackTerminal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		record, err := b.run(func(g *guest) {
			g.hello()
			line := []byte(`{"v":2,"type":"end","outcome":"\u001b]0;owned\u0007"}`)
			_, _ = b.machine.inside.Write(append([]byte{0, 0, 0, byte(len(line))}, line...))
		})
		if err != nil || record.How != Broken || strings.ContainsAny(record.Outcome, "\x1b\a\n") {
			t.Errorf("got %+v, %v", record, err)
		}
	})
}

// TestAttackStateFolder: a state folder that others may write to is not worked on: they could plant a journal.
func TestAttackStateFolder(t *testing.T) {
	t.Parallel()
	r := &Reaper{Registry: newRegistry(), Target: target(), Limits: DefaultLimits()}
	for name, plant := range map[string]func(t *testing.T, state string){
		"writable by others": func(t *testing.T, state string) {
			if err := os.Chmod(state, 0o777); err != nil { //nolint:gosec // the attack.
				t.Fatal(err)
			}
		},
		"a link": func(t *testing.T, state string) {
			if err := errors.Join(os.Remove(state), os.Symlink(t.TempDir(), state)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			state := filepath.Join(t.TempDir(), "state")
			if err := os.Mkdir(state, 0o700); err != nil {
				t.Fatal(err)
			}
			plant(t, state)
			if _, err := CreateFolder(state, target()); err == nil {
				t.Error("a folder was made")
			}
			if _, err := r.Recover(t.Context(), state); err == nil {
				t.Error("it was recovered")
			}
		})
	}
}
