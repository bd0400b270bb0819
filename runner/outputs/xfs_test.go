// SPDX-License-Identifier: Apache-2.0

package outputs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/runner/outputs"
)

// needRoot skips where this machine does not let the tests mount anything.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
}

// mountXFS mounts a fresh XFS, which can share blocks between files as the sandbox's scratch can.
func mountXFS(t testing.TB, size int64) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	target, image := filepath.Join(dir, "xfs"), filepath.Join(dir, "image")
	if memory, err := os.MkdirTemp("/dev/shm", "kettle-outputs-"); err == nil && size < 1<<30 { //nolint:usetesting // memory, like the job's disk.
		t.Cleanup(func() { _ = os.RemoveAll(memory) })
		image = filepath.Join(memory, "image")
	}
	fatal(t, os.WriteFile(image, nil, 0o600))
	fatal(t, os.Truncate(image, size))
	fatal(t, os.Mkdir(target, 0o755))
	mkfs, err := exec.LookPath("mkfs.xfs")
	if err != nil {
		t.Skipf("no XFS here: %v", err)
	}
	run(t, mkfs, "-q", "-m", "reflink=1", image)
	run(t, "mount", "-o", "loop", "-t", "xfs", image, target)
	t.Cleanup(func() {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return target
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// snapshots is a sandbox on XFS: "/" and /home/runner are volumes, and kettled has a folder for snapshots beside them.
func snapshots(t testing.TB) (c outputs.Config, ws string) {
	t.Helper()
	return snapshotsOn(t, mountXFS(t, 512<<20))
}

func snapshotsOn(t testing.TB, disk string) (c outputs.Config, ws string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(disk, name) }
	for _, d := range []string{"upper", "home", "private"} {
		fatal(t, os.Mkdir(at(d), 0o700))
	}
	ws = at("home/_work/widget")
	fatal(t, os.MkdirAll(ws, 0o755))
	c = config(at("upper"))
	c.Volumes = append(c.Volumes, outputs.Volume{Inside: "/home/runner", Outside: at("home")})
	c.FileSystems, c.Snapshots = []string{"xfs"}, at("private")
	return c, ws
}

// mount mounts for the time of the test.
func mount(t testing.TB, source, target, kind string, options ...string) {
	t.Helper()
	needRoot(t)
	data, flags := "", uintptr(unix.MS_NODEV)
	switch {
	case kind == "bind":
		kind, flags = "", unix.MS_BIND
	case len(options) > 0:
		data = options[0]
	}
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		t.Fatalf("mounting %s on %s: %v", source, target, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// silentFUSE mounts a FUSE file system whose server never answers. hung tells whether f came back without its help.
func silentFUSE(t testing.TB, target string, mode uint32) (hung func(f func()) bool) {
	t.Helper()
	needRoot(t)
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no FUSE here: %v", err)
	}
	mount(t, "silent", target, "fuse", fmt.Sprintf("fd=%d,rootmode=%o,user_id=0,group_id=0", fd, mode))
	hangUp := func() {
		if fd >= 0 {
			_ = unix.Close(fd) // every waiting request now fails
		}
		fd = -1
	}
	t.Cleanup(hangUp)
	return func(f func()) bool {
		done := make(chan struct{})
		go func() {
			defer close(done)
			f()
		}()
		select {
		case <-done:
			return false
		case <-time.After(5 * time.Second):
			hangUp()
			<-done
			return true
		}
	}
}
