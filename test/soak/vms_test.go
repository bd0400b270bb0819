// SPDX-License-Identifier: Apache-2.0

//go:build vms

package soak_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/dispatch"
	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/test/stage"
)

var (
	machines = flag.Int("soak.vms", 30, "how many machines, one job each, one after the other")
	only     = flag.String("soak.only", "", "only the faults whose names match this expression, each once")
	keep     = flag.String("soak.keep", "", "a folder for what the launchers say and keep; empty: a temporary one")
)

// vms is a soak of machines: each is started by kettle-dispatch itself.
type vms struct {
	*soak
	stage *stage.Stage
	mark  string // in the environment of every process that it starts
	logs  string
	tmp   string // of the launchers
	place func() []string
	past  []ended // whose record the next launcher writes
	held  []load
}

// TestVMs runs the machines and looks at what is left of each and of all: no runner at GitHub, no job taken twice, no
// environment used again, nothing accepted that was not attested, no process, file or socket, and no growth.
func TestVMs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("making an image needs root")
	}
	turns := drawMachines(*seed, *machines)
	if *only != "" {
		turns = matching(regexp.MustCompile(*only))
	}
	v := newVMs(t, turns)
	var before load
	links := netLinks()
	for i, j := range turns {
		if i == len(turns)/4 { // everything is warm
			before = loaded()
		}
		if !v.one(t.Context(), j) {
			v.one(t.Context(), turn{j.n, j.plan.again()})
		}
	}
	v.reap(t.Context())
	v.settle()
	v.clean("at the end")
	if now := netLinks(); !slices.Equal(links, now) {
		t.Errorf("network devices were %v and are %v", links, now)
	}
	v.check()
	v.grown(before)
	v.report()
	t.Logf("launchers held at most: %+v (threads, files)", slices.MaxFunc(append(v.held, load{}), func(a, b load) int { return a.files - b.files }))
}

func matching(names *regexp.Regexp) (turns []turn) {
	for _, p := range slices.Concat(cutPlans(), launcherPlans(), machinePlans()) {
		if names.MatchString(p.name) {
			turns = append(turns, turn{len(turns), p})
		}
	}
	return turns
}

// one lives one machine and looks at what is left of it. It reports false when the machine hung, which its launcher ended:
// QEMU's emulation does that now and then on a busy host, whatever the plan. Once is none of the plan's, and counted.
func (v *vms) one(ctx context.Context, j turn) (lived bool) {
	l := &life{v: v, turn: j}
	v.world.records.set("records", j.plan.sink)
	v.world.program.Store(&j.plan.program)
	if !j.plan.jobless {
		l.run = v.job(j)
	}
	code, err := l.live(ctx)
	if err != nil {
		v.t.Errorf("%d %s: %v", j.n, j.plan, err)
		return true
	}
	launched := l.took
	orphaned := slices.ContainsFunc(j.plan.deeds, func(d deed) bool { return d.what == orphan })
	if orphaned && !j.plan.leave {
		v.reap(ctx)
	}
	v.settle()
	e := ended{turn: j, prefix: l.prefix, entries: l.entries(), files: v.world.records.take("records"), record: v.closing(l.environment)}
	hung := e.how() == string(dispatch.Silent) && !j.plan.repeated
	if hung {
		v.turns++
		e.turn.plan.ends += " " + string(dispatch.Silent)
	}
	if e.record == nil && j.plan.leave {
		v.past = append(v.past, e)
	} else {
		v.note(e)
		v.judge(l, e, code, orphaned)
	}
	v.held = append(v.held, l.held...)
	if l.run != nil {
		v.world.github.Cancel(l.run) // nobody takes it any more
	}
	v.t.Logf("%2d  %-64s  %-34s  %-12s %-9s  %5.1f s", j.n, j.plan.name, strings.Join(l.hits, ", "), e.state(), e.how(), launched.Seconds())
	return !hung
}

