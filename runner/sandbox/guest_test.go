// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/runner/outputs"
	"github.com/kettle/attest/runner/sandbox"
)

// transcript is a writer that can be read while it is written to.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *transcript) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *transcript) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// running is a sandbox in which the payload runs.
type running struct {
	*sandbox.Sandbox
	out *transcript
}

// load makes a sandbox in the guest that will run the payload with args.
func load(t *testing.T, id string, args ...string) running {
	t.Helper()
	if os.Getenv(inGuest) == "" {
		t.Skip("runs in the VM of TestVM")
	}
	scratch, door := "/scratch/"+id, "/run/kettle-"+id
	for _, dir := range []string{scratch, door} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(door, "note"), []byte("from kettled"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := &transcript{}
	before := time.Now()
	s, err := sandbox.Create(t.Context(), sandbox.Config{
		ID: id, Runtime: "/usr/bin/crun", Image: "/", Runner: "/usr/lib/kettle/runner",
		Init: []string{"/usr/bin/catatonit", "--"}, Scratch: scratch, Door: door, CgroupRoot: "/sys/fs/cgroup",
		Profile: sandbox.Strict, Limits: sandbox.Limits{Memory: 256 << 20, Processes: 40, Files: 4096},
		Gateway: netip.MustParseAddr("100.96.0.1"), Hosts: []string{"github.demo.test", "other.demo.test"}, Output: out,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, s, id) })
	created := time.Now()
	if err := s.Load(t.Context(), append([]string{"bin/Runner.Listener"}, args...), []string{"JIT=credential"}); err != nil {
		t.Fatal(err)
	}
	t.Logf("created within %v, loaded within %v", created.Sub(before), time.Since(created))
	return running{s, out}
}

// closeAll closes twice and demands that nothing is left.
func closeAll(t *testing.T, s *sandbox.Sandbox, id string) {
	t.Helper()
	if err := errors.Join(s.Close(context.Background()), s.Close(context.Background())); err != nil { //nolint:usetesting // after the test
		t.Error(err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), "/scratch/"+id) {
		t.Errorf("mounts left: %v\n%s", err, mounts)
	}
	if _, err := os.Stat("/sys/fs/cgroup/kettle/job-" + id); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("cgroup left: %v", err)
	}
	if left, err := os.ReadDir("/scratch/" + id); err != nil || len(left) > 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
}

func run(t *testing.T, id string, args ...string) running {
	t.Helper()
	r := load(t, id, args...)
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r running) wait(t *testing.T) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	code, err := r.Wait(ctx)
	if err != nil {
		t.Fatalf("%v; it said:\n%s", err, r.out)
	}
	return code
}

