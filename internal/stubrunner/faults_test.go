// SPDX-License-Identifier: Apache-2.0

package stubrunner_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/fakegithub/fault"
)

const small = `
on: {workflow_dispatch: {}}
jobs:
  build:
    runs-on: [self-hosted, tee]
    steps:
      - run: echo "faults=${STUBRUNNER_FAULTS:-none}"
`

// switchOn writes fault switches where a supervisor's user would: into <root>/.env.
func (w *world) switchOn(text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.root, ".env"), []byte("STUBRUNNER_FAULTS="+text+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func newSmall(t *testing.T) *world {
	t.Helper()
	return newWorld(t, map[string]string{".github/workflows/build.yml": small})
}

// A crash leaves at GitHub exactly what it had reached.
func TestCrash(t *testing.T) {
	t.Parallel()
	for point, want := range map[string]struct {
		status   string
		acquired int
		online   bool
	}{
		"start": {"queued", 0, false}, "listening": {"queued", 0, true}, "offered": {"queued", 0, true},
		"acquired": {"in_progress", 1, true}, "running": {"in_progress", 1, true}, "finished": {"completed", 1, false},
	} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			w := newSmall(t)
			w.switchOn("crash@" + point)
			run := w.dispatch(nil)
			l := w.start("run")
			if code := l.wait(); code != -1 {
				t.Errorf("exit code %d: %s%s", code, l.out, l.err)
			}
			book := w.github.Ledger()
			now, err := w.github.WaitFor(t.Context(), run, func(*fakegithub.Run) bool { return true })
			if err != nil || now.Jobs[0].Status != want.status && point != "running" || book.Acquired != want.acquired {
				t.Errorf("%+v %+v %v", now, book, err)
			}
			if point != "finished" && point != "running" && (len(book.Registered) != 1 || book.Registered[0].Online != want.online) {
				t.Errorf("registered: %+v", book.Registered)
			}
		})
	}
}

func TestExitSwitch(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"exit=42@listening", "exit=42@running"} {
		w := newSmall(t)
		w.switchOn(text)
		w.dispatch(nil)
		l := w.start("run")
		if code := l.wait(); code != 42 {
			t.Errorf("%s: exit code %d: %s%s", text, code, l.out, l.err)
		}
	}
	w := newSmall(t)
	w.switchOn("hnag@start")
	if l := w.start("run"); l.wait() != 1 || !strings.Contains(l.err.String(), "hnag@start") {
		t.Errorf("an unknown switch: %s", l.err)
	}
}

func TestIgnoreStop(t *testing.T) {
	t.Parallel()
	w := newSmall(t)
	w.switchOn("ignore-sigterm,hang@acquired")
	w.dispatch(nil)
	l := w.start("run")
	w.awaitLog("hang at acquired")
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		if err := l.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = l.cmd.Wait()
	if status, ok := l.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Errorf("ended by %v", l.cmd.ProcessState)
	}
}

// awaitLog waits until the Listener's diagnostic file holds a text.
func (w *world) awaitLog(text string) {
	w.t.Helper()
	paths := func() []string {
		found, err := filepath.Glob(filepath.Join(w.root, "_diag/Runner_*.log"))
		if err != nil {
			w.t.Fatal(err)
		}
		return found
	}
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, p := range paths() {
			if data, err := os.ReadFile(p); err == nil && strings.Contains(string(data), text) {
				return
			}
		}
	}
	w.t.Fatalf("no diagnostic file ever held %q", text)
}

func TestDaemonOutlivesJob(t *testing.T) {
	t.Parallel()
	w := newSmall(t)
	w.switchOn("daemon@running")
	job, _ := w.run(nil)
	pid, err := strconv.Atoi(w.read("_diag/daemon.pid"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
	if job.Conclusion != "success" || syscall.Kill(pid, 0) != nil {
		t.Errorf("conclusion %s, the daemon is gone", job.Conclusion)
	}
	env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if err != nil || len(env) != 0 {
		t.Errorf("environment %q: %v", env, err)
	}
	if log := w.log(job); !strings.Contains(log, "faults=none") {
		t.Errorf("a step saw the switches:\n%s", log)
	}
}

func TestNoHooks(t *testing.T) {
	t.Parallel()
	w := newSmall(t)
	w.hook("STARTED", "echo hook-started\n")
	w.switchOn("no-hooks")
	job, _ := w.run(nil)
	lacks(t, "log", w.log(job), "hook-started")
}

func TestVersions(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		switches string
		env      string
		faults   fakegithub.Faults
		code     int
	}{
		"too old":          {"", "", fakegithub.Faults{MinimumVersion: "2.400.0"}, 1},
		"too old, by code": {"", "ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE=1", fakegithub.Faults{MinimumVersion: "2.400.0"}, 7},
		"claims to be old": {"version=2.100.0", "ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE=1", fakegithub.Faults{MinimumVersion: "2.336.0"}, 7},
		"update":           {"", "", fakegithub.Faults{Update: "2.400.0"}, 4},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newSmall(t)
			w.switchOn(tt.switches)
			w.env = append(w.env, "A=B", tt.env)
			if err := w.github.Misbehave(tt.faults); err != nil {
				t.Fatal(err)
			}
			if l := w.start("run"); l.wait() != tt.code {
				t.Errorf("exit code %d, want %d: %s%s", l.cmd.ProcessState.ExitCode(), tt.code, l.out, l.err)
			}
		})
	}
}

// A refused acquirejob leaves a Listener that listens for ever, although GitHub no longer knows the runner.
func TestGhostOfTheService(t *testing.T) {
	t.Parallel()
	w := newSmall(t)
	err := w.github.Misbehave(fakegithub.Faults{Acquire: func(fakegithub.Job, fakegithub.Runner) fakegithub.Refusal {
		return fakegithub.Refusal{Status: 409, Cancel: true}
	}})
	if err != nil {
		t.Fatal(err)
	}
	run := w.dispatch(nil)
	again, err := w.faults.Add(fault.Rule{Services: []string{"broker"}, Path: "/message", Skip: 1, Act: fault.Hold()})
	if err != nil {
		t.Fatal(err)
	}
	l := w.start("run")
	if now := w.await(run); now.Conclusion != "cancelled" {
		t.Errorf("%+v", now)
	}
	if err := again.Await(t.Context(), 1); err != nil { // it polls on
		t.Fatal(err)
	}
	if left := w.github.Runners(); len(left) != 0 {
		t.Errorf("registered: %+v", left)
	}
	if err := l.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := l.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A partition cuts the poll under way: the runner's client asks again and meets the silence.
func TestPartitionWhileListening(t *testing.T) {
	t.Parallel()
	w := newSmall(t)
	seen, err := w.faults.Add(fault.Rule{Services: []string{"broker"}, Path: "/message", Times: 1, Act: fault.Delay(0)})
	if err != nil {
		t.Fatal(err)
	}
	l := w.start("run")
	if err := seen.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for len(w.github.Runners()) != 1 || !w.github.Runners()[0].Online {
		time.Sleep(time.Millisecond)
	}
	cut, err := w.faults.Partition("broker")
	if err != nil {
		t.Fatal(err)
	}
	if err := cut.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	cut.Remove()
	w.awaitLog("calling service")
	if err := l.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := l.wait(); code != 0 {
		t.Errorf("exit code %d: %s%s", code, l.out, l.err)
	}
}
