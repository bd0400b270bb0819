// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"bytes"
	"context"
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

	"github.com/kettle/attest/image"
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

// running is a sandbox in which the job runs.
type running struct {
	*sandbox.Sandbox
	id  string
	out *transcript
}

const (
	crun = "/usr/bin/crun"
	runc = "/usr/sbin/runc"
)

// strict and docker are what most tests change a little.
func strict(id string) sandbox.Config {
	return sandbox.Config{
		ID: id, Runtimes: []string{crun}, Image: "/", Runner: runnerDir, Init: sandbox.Small, Scratch: "/scratch/" + id,
		State: "/run/state-" + id, Door: "/run/kettle-" + id, CgroupRoot: "/sys/fs/cgroup", Profile: sandbox.Strict,
		Limits: sandbox.Limits{
			Memory: 192 << 20, Processes: 64, Files: 4096, CPUs: 1000,
			IO: sandbox.IO{Device: image.ScratchDevice, Read: 1 << 40, Write: 1 << 40},
		},
		Resolver: netip.MustParseAddr("100.96.0.1"),
	}
}

func docker(id string) sandbox.Config {
	c := strict(id)
	c.Profile = sandbox.Docker
	return c
}

// load makes a sandbox in the guest that will run the job with args.
func load(t *testing.T, c sandbox.Config, args ...string) running {
	t.Helper()
	return loadArgs(t, c, append([]string{"bin/Runner.Listener"}, args...))
}

func loadArgs(t *testing.T, c sandbox.Config, argv []string) running {
	t.Helper()
	for _, dir := range []string{c.Scratch, c.State, c.Door} {
		if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(c.Door, "note"), []byte("from kettled"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := &transcript{}
	c.Output = out
	before := time.Now()
	s, err := sandbox.Create(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, s, c) })
	created := time.Now()
	if s.Runtime() != "" {
		t.Errorf("a runtime before there is one: %s", s.Runtime())
	}
	if err := s.Load(t.Context(), argv, []string{"JIT=credential"}); err != nil {
		t.Fatal(err)
	}
	t.Logf("created within %v, loaded within %v", created.Sub(before).Round(time.Millisecond), time.Since(created).Round(time.Millisecond))
	return running{s, c.ID, out}
}

// closeAll closes twice and demands that nothing is left but what the job has written.
func closeAll(t *testing.T, s *sandbox.Sandbox, c sandbox.Config) {
	t.Helper()
	before := time.Now()
	if err := errors.Join(s.Close(context.Background()), s.Close(context.Background())); err != nil { //nolint:usetesting // after the test
		t.Error(err)
	}
	t.Logf("closed within %v", time.Since(before).Round(time.Millisecond))
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), c.Scratch+"/") {
		t.Errorf("mounts left: %v\n%s", err, mounts)
	}
	if _, err := os.Stat("/sys/fs/cgroup/kettle/job-" + c.ID); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("cgroup left: %v", err)
	}
	if left, err := os.ReadDir(c.State); err != nil || len(left) > 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
	if err := os.RemoveAll(c.Scratch); err != nil {
		t.Error(err)
	}
}

func run(t *testing.T, c sandbox.Config, args ...string) running {
	t.Helper()
	r := load(t, c, args...)
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// patience is how long the slowest step may take where instructions are emulated.
const patience = time.Minute

// wait gives the exit code and ends the sandbox, so that its output is complete.
func (r running) wait(t *testing.T) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	code, err := r.Wait(ctx)
	if err := errors.Join(err, r.Kill(ctx)); err != nil {
		t.Fatalf("%v; it said:\n%s", err, r.out)
	}
	return code
}

