// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/runner/sandbox"
)

// survives demands what kettled needs of the machine while a job takes all that it gets.
func survives(t *testing.T) {
	t.Helper()
	before := time.Now()
	name := "/run/kettled-can-write"
	if err := errors.Join(os.WriteFile(name, make([]byte, 1<<20), 0o600), os.Remove(name)); err != nil {
		t.Errorf("kettled cannot write: %v", err)
	}
	p, err := os.StartProcess("/bin/sh", []string{"sh", "-c", "exit 0"}, &os.ProcAttr{})
	if err != nil {
		t.Errorf("kettled cannot start a program: %v", err)
		return
	}
	if _, err := p.Wait(); err != nil {
		t.Error(err)
	}
	if took := time.Since(before); took > 10*time.Second {
		t.Errorf("kettled had to wait %v", took)
	}
}

func exhaust(t *testing.T, c sandbox.Config, what string) running {
	t.Helper()
	return run(t, c, "exhaust", what)
}

func TestAttackProcesses(t *testing.T) {
	if !in(t, small) {
		return
	}
	r := exhaust(t, strict("processes"), "processes")
	r.until(t, "end of processes: ")
	if !strings.Contains(r.out.String(), "resource temporarily unavailable") {
		t.Errorf("it made as many as it liked:\n%s", r.out)
	}
	survives(t)
	pids, err := os.ReadFile(r.group("box/cgroup.procs"))
	if err != nil {
		t.Fatal(err)
	}
	for pid := range strings.FieldsSeq(string(pids)) {
		var n int
		if _, err := fmt.Sscan(pid, &n); err != nil {
			t.Fatal(err)
		}
		if in, err := r.Contains(n); err != nil || !in {
			t.Errorf("process %d: %v, %v", n, in, err)
		}
	}
	if in, err := r.Contains(os.Getpid()); err != nil || in {
		t.Errorf("contains kettled: %v, %v", in, err)
	}
	before := time.Now()
	if err := r.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	n, left := r.Leftovers()
	t.Logf("%d processes killed within %v: %v", n, time.Since(before), left[:3])
	if n < 15 || n > 64 || len(left) != n {
		t.Errorf("left %d: %v", n, left)
	}
}

// A job that wants more memory than it has is killed whole, whatever kind of memory, and kettled knows why.
func TestAttackMemory(t *testing.T) {
	if !in(t, small) {
		return
	}
	for _, what := range []string{"memory", "shared-memory"} {
		r := exhaust(t, strict("memory-"+what[:3]), what)
		for !strings.Contains(r.out.String(), "end of") && !ended(r) {
			time.Sleep(20 * time.Millisecond)
		}
		if strings.Contains(r.out.String(), "end of") {
			t.Fatalf("%s: it had as much as it liked:\n%s", what, r.out)
		}
		if code := r.wait(t); code != 128+int(unix.SIGKILL) {
			t.Errorf("%s: exit code %d\n%s", what, code, r.out)
		}
		if out, err := r.OutOfMemory(); err != nil || !out {
			t.Errorf("%s: out of memory: %v, %v", what, out, err)
		}
		survives(t)
	}
	r := run(t, strict("memory-none"), "exit")
	if code := r.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if out, err := r.OutOfMemory(); err != nil || out {
		t.Errorf("out of memory: %v, %v", out, err)
	}
}

func ended(r running) bool {
	select {
	case <-r.Done():
		return true
	default:
		return false
	}
}

// A full disk is the job's own: kettled goes on, and the next one's disk is as large as before.
func TestAttackDisk(t *testing.T) {
	if !in(t, small) {
		return
	}
	for _, what := range []string{"disk", "inodes"} {
		r := exhaust(t, strict(what), what)
		r.until(t, "end of "+what+": ")
		if !strings.Contains(r.out.String(), "no space left on device") {
			t.Errorf("it wrote as much as it liked:\n%s", r.out)
		}
		survives(t)
		if err := r.Freeze(t.Context()); err != nil {
			t.Error(err)
		}
		if err := r.Kill(t.Context()); err != nil {
			t.Error(err)
		}
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll("/scratch/" + what)
	}
}

func TestAttackCPU(t *testing.T) {
	if !in(t, small) {
		return
	}
	c := strict("cpu")
	c.Limits.CPUs = 250
	r := exhaust(t, c, "cpu")
	r.until(t, "end of cpu: ")
	if took := number(t, r, "one second took %d ms"); took < 3000 {
		t.Errorf("a quarter of a CPU used a second of it within %d ms", took)
	}
}

func TestAttackTraffic(t *testing.T) {
	if !in(t, small) {
		return
	}
	c := strict("traffic")
	c.Limits.IO.Write = 2 << 20
	r := exhaust(t, c, "writes")
	r.until(t, "end of writes: ")
	if took := number(t, r, "six MiB took %d ms"); took < 1800 {
		t.Errorf("six MiB at two in a second took %d ms", took)
	}
}

// number reads what the job measured.
func number(t *testing.T, r running, format string) (n int) {
	t.Helper()
	_, rest, _ := strings.Cut(r.out.String(), ": ")
	if _, err := fmt.Sscanf(rest, format, &n); err != nil {
		t.Fatalf("%v in %q", err, r.out)
	}
	return n
}

// Groups of the job's own are frozen, counted, killed and removed with it, and there is an end to making them.
func TestAttackGroups(t *testing.T) {
	if !in(t, small) {
		return
	}
	for _, runtime := range []string{crun, runc} {
		c := docker("groups-" + filepath.Base(runtime))
		c.Runtimes = []string{runtime}
		r := rootRun(t, c, "groups")
		r.until(t, "divided")
		if err := r.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := r.Thaw(t.Context()); err != nil {
			t.Error(err)
		}
		if err := r.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n, left := r.Leftovers(); n < 5 {
			t.Errorf("left %d: %v", n, left)
		}
	}
	r := rootRun(t, docker("groups"), "exhaust", "groups")
	r.until(t, "end of groups: ")
	if strings.Contains(r.out.String(), "<nil>") {
		t.Errorf("it made as many groups as it liked:\n%s", r.out)
	}
	before := time.Now()
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
	t.Logf("%s; closed within %v", strings.TrimSpace(r.out.String()), time.Since(before))
}

// rootRun runs the job as the sandbox's root.
func rootRun(t *testing.T, c sandbox.Config, args ...string) running {
	t.Helper()
	return run(t, c, append([]string{"root"}, args...)...)
}
