// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/channel"
)

// TestEndsInEveryState: whatever state the VM ends in, and however, GitHub lists no runner of it afterwards, and the host
// has every line of its journal.
func TestEndsInEveryState(t *testing.T) {
	t.Parallel()
	ways := map[How]func(b *bench, g *guest){
		Ended:  func(b *bench, g *guest) { g.say(channel.End{Outcome: "The job succeeded."}); b.machine.powerOff() },
		Died:   func(b *bench, _ *guest) { b.machine.powerOff() },
		Killed: func(b *bench, _ *guest) { synctest.Wait(); b.session.Kill() },
		Silent: func(*bench, *guest) {},
		Broken: func(b *bench, _ *guest) { _, _ = b.machine.inside.Write([]byte{0xff, 0xff, 0xff, 0xff}) },
	}
	for how, end := range ways {
		for n := range len(life()) + 1 {
			name := string(how) + " before hello"
			if n > 0 {
				name = string(how) + " after " + string(life()[n-1])
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t)
					record, err := b.run(func(g *guest) {
						if n > 0 && g.hello() {
							g.live(b.registry, n)
						}
						if how == Ended && n == 0 {
							g.hello() // nobody ends with a word who has not begun with one
						}
						end(b, g)
					})
					if err != nil {
						t.Fatal(err)
					}
					b.registry.untouched(t)
					if record.How != how || record.Journal.Fault != "" || len(record.Journal.Named) > 1 {
						t.Errorf("got %+v", record)
					}
					registered := n > 1 && life()[n-1] != runner.Removed
					if (record.Removed == 1) != registered || (len(record.Found) == 1) != registered {
						t.Errorf("removed %d, found %v", record.Removed, record.Found)
					}
					if st := b.session.Status(); st.Step != Reaped || st.How != how || st.Lines != record.Journal.Lines {
						t.Errorf("status %+v", st)
					}
					if n > 0 && record.Journal.State != life()[n-1] {
						t.Errorf("the journal ends in %q, want %q", record.Journal.State, life()[n-1])
					}
				})
			})
		}
	}
}

// TestLateRegistration: a registration that GitHub takes up only after the VM has died is found by the second listing.
func TestLateRegistration(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		record, err := b.run(func(g *guest) {
			g.hello()
			g.enter(runner.Boot, nil)
			g.enter(runner.Registering, &runner.Named{Name: g.prefix + "-0000000a"})
			time.AfterFunc(5*time.Second, func() { b.registry.register(g.prefix + "-0000000a") })
			b.machine.powerOff()
		})
		if err != nil || record.Removed != 1 {
			t.Errorf("got %+v, %v", record, err)
		}
		b.registry.untouched(t)
		if len(b.registry.asked) == 0 {
			t.Error("the name of the journal was not looked for")
		}
	})
}

// TestLaggingList: what GitHub does not list yet is removed by the name in the journal.
func TestLaggingList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.registry.hidden = 100
		if _, err := b.run(func(g *guest) { g.hello(); g.live(b.registry, 3); b.machine.powerOff() }); err != nil {
			t.Error(err)
		}
		b.registry.untouched(t)
	})
}

func TestDrain(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		vm   func(b *bench, g *guest)
		want How
	}{
		"before hello": {func(b *bench, g *guest) { b.session.Drain() }, Drained},
		"at hello": {func(b *bench, g *guest) {
			b.session.Drain()
			if g.hello() {
				b.t.Error("it got the credential all the same")
			}
		}, Drained},
		"while listening": {func(b *bench, g *guest) {
			g.hello()
			g.live(b.registry, 3)
			b.session.Drain()
			b.session.Drain()
			if c, err := g.Next(g.ctx); c != channel.Drain || err != nil {
				b.t.Errorf("the guest heard %q, %v", c, err)
			}
			g.say(channel.End{Outcome: "Drained."})
			b.machine.powerOff()
		}, Ended},
		"with a job": {func(b *bench, g *guest) {
			g.hello()
			g.live(b.registry, 5)
			b.session.Drain()
			if c, err := g.Next(g.ctx); c != channel.Drain || err != nil {
				b.t.Errorf("the guest heard %q, %v", c, err)
			}
			for range 100 { // the job goes on, longer than any limit
				time.Sleep(channel.StatusInterval)
				g.say(channel.Status{State: "running", Jobs: 1})
				synctest.Wait()
				if st := b.session.Status(); !st.Draining || st.Jobs != 1 || st.Step != Following {
					b.t.Errorf("status %+v", st)
				}
			}
			g.say(channel.End{Outcome: "The job succeeded."})
			b.machine.powerOff()
		}, Ended},
		"of a guest that does not listen": {func(b *bench, g *guest) {
			g.hello()
			g.live(b.registry, 5)
			b.session.Drain()
			time.Sleep(time.Minute) // it takes nothing from the stream
			g.say(channel.End{Outcome: "The job succeeded."})
			b.machine.powerOff()
		}, Ended},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				record, err := b.run(func(g *guest) { tt.vm(b, g) })
				if err != nil || record.How != tt.want {
					t.Fatalf("got %+v, %v", record, err)
				}
				b.registry.untouched(t)
			})
		})
	}
}

