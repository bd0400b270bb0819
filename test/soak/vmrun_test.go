// SPDX-License-Identifier: Apache-2.0

//go:build vms

package soak_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/fakegithub/fault"
	"github.com/kettle/attest/runner"
)

// How long things last that are done to a machine, and a machine's life at most.
const (
	powerOnTime = 5 * time.Second
	freezeTime  = 20 * time.Second
	laterTime   = 15 * time.Second
	lifeTime    = 12 * time.Minute
)

// life is one run of kettle-dispatch, with the machine that it started.
type life struct {
	v           *vms
	turn        turn
	run         *fakegithub.Run // nil: there is no job yet
	environment string
	prefix      string
	launcher    *exec.Cmd
	said        bytes.Buffer
	qemu        int       // its process, once it was seen
	since       time.Time // it was seen
	mend        func()
	rule        *fault.Armed
	hits        []string // the states in which something was done
	held        []load   // by the launcher: threads and files
	took        time.Duration
}

// live starts a machine by the program, does to it what its plan has, and comes back when the program has ended.
func (l *life) live(ctx context.Context) (code int, err error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, lifeTime)
	defer cancel()
	log, err := os.Create(filepath.Join(l.v.logs, strconv.Itoa(l.turn.n)+".log"))
	if err != nil {
		return 0, err
	}
	defer log.Close()
	known := l.v.folders()
	l.launcher = l.v.dispatcher(ctx, "run", append(l.v.place(), "--image", l.v.stage.Image, "--simulator", l.v.stage.Simulator(), "--log", "json", "--json")...)
	l.launcher.Stdout, l.launcher.Stderr = &l.said, log
	if err := l.launcher.Start(); err != nil {
		return 0, err
	}
	ended := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() { l.meddle(ended, known) })
	err = l.launcher.Wait()
	close(ended)
	group.Wait()
	l.took = time.Since(began)
	if exit := (*exec.ExitError)(nil); err != nil && !asExit(err, &exit) {
		return 0, err
	}
	return l.launcher.ProcessState.ExitCode(), nil
}

// meddle does what the plan has, each deed at its moment, and mends what the plan did to everybody once the machine is off.
func (l *life) meddle(ended <-chan struct{}, known []string) {
	mend := func() {}
	l.mend = func() { mend() }
	begins := func(d deed) bool { return d.what == begin }
	if !slices.ContainsFunc(l.turn.plan.deeds, begins) {
		mend, l.rule = l.v.meet(l.turn.plan)
	}
	defer func() { mend() }()
	for _, d := range l.turn.plan.deeds {
		if !l.await(ended, known, d.when) {
			return
		}
		l.hits = append(l.hits, d.what+" at "+l.now())
		if d.what == begin {
			mend, l.rule = l.v.meet(l.turn.plan)
			continue
		}
		l.do(d.what)
	}
	l.await(ended, known, "never")
}

// await waits for a moment. It reports false when the machine is off before that.
func (l *life) await(ended <-chan struct{}, known []string, when string) bool {
	after := time.Now().Add(laterTime)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		l.look(known)
		if l.qemu != 0 && syscall.Kill(l.qemu, 0) != nil {
			return false
		}
		if l.comes(when, after) {
			return true
		}
		select {
		case <-tick.C:
		case <-ended:
			return false
		}
	}
}

func (l *life) comes(when string, after time.Time) bool {
	switch when {
	case powerOn:
		return l.qemu != 0 && time.Since(l.since) > powerOnTime
	case ruleActs:
		return l.rule != nil && l.rule.Hits() > 0
	case later:
		return time.Now().After(after)
	}
	return slices.ContainsFunc(l.entries(), func(e runner.Entry) bool { return string(e.State) == when })
}

// look finds the environment's folder, QEMU, and what the launcher holds.
func (l *life) look(known []string) {
	if l.environment == "" {
		for _, name := range l.v.folders() {
			if !slices.Contains(known, name) {
				l.environment, l.prefix = name, "kettle-"+name
			}
		}
	}
	if l.qemu == 0 {
		if l.qemu = childQEMU(l.launcher.Process.Pid); l.qemu != 0 {
			l.since = time.Now()
		}
		return
	}
	if time.Since(l.since) > time.Duration(len(l.held)+1)*2*time.Second {
		if now, ok := holds(l.launcher.Process.Pid); ok {
			l.held = append(l.held, now)
		}
	}
}

// do does one deed.
func (l *life) do(what string) {
	switch what {
	case cut:
		_ = syscall.Kill(l.qemu, syscall.SIGKILL)
	case orphan:
		_ = l.launcher.Process.Kill()
	case stop:
		for range 2 {
			_ = l.launcher.Process.Signal(syscall.SIGTERM)
			time.Sleep(200 * time.Millisecond)
		}
	case freeze:
		_ = syscall.Kill(l.qemu, syscall.SIGSTOP)
		time.Sleep(freezeTime)
		_ = syscall.Kill(l.qemu, syscall.SIGCONT)
	case drain:
		if out, err := l.v.dispatcher(l.v.t.Context(), "drain", "--state", l.v.state, "--environment", l.environment).CombinedOutput(); err != nil {
			l.v.t.Errorf("%d %s: draining: %v: %s", l.turn.n, l.turn.plan, err, out)
		}
	case cancel:
		l.v.world.github.Cancel(l.run)
	case delist:
		l.v.delist(l.prefix)
	case start:
		l.run = l.v.job(l.turn)
	case mend:
		l.mend()
	}
}

// entries reads the launcher's copy of the journal, as far as it is whole.
func (l *life) entries() (all []runner.Entry) {
	data, err := os.ReadFile(filepath.Join(l.v.state, l.environment, "journal.jsonl"))
	if err != nil || l.environment == "" {
		return nil
	}
	for line := range bytes.Lines(data) {
		var e runner.Entry
		if !bytes.HasSuffix(line, []byte("\n")) || json.Unmarshal(line, &e) != nil {
			break
		}
		all = append(all, e)
	}
	return all
}

// now is the state that the environment was heard of last.
func (l *life) now() string {
	if all := l.entries(); len(all) > 0 {
		return string(all[len(all)-1].State)
	}
	return "start"
}

// childQEMU finds the machine that a launcher has started, and not the one that only tries KVM.
func childQEMU(launcher int) int {
	for _, pid := range pids() {
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if err == nil && len(fields) > 1 && fields[1] == strconv.Itoa(launcher) && bytes.Contains(line, []byte("\x00-name\x00kettle\x00")) {
			return pid
		}
	}
	return 0
}

// pids lists the processes of this host.
func pids() (all []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

// holds counts the threads and the open files of a process.
func holds(pid int) (load, bool) {
	threads, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
	files, ferr := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "fd"))
	return load{len(threads), len(files)}, err == nil && ferr == nil
}
