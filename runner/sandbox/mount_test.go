// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// imageTree makes the least image: what fill needs, and a runner program of one file and one link.
func imageTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"etc", "tmp", "var/tmp", "home/runner", "opt/runner/bin", "run", "proc", "sys", "dev"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "opt/runner/bin/Runner.Listener": "#!/bin/sh\n", "home/runner/.profile": "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"etc/resolv.conf": "/run/resolved/stub.conf", "opt/runner/run": "bin/Runner.Listener"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "var"), 0o750); err != nil {
		t.Fatal(err)
	}
	return dir
}

// open makes a folder below /tmp that everybody may pass through, unlike t.TempDir's.
func open(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "kettle-sandbox-") //nolint:usetesting // t.TempDir is closed to others.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestCreateAndClose(t *testing.T) {
	t.Parallel()
	c := valid(t)
	c.Image, c.Runner, c.Scratch, c.State, c.Door = imageTree(t), "/opt/runner", open(t), open(t), open(t)
	s, err := Create(t.Context(), c)
	if errors.Is(err, unix.EPERM) {
		t.Skipf("mounting needs root: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Close(t.Context()), s.Close(t.Context())); err != nil { //nolint:usetesting // cancelled is fine
			t.Error(err)
		}
	})
	type place struct {
		dir, name string
		uid, mode uint32
	}
	home, runner := c.volume("home"), RunnerRoot[len(Home)+1:]
	for _, want := range []place{
		{s.Root(), "etc/passwd", idBase, unix.S_IFREG | 0o755}, // the image's own, id-mapped
		{s.Root(), "var/tmp", idBase, unix.S_IFDIR | unix.S_ISVTX | 0o777},
		{s.Root(), "var", idBase, unix.S_IFDIR | 0o750}, // as in the image, although kettled has files in it
		{s.Root(), "etc/hosts", idBase, unix.S_IFREG | 0o644},
		{s.Root(), "etc/hostname", idBase, unix.S_IFREG | 0o644},
		{s.Root(), "etc/resolv.conf", idBase, unix.S_IFREG | 0o644},
		{s.Root(), "home/runner", idBase, unix.S_IFDIR | 0o755}, // to mount on
		{s.Root(), "tmp", idBase, unix.S_IFDIR | unix.S_ISVTX | 0o777},
		{c.layer("upper"), ".", idBase, unix.S_IFDIR | 0o755},
		{c.volume("tmp"), ".", idBase, unix.S_IFDIR | unix.S_ISVTX | 0o777},
		{home, ".", idBase + User, unix.S_IFDIR | 0o755},
		{home, ".profile", idBase + User, unix.S_IFREG | 0o755},
		{home, runner, idBase + User, unix.S_IFDIR | 0o755},
		{home, runner + "/bin/Runner.Listener", idBase + User, unix.S_IFREG | 0o755},
		{home, runner + "/run", idBase + User, unix.S_IFLNK | 0o777},
	} {
		info, err := os.Lstat(filepath.Join(want.dir, want.name))
		if err != nil {
			t.Error(err)
			continue
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if got := (place{want.dir, want.name, st.Uid, st.Mode}); !ok || st.Gid != want.uid || got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	resolver, err := os.ReadFile(filepath.Join(s.Root(), "etc/resolv.conf"))
	if err != nil || string(resolver) != "nameserver 100.96.0.1\n" {
		t.Errorf("got %q, %v", resolver, err)
	}
	if left, err := os.ReadDir(c.layer("upper")); err != nil || len(left) != 0 {
		t.Errorf("kettled's own files look like the job's: %v, %v", left, err)
	}
	if err := os.WriteFile(filepath.Join(c.Scratch, "image/etc/passwd"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("the image is writable: %v", err)
	}
	if entries, err := os.ReadDir(filepath.Join(c.Image, "home/runner")); err != nil || len(entries) != 1 {
		t.Errorf("the image was written to: %v, %v", entries, err)
	}
	wantVolumes := []Volume{
		{Home, home}, {"/tmp", c.volume("tmp")}, {"/", c.layer("upper")},
	}
	if got := s.Volumes(); !slices.Equal(got, wantVolumes) {
		t.Errorf("got %v", got)
	}
	notLoaded(t, s)
}

// notLoaded asks a sandbox without a process for everything.
func notLoaded(t *testing.T, s *Sandbox) {
	t.Helper()
	_, waitErr := s.Wait(t.Context())
	_, nsErr := s.NetNS()
	_, memoryErr := s.OutOfMemory()
	for name, err := range map[string]error{
		"start": s.Start(t.Context()), "freeze": s.Freeze(t.Context()), "thaw": s.Thaw(t.Context()), "wait": waitErr, "netns": nsErr, "memory": memoryErr,
	} {
		if !errors.Is(err, ErrNotLoaded) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := s.Kill(t.Context()); err != nil {
		t.Errorf("kill: got %v", err)
	}
	if s.Done() != nil {
		t.Error("done before it was loaded")
	}
}

func TestCreateLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	c := valid(t)
	c.Image, c.Runner, c.Scratch, c.State, c.Door = imageTree(t), "/opt/none", open(t), open(t), open(t)
	s, err := Create(t.Context(), c)
	if errors.Is(err, unix.EPERM) {
		t.Skipf("mounting needs root: %v", err)
	}
	if s != nil || !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %v, %v", s, err)
	}
	for _, dir := range []string{c.Scratch, c.State} {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 0 {
			t.Errorf("left %v, %v", left, err)
		}
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "log")
	text := `{"msg":"mount '/run' to 'run': Permission denied","level":"error","time":"2026-01-01T00:00:00Z"}` + "\nplain text\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := messages(file); got == nil || got.Error() != "mount '/run' to 'run': Permission denied\nplain text" {
		t.Errorf("got %v", got)
	}
	if got := messages(file + ".none"); got != nil {
		t.Errorf("got %v", got)
	}
}
