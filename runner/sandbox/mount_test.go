// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// imageTree makes the least image: what fill needs, and a runner program of one file and one link.
func imageTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"etc", "tmp", "var/tmp", "home", "opt/runner/bin", "run", "proc", "sys", "dev"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "opt/runner/bin/Runner.Listener": "#!/bin/sh\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"etc/resolv.conf": "/run/resolved/stub.conf", "opt/runner/run": "bin/Runner.Listener"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// passable makes a folder below /tmp that everybody may pass through, unlike t.TempDir's.
func passable(t *testing.T) string {
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
	c.Image, c.Runner, c.Scratch = imageTree(t), "/opt/runner", passable(t)
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
	for name, want := range map[string]struct {
		uid  uint32
		mode uint32
	}{
		"etc/passwd":                            {idBase, unix.S_IFREG | 0o755}, // the image's own, id-mapped
		"tmp":                                   {idBase, unix.S_IFDIR | unix.S_ISVTX | 0o777},
		"etc/hosts":                             {idBase, unix.S_IFREG | 0o644},
		"etc/hostname":                          {idBase, unix.S_IFREG | 0o644},
		"home/runner":                           {idBase + User, unix.S_IFDIR | 0o755},
		RunnerRoot[1:]:                          {idBase + User, unix.S_IFDIR | 0o755},
		RunnerRoot[1:] + "/bin/Runner.Listener": {idBase + User, unix.S_IFREG | 0o755},
		RunnerRoot[1:] + "/run":                 {idBase + User, unix.S_IFLNK | 0o777},
		"etc/resolv.conf":                       {idBase, unix.S_IFREG | 0o644},
	} {
		info, err := os.Lstat(filepath.Join(s.Root(), name))
		if err != nil {
			t.Error(err)
			continue
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || st.Uid != want.uid || st.Gid != want.uid || st.Mode != want.mode {
			t.Errorf("%s: got uid %d, mode %#o; want %d, %#o", name, st.Uid, st.Mode, want.uid, want.mode)
		}
	}
	hosts, err := os.ReadFile(filepath.Join(s.Root(), "etc/hosts"))
	if err != nil || !strings.Contains(string(hosts), "100.96.0.1 api.github.demo.test\n") {
		t.Errorf("got %q, %v", hosts, err)
	}
	if err := os.WriteFile(filepath.Join(c.Scratch, "image/etc/passwd"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("the image is writable: %v", err)
	}
	if _, err := os.Stat(filepath.Join(c.Image, "home/runner")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the image was written to: %v", err)
	}
	notLoaded(t, s)
}

// notLoaded asks a sandbox without a process for everything.
func notLoaded(t *testing.T, s *Sandbox) {
	t.Helper()
	_, waitErr := s.Wait(t.Context())
	_, nsErr := s.NetNS()
	for name, err := range map[string]error{
		"start": s.Start(t.Context()), "freeze": s.Freeze(t.Context()), "thaw": s.Thaw(t.Context()), "wait": waitErr, "netns": nsErr,
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
	c.Image, c.Runner, c.Scratch = imageTree(t), "/opt/none", passable(t)
	s, err := Create(t.Context(), c)
	if errors.Is(err, unix.EPERM) {
		t.Skipf("mounting needs root: %v", err)
	}
	if s != nil || !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %v, %v", s, err)
	}
	left, err := os.ReadDir(c.Scratch)
	if err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestCrunMessages(t *testing.T) {
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