// settle takes the records that a later launcher has written for those before it.
func (v *vms) settle() {
	v.past = slices.DeleteFunc(v.past, func(e ended) bool {
		if e.record = v.closing(strings.TrimPrefix(e.prefix, "kettle-")); e.record == nil {
			return false
		}
		v.note(e)
		return true
	})
}

// closing is the record that ends an environment.
func (v *vms) closing(environment string) *dispatch.Record {
	data, err := os.ReadFile(filepath.Join(v.state, environment, "reaped.json"))
	if err != nil {
		return nil
	}
	var r dispatch.Record
	if err := json.Unmarshal(data, &r); err != nil {
		v.t.Errorf("environment %s: its closing record: %v", environment, err)
		return nil
	}
	return &r
}

// judge looks at what is left of one machine.
func (v *vms) judge(l *life, e ended, code int, orphaned bool) {
	fault := func(format string, args ...any) {
		v.t.Errorf("%d %s: "+format, append([]any{l.turn.n, l.turn.plan}, args...)...)
	}
	want := map[string]int{"ended": 0, "drained": 0, "killed": 130, "died": 1, "silent": 1, "broken": 1, "abandoned": -1}
	if exit, known := want[e.how()]; !known || exit != code || orphaned != (code == -1) {
		fault("it ended %s and its launcher with %d", e.how(), code)
	}
	for _, r := range v.world.github.Runners() {
		if strings.HasPrefix(r.Name, l.prefix+"-") {
			fault("left at GitHub: %+v", r)
		}
	}
	over := slices.ContainsFunc(e.entries, func(e runner.Entry) bool { return e.State.Ended() })
	if _, attested := e.files["response-1.intoto.jsonl"]; attested && !over {
		fault("its record has a response, and its end was cut off")
	} else if !attested && e.state() == "finished" && e.how() == "ended" && l.turn.plan.sink != down && l.turn.plan.sink != full {
		fault("it finished and its record has no response")
	}
	v.verified(e, l.run, fault)
	v.clean(fmt.Sprintf("%d %s", l.turn.n, l.turn.plan))
}

// job starts the workflow of a turn.
func (v *vms) job(j turn) *fakegithub.Run {
	j.plan.jobless = false
	run, err := v.dispatch(j)
	if err != nil {
		v.t.Errorf("%d %s: %v", j.n, j.plan, err)
	}
	return run
}

// delist removes an environment's runners at GitHub, as a person may.
func (v *vms) delist(prefix string) {
	list, err := v.world.client.Runners(v.t.Context(), prefix+"-")
	for _, r := range list {
		err = errors.Join(err, v.world.client.Remove(v.t.Context(), runner.Registration{ID: r.ID, Name: r.Name}))
	}
	if err != nil || len(list) == 0 {
		v.t.Errorf("removing %s: %d, %v", prefix, len(list), err)
	}
}

// reap has the program tidy up after launchers that were killed.
func (v *vms) reap(ctx context.Context) {
	cmd := v.dispatcher(ctx, "reap", append(v.place(), "--json")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		v.t.Errorf("reaping: %v: %s", err, out)
	}
}

// dispatcher is a run of kettle-dispatch.
func (v *vms) dispatcher(ctx context.Context, command string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(v.stage.Bin, "kettle-dispatch"), append([]string{command}, args...)...)
	cmd.Env = append(os.Environ(), v.mark, "TMPDIR="+v.tmp)
	return cmd
}

// folders are the environments in the state folder.
func (v *vms) folders() (names []string) {
	entries, _ := os.ReadDir(v.state)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// clean demands that no process, temporary file or socket of a launcher is left.
func (v *vms) clean(when string) {
	deadline := time.Now().Add(10 * time.Second) // those that were killed go by and by
	for {
		left := v.leftovers()
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			v.t.Errorf("%s: left on this host: %s", when, strings.Join(left, ", "))
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}