// TestLauncherStopped: a launcher that is stopped kills its VM and leaves the rest to the next one.
func TestLauncherStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		ctx, cancel := context.WithCancel(t.Context())
		vm := make(chan struct{})
		go func() {
			defer close(vm)
			g := newGuest(t, b.machine)
			g.hello()
			g.live(b.registry, 4)
			synctest.Wait() // every line is kept
			cancel()
		}()
		record, err := b.session.Run(ctx)
		<-vm
		if record != nil || !errors.Is(err, ErrLeft) || !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, %v", record, err)
		}
		if st := b.session.Status(); st.Step != Left || b.session.Healthy() == nil {
			t.Errorf("status %+v", st)
		}
		if _, done := <-b.machine.done; done {
			t.Error("the VM lives")
		}
		found, err := b.reaper.Recover(t.Context(), b.state)
		if err != nil || len(found.Alive) != 1 || len(found.Reaped) != 0 {
			t.Errorf("while the launcher lives: %+v, %v", found, err)
		}
		_ = b.folder.Close()
		found, err = b.reaper.Recover(t.Context(), b.state)
		if err != nil || len(found.Reaped) != 1 || found.Reaped[0].How != Abandoned || found.Reaped[0].Journal.State != runner.Claimed {
			t.Fatalf("after it: %+v, %v", found, err)
		}
		b.registry.untouched(t)
		found, err = b.reaper.Recover(t.Context(), b.state)
		if err != nil || len(found.Reaped)+len(found.Alive)+len(found.Left) != 0 {
			t.Errorf("a second time: %+v, %v", found, err)
		}
	})
}

// TestStubbornVM: a VM that does not end when it is killed is reaped all the same.
func TestStubbornVM(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.machine.stubborn = true
		record, err := b.run(func(g *guest) { g.hello(); g.live(b.registry, 3); g.say(channel.End{Outcome: "Done."}) })
		if err != nil || record.Removed != 1 {
			t.Errorf("got %+v, %v", record, err)
		}
		b.registry.untouched(t)
		b.machine.powerOff()
	})
}

// TestLastWords: what a VM said before it died is read, although it is dead already.
func TestLastWords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		record, err := b.run(func(g *guest) {
			g.hello()
			close(b.machine.done) // QEMU is gone; the stream still holds what it wrote
			b.machine.once.Do(func() {})
			time.Sleep(time.Second)
			g.live(b.registry, 9)
			g.say(channel.End{Outcome: "The job succeeded."})
			_ = b.machine.inside.Close()
		})
		if err != nil || record.How != Ended || record.Rounds != 1 || record.Journal.State != runner.Removed {
			t.Errorf("got %+v, %v", record, err)
		}
	})
}

// TestFullDisk: a journal that cannot be kept is an alarm, and the end of neither VM nor reaping.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		if err := os.WriteFile(filepath.Join(b.folder.path, journalFile), nil, 0o400); err != nil { // it cannot be made
			t.Fatal(err)
		}
		record, err := b.run(func(g *guest) {
			g.hello()
			g.live(b.registry, 5)
			synctest.Wait()
			if st := b.session.Status(); len(st.Alarms) != 1 || st.Alarms[0] != JournalLost || st.State != runner.Running {
				t.Errorf("status %+v", st)
			}
			b.machine.powerOff()
		})
		if err != nil || record.Removed != 1 || record.Journal.Lines != 0 {
			t.Errorf("got %+v, %v", record, err)
		}
		b.registry.untouched(t)
	})
}

// TestStatus follows what a session says of itself.
func TestStatus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		if st := b.session.Status(); st.Step != Starting || b.session.Healthy() != nil {
			t.Errorf("at first: %+v", st)
		}
		_, err := b.run(func(g *guest) {
			g.hello()
			g.live(b.registry, 3)
			g.say(channel.Status{
				State: "boot", Runner: channel.Runner{ID: 23, Name: g.prefix + "-0000000a"}, Responses: 2,
				Alarms: []channel.Alarm{channel.SinkDown, "new-word", channel.ClockWrong},
			})
			synctest.Wait()
			st := b.session.Status()
			if st.State != runner.Listening || st.Runner.ID != 23 || st.Responses != 2 || len(st.Alarms) != 3 || st.Alarms[0] != channel.ClockWrong {
				t.Errorf("status %+v", st)
			}
			time.Sleep(4*channel.StatusInterval + time.Second)
			st = b.session.Status()
			if len(st.Alarms) != 4 || b.session.Healthy() == nil {
				t.Errorf("after a silence: %+v", st)
			}
			g.say(channel.Status{State: "boot"})
			synctest.Wait()
			if st = b.session.Status(); len(st.Alarms) != 0 || b.session.Healthy() != nil {
				t.Errorf("afterwards: %+v", st)
			}
			b.machine.powerOff()
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestValidate(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "machine") {
		t.Errorf("an empty configuration: %v", err)
	}
	if err := (&Reaper{}).Validate(); err == nil || !strings.Contains(err.Error(), "registry") || !strings.Contains(err.Error(), "settle") {
		t.Errorf("an empty reaper: %v", err)
	}
	if _, err := (&Reaper{}).Recover(t.Context(), t.TempDir()); err == nil {
		t.Error("an empty reaper recovered")
	}
	if _, err := CreateFolder(t.TempDir(), Target{}); err == nil {
		t.Error("a folder for no place")
	}
}