// until waits for words of the job.
func (r running) until(t *testing.T, words string) {
	t.Helper()
	for end := time.Now().Add(patience); !strings.Contains(r.out.String(), words); {
		select {
		case <-r.Done():
			end = time.Now().Add(min(time.Until(end), time.Second)) // what is still in the pipe
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("no %q; it said:\n%s", words, r.out)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// group is a file of the sandbox's outer cgroup.
func (r running) group(name string) string { return "/sys/fs/cgroup/kettle/job-" + r.id + "/" + name }

// inside is where a path of the sandbox lies outside.
func (r running) inside(t *testing.T, name string) string {
	t.Helper()
	for _, v := range r.Volumes() {
		if rest, ok := strings.CutPrefix(name, strings.TrimSuffix(v.Inside, "/")+"/"); ok {
			return filepath.Join(v.Outside, rest)
		}
	}
	t.Fatalf("%s is in no volume of %v", name, r.Volumes())
	return ""
}

func TestGuestRun(t *testing.T) {
	if !in(t, small) {
		return
	}
	for id, c := range map[string]sandbox.Config{
		"crun": strict("crun"), "runc": strict("runc"), "docker-crun": docker("docker-crun"), "docker-runc": docker("docker-runc"),
	} {
		t.Run(id, func(t *testing.T) {
			if strings.HasSuffix(id, "runc") {
				c.Runtimes = []string{runc}
			}
			r := load(t, c, "describe", "7")
			peer := door(t, c.Door+"/door.sock")
			ns, err := r.NetNS()
			if err != nil {
				t.Fatal(err)
			}
			_ = ns.Close()
			if said := r.out.String(); said != "" {
				t.Errorf("it ran before it was started: %s", said)
			}
			forgotten(t, c.State, "JIT=credential")
			if err := r.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if code := r.wait(t); code != 7 {
				t.Errorf("exit code %d", code)
			}
			forgotten(t, c.State, "JIT=credential")
			described(t, r, c)
			if cg := <-peer; !strings.HasPrefix(cg, "0::/kettle/job-"+id+"/") {
				t.Errorf("the door's peer is in %q", cg)
			}
			if want := map[string]string{crun: "crun 1.", runc: "runc 1."}[c.Runtimes[0]]; !strings.HasPrefix(r.Runtime(), want) {
				t.Errorf("runtime %q", r.Runtime())
			}
			if n, left := r.Leftovers(); n != 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

// described reads what the job found.
func described(t *testing.T, r running, c sandbox.Config) {
	t.Helper()
	lines := []string{
		"uid 1001 gid 1001 groups [27 998]", "hostname runner", "cwd " + sandbox.RunnerRoot, "JIT=credential", "HOME=/home/runner",
		"ACTIONS_RUNNER_HOOK_JOB_STARTED=/usr/lib/kettle/started.sh", "note from kettled", `/etc/resolv.conf "nameserver 100.96.0.1\n"`,
		`/etc/hosts "127.0.0.1 localhost runner\n::1 localhost ip6-localhost\n"`, `/home/runner/.profile "of the image\n"`, "door open",
		"interfaces lo", "suid root", "orphans reaped", "runner root writable", "image writable by overlay only: permission denied",
		"/tmp mode 41777 uid 0 type 58465342", "/home/runner mode 40755 uid 1001 type 58465342", "/var/tmp mode 41777 uid 0 type 794c7630",
		"/var mode 40755 uid 0 type 794c7630",
	}
	if c.Profile == sandbox.Docker {
		lines = append(lines, "cgroup 0::/init", "/var/lib/docker mode 40711 uid 0 type 58465342",
			"/var/lib/containers mode 40755 uid 0 type 58465342", "open /dev/fuse true", "open /dev/net/tun true")
	} else {
		lines = append(lines, "cgroup 0::/", "open /dev/fuse false", "open /dev/net/tun false")
	}
	for _, line := range lines {
		if !strings.Contains(r.out.String(), line+"\n") {
			t.Errorf("no %q", line)
		}
	}
	if t.Failed() {
		t.Log(r.out)
	}
}

// forgotten demands that no file of kettled's own folders below dir holds text.
func forgotten(t *testing.T, dir, text string) {
	t.Helper()
	looked := 0
	err := filepath.WalkDir(dir, func(name string, entry os.DirEntry, err error) error {
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
	if err != nil || looked == 0 {
		t.Errorf("%d files, %v: this test looks in the wrong place", looked, err)
	}
}

// door greets one client and gives its cgroup, while it is still there.
func door(t *testing.T, path string) <-chan string {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	peer := make(chan string, 1)
	go func() {
		defer close(peer)
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
			if err != nil || cred.Uid != 1<<20+sandbox.User {
				return
			}
			cg, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", cred.Pid))
			peer <- string(cg)
		})
		_, _ = conn.Write([]byte("open"))
	}()
	return peer
}

func TestGuestVolumes(t *testing.T) {
	if !in(t, small) {
		return
	}
	r := run(t, docker("places"), "write")
	r.until(t, "written")
	for name, text := range map[string]string{
		"/home/runner/actions-runner/_work/out": "of the workspace", "/tmp/out": "of the temporary folder", "/var/tmp/out": "of the overlay",
	} {
		outside := r.inside(t, name)
		if got, err := os.ReadFile(outside); err != nil || string(got) != text {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		clone(t, outside)
	}
	// Nothing of the image's or kettled's looks like the job's.
	if entries, err := os.ReadDir("/scratch/places/upper"); err != nil || len(entries) != 1 || entries[0].Name() != "var" {
		t.Errorf("upper layer: %v, %v", entries, err)
	}
	last := r.Volumes()[len(r.Volumes())-1]
	if last.Inside != "/" || last.Outside != "/scratch/places/upper" {
		t.Errorf("last %v", last)
	}
}

// clone has the file system copy a file without its bytes (ioctl_ficlone(2)).
func clone(t *testing.T, name string) {
	t.Helper()
	from, err := os.Open(name)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = from.Close() }()
	to, err := os.Create("/scratch/clone")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = to.Close() }()
	if err := unix.IoctlFileClone(int(to.Fd()), int(from.Fd())); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

func TestGuestFreeze(t *testing.T) {
	if !in(t, small) {
		return
	}
	for _, runtime := range []string{crun, runc} {
		t.Run(filepath.Base(runtime), func(t *testing.T) {
			c := strict("freeze-" + filepath.Base(runtime))
			c.Runtimes = []string{runtime}
			freeze(t, run(t, c, "tick"))
		})
	}
}

func freeze(t *testing.T, r running) {
	t.Helper()
	r.until(t, "ticking")
	counter := r.inside(t, "/tmp/counter")
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
	if n, left := r.Leftovers(); n != 1 || left[0].Name != "Runner.Listener" || left[0].PID < 3 {
		t.Errorf("left %d, %v", n, left)
	}
}

// Where the first runtime cannot make the sandbox, the next one does.
func TestGuestFallBack(t *testing.T) {
	if !in(t, small) {
		return
	}
	broken := "/run/broken"
	script := "#!/bin/sh\ncase $1 in --version) echo 'crun version 1.14.1\n+SECCOMP +CAP +EBPF' ;; *) echo no cgroups here >&2; exit 1 ;; esac\n"
	if err := os.WriteFile(broken, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	c := strict("fallback")
	c.Runtimes = []string{"/usr/bin/none", broken, runc, crun}
	r := run(t, c, "describe", "0")
	if code := r.wait(t); code != 0 || !strings.HasPrefix(r.Runtime(), "runc ") {
		t.Errorf("%s: code %d\n%s", r.Runtime(), code, r.out)
	}
}

func TestGuestBadProgram(t *testing.T) {
	if !in(t, small) {
		return
	}
	r := load(t, strict("bad"), "describe", "0")
	if err := r.Load(t.Context(), []string{"true"}, nil); err == nil {
		t.Error("loaded twice")
	}
	if err := os.Remove("/run/state-bad/crun-0/job-bad/exec.fifo"); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "running crun start") || strings.Contains(err.Error(), `{"msg"`) {
		t.Errorf("got %v", err)
	}
}