// until waits for a line of the payload.
func (r running) until(t *testing.T, line string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !strings.Contains(r.out.String(), line); {
		if time.Now().After(end) {
			t.Fatalf("no %q; it said:\n%s", line, r.out)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

//nolint:paralleltest // the guest's tests run one after the other, on one machine's cgroups and mounts.
func TestGuestRun(t *testing.T) {
	r := load(t, "run", "describe", "7")
	peer := door(t, "/run/kettle-run/door.sock")
	if r.out.String() != "" {
		t.Errorf("it ran before it was started: %s", r.out)
	}
	ns, err := r.NetNS()
	if err != nil {
		t.Fatal(err)
	}
	_ = ns.Close()
	forgotten(t, "/scratch/run", "JIT=credential")
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code := r.wait(t); code != 7 {
		t.Errorf("exit code %d", code)
	}
	forgotten(t, "/scratch/run", "JIT=credential")
	for _, line := range []string{
		"uid 1001 gid 1001", "hostname runner", "cwd " + sandbox.RunnerRoot, "JIT=credential", "HOME=/home/runner",
		"ACTIONS_RUNNER_HOOK_JOB_STARTED=/usr/lib/kettle/started.sh", "note from kettled", "github.demo.test is 100.96.0.1",
		"cgroup 0::/", "door open", "interfaces lo", "suid root", "orphans reaped", "runner root writable", "image writable by overlay only: permission denied",
	} {
		if !strings.Contains(r.out.String(), line+"\n") {
			t.Errorf("no %q", line)
		}
	}
	if in := <-peer; !in {
		t.Error("the door's peer is not in the sandbox")
	}
	if t.Failed() {
		t.Log(r.out)
	}
}

// forgotten demands that no file of kettled's own folders below dir holds text.
func forgotten(t *testing.T, dir, text string) {
	t.Helper()
	looked := 0
	for _, private := range []string{"bundle", "crun"} {
		err := filepath.WalkDir(filepath.Join(dir, private), func(name string, entry os.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			raw, err := os.ReadFile(name)
			if strings.Contains(string(raw), text) {
				t.Errorf("%s holds %s", name, text)
			}
			looked++
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if looked == 0 {
		t.Error("crun keeps no file at all: this test looks in the wrong place")
	}
}

// door greets one client and says whether it was in the sandbox's cgroup, while it is still there.
func door(t *testing.T, path string) <-chan bool {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	in := make(chan bool, 1)
	go func() {
		defer close(in)
		defer func() { _ = l.Close() }()
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		raw, err := conn.SyscallConn()
		if err != nil {
			return
		}
		_ = raw.Control(func(fd uintptr) {
			cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
			if err != nil {
				return
			}
			cg, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", cred.Pid))
			in <- err == nil && string(cg) == "0::/kettle/job-run\n" && cred.Uid == 1<<20+sandbox.User
		})
		_, _ = conn.Write([]byte("open"))
	}()
	return in
}

//nolint:paralleltest // see TestGuestRun.
func TestGuestEscape(t *testing.T) {
	for _, as := range []string{"runner", "root"} {
		r := run(t, "escape-"+as, "escape", as, fmt.Sprint(os.Getpid()))
		if code := r.wait(t); code != 0 {
			t.Errorf("as %s: exit code %d", as, code)
		}
		said := r.out.String()
		if n := strings.Count(said, "denied "); n < 108 || strings.Contains(said, "REACHED") || !strings.Contains(said, "uid "+map[string]string{"runner": "1001", "root": "0"}[as]+"\n") {
			t.Errorf("as %s: %d denied\n%s", as, n, said)
		}
		if as == "root" {
			t.Log("\n" + said)
		}
	}
}

//nolint:paralleltest // see TestGuestRun.
func TestGuestFreeze(t *testing.T) {
	r := run(t, "freeze", "tick")
	r.until(t, "ticking")
	counter := filepath.Join(r.Root(), "tmp/counter")
	read := func() string {
		text, err := os.ReadFile(counter)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for range 3 {
		before := time.Now()
		if err := r.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Logf("frozen within %v", time.Since(before))
		first := read()
		time.Sleep(100 * time.Millisecond)
		if second := read(); first != second {
			t.Errorf("it ran while it was frozen: %s, %s", first, second)
		}
		if err := r.Thaw(t.Context()); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(10 * time.Second); read() == first; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("it did not go on")
			}
		}
	}
	expired, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Freeze(expired); err == nil {
		t.Log("frozen before the context was looked at")
	} else if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := r.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Kill(t.Context()); err != nil { // frozen
		t.Fatal(err)
	}
	if code := r.wait(t); code != 128+int(unix.SIGKILL) {
		t.Errorf("exit code %d", code)
	}
}

//nolint:paralleltest // see TestGuestRun.
func TestGuestLimits(t *testing.T) {
	r := run(t, "limits", "limits")
	r.until(t, "forks stopped")
	pids, err := os.ReadFile("/sys/fs/cgroup/kettle/job-limits/cgroup.procs")
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
	t.Logf("%d processes killed within %v", len(strings.Fields(string(pids))), time.Since(before))

	r = run(t, "memory", "memory")
	if code := r.wait(t); code != 128+int(unix.SIGKILL) || strings.Contains(r.out.String(), "allocated") {
		t.Errorf("exit code %d\n%s", code, r.out)
	}
}

//nolint:paralleltest // see TestGuestRun.
func TestGuestOutputs(t *testing.T) {
	r := run(t, "outputs", "build")
	r.until(t, "built")
	if err := r.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	limits := outputs.Limits{Subjects: 1024, Bytes: 1 << 30, Entries: 1 << 20, Time: time.Minute}
	collect := func(pattern string) ([]outputs.Subject, error) {
		req := outputs.Request{Workspace: sandbox.RunnerRoot + "/_work/w/w", Patterns: []string{pattern}}
		return outputs.Collect(t.Context(), r.Root(), req, limits)
	}
	got, err := collect("dist/*.txt")
	if err != nil || len(got) != 2 || got[0].SHA256 != sha256.Sum256([]byte("one")) || got[1].SHA256 != sha256.Sum256([]byte("two")) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := collect("/etc/passwd"); err != nil || len(got) != 1 { // of the lower layer
		t.Errorf("got %v, %v", got, err)
	}
	for _, pattern := range []string{"link", "fifo", "/proc/self/status", "/run/kettle/note", "/scratch/outputs/upper/etc/hosts"} {
		if got, err := collect(pattern); !errors.Is(err, refusal.ErrNotVerified) {
			t.Errorf("%s: got %v, %v", pattern, got, err)
		}
	}
	before := time.Now()
	if got, err := collect("sparse"); err != nil || got[0].Size != 16<<20 {
		t.Errorf("got %v, %v", got, err)
	}
	t.Logf("16 MiB hashed within %v", time.Since(before))
}

//nolint:paralleltest // see TestGuestRun.
func TestGuestBadProgram(t *testing.T) {
	if os.Getenv(inGuest) == "" {
		t.Skip("runs in the VM of TestVM")
	}
	r := load(t, "bad", "describe", "0")
	if err := r.Load(t.Context(), []string{"true"}, nil); err == nil {
		t.Error("loaded twice")
	}
	if err := os.Remove("/scratch/bad/crun/job-bad/exec.fifo"); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "running crun start") || strings.Contains(err.Error(), `{"msg"`) {
		t.Errorf("got %v", err)
	}
}
