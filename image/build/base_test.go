// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/image"
)

func TestAttackRaiseRights(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(root string) error{
		"another program with setuid": func(root string) error {
			return os.Chmod(write(t, filepath.Join(root, "usr/bin/su"), "", 0o755), fs.ModeSetuid|0o755)
		},
		"another program with setgid": func(root string) error {
			return os.Chmod(write(t, filepath.Join(root, "usr/bin/wall"), "", 0o755), fs.ModeSetgid|0o755)
		},
		"the same name elsewhere": func(root string) error {
			return os.Chmod(write(t, filepath.Join(root, "opt/usr/bin/sudo"), "", 0o755), fs.ModeSetuid|0o755)
		},
		"another profile's program": func(root string) error {
			return os.Chmod(write(t, filepath.Join(root, "usr/bin/newuidmap"), "", 0o755), fs.ModeSetuid|0o755)
		},
		"capabilities": func(root string) error { // VFS_CAP_REVISION_2, effective, CAP_NET_RAW (linux/capability.h)
			value := make([]byte, 20)
			value[0], value[3], value[5] = 1, 2, 0x20
			err := unix.Setxattr(write(t, filepath.Join(root, "usr/bin/ping"), "", 0o755), "security.capability", value, 0)
			if errors.Is(err, unix.EPERM) {
				t.Skip("only root can give capabilities")
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			must(t, os.Chmod(write(t, filepath.Join(root, "usr/bin/sudo"), "", 0o755), fs.ModeSetuid|0o755))
			must(t, refuseRaisers(root, Strict.raisers()))
			must(t, spoil(root))
			if err := refuseRaisers(root, Strict.raisers()); err == nil {
				t.Error("it may raise rights")
			}
		})
	}
	root := t.TempDir()
	must(t, os.Chmod(write(t, filepath.Join(root, "usr/bin/newuidmap"), "", 0o755), fs.ModeSetuid|0o755))
	must(t, refuseRaisers(root, Docker.raisers()))
}

func TestKeepBase(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	const digits = "0123456789abcdef"
	kinds := map[string]string{}
	for name, system := range map[string]System{
		"strict": {Profile: Strict}, "docker": {Profile: Docker}, "more": {Profile: Strict, Packages: []string{"gcc"}},
	} {
		kinds[name] = system.kind()
		write(t, filepath.Join(cache, system.kind()+digits, "file"), "old", 0o600)
	}
	write(t, filepath.Join(cache, "base-work-1", "tree", "file"), "new", 0o600)
	must(t, keepBase(filepath.Join(cache, "base-work-1", "tree"), filepath.Join(cache, kinds["strict"]+"fedcba9876543210")))
	if text, err := os.ReadFile(filepath.Join(cache, kinds["strict"]+"fedcba9876543210", "file")); err != nil || string(text) != "new" {
		t.Errorf("got %q, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(cache, kinds["strict"]+digits)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("another recipe's system is still there: %v", err)
	}
	for _, other := range []string{"docker", "more"} {
		if _, err := os.Stat(filepath.Join(cache, kinds[other]+digits)); err != nil {
			t.Errorf("the system of another kind is gone: %v", err)
		}
	}
}

func TestRecipe(t *testing.T) {
	t.Parallel()
	seen := map[image.SHA256]bool{}
	for _, p := range []Profile{Strict, Docker} {
		for _, lock := range []image.SHA256{{1}, {2}} {
			digest, err := System{Profile: p}.recipe(lock)
			must(t, err)
			if seen[digest] {
				t.Errorf("%s of lock %s has another's recipe", p, lock)
			}
			seen[digest] = true
		}
	}
}

func TestLockPath(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, system := range []System{
		{Profile: Strict}, {Profile: Docker}, {Profile: Strict, Packages: []string{"gcc"}}, {Profile: Strict, Packages: []string{"gcc", "make"}},
	} {
		for _, replaced := range []image.SHA256{{}, {1}} {
			path := system.lockPath("/cache", replaced)
			if seen[path] {
				t.Errorf("%v: another's lock", system)
			}
			seen[path] = true
		}
	}
	if !seen[System{Profile: Strict, Packages: []string{"make", "gcc", "git"}}.lockPath("/cache", image.SHA256{})] {
		t.Error("the order of packages counts, or one that is there anyway")
	}
}

func TestProfile(t *testing.T) {
	t.Parallel()
	for _, p := range []Profile{"", "Strict", "strict ", "none"} {
		if err := p.Validate(); err == nil {
			t.Errorf("%q was accepted", p)
		}
		if _, err := Base(t.Context(), t.TempDir(), Mirror{}, System{Profile: p}); err == nil || !strings.Contains(err.Error(), "profile") {
			t.Errorf("%q: a base system was made: %v", p, err)
		}
		if _, err := WriteInitrd(t.Context(), io.Discard, Initrd{Profile: p}); err == nil || !strings.Contains(err.Error(), "profile") {
			t.Errorf("%q: an initrd was made: %v", p, err)
		}
	}
	for _, p := range []Profile{Strict, Docker} {
		for _, program := range p.raisers() {
			if !strings.Contains(p.customize(), " ! -path "+program+" ") {
				t.Errorf("%s: %s is lowered", p, program)
			}
		}
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	unlock, err := lock(t.Context(), cache)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := lock(ctx, cache); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("locked twice: %v", err)
	}
	must(t, unlock())
	again, err := lock(t.Context(), cache)
	must(t, err)
	must(t, again())
}

func TestPruneUnused(t *testing.T) {
	t.Parallel()
	cache, now := t.TempDir(), time.Now()
	for name, age := range map[string]time.Duration{"packages/a": 0, "packages/b": 2 * unused, "unpacked-a/x": 0, "unpacked-b/x": 2 * unused, "runner-b/x": 2 * unused, "base-b/x": 2 * unused} {
		path := write(t, filepath.Join(cache, name), "", 0o600)
		must(t, errors.Join(os.Chtimes(path, now.Add(-age), now.Add(-age)), os.Chtimes(filepath.Dir(path), now.Add(-age), now.Add(-age))))
	}
	must(t, touch(filepath.Join(cache, "runner-b")))
	must(t, pruneUnused(cache, now))
	for name, kept := range map[string]bool{"packages/a": true, "packages/b": false, "unpacked-a/x": true, "unpacked-b": false, "runner-b/x": true, "base-b/x": true} {
		if _, err := os.Stat(filepath.Join(cache, name)); kept != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPruneRoots(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	for i, name := range []string{"a", "b", "c", "d", "e", "f"} {
		path := write(t, filepath.Join(cache, "root-"+name+".erofs"), "", 0o600)
		must(t, os.Chtimes(path, time.Unix(int64(i), 0), time.Unix(int64(i), 0)))
	}
	must(t, pruneRoots(cache))
	left, err := filepath.Glob(filepath.Join(cache, "root-*"))
	must(t, err)
	if len(left) != keptRoots || filepath.Base(left[0]) != "root-c.erofs" {
		t.Errorf("left: %v", left)
	}
}

// TestRoot packs a system that is in the cache, with one file more.
func TestRoot(t *testing.T) {
	t.Parallel()
	cache, err := CacheDir(os.Getenv)
	must(t, err)
	system := System{Profile: Strict}
	chosen, err := system.chooseLock(t.Context(), cache, FindMirror(t.Context(), os.Getenv))
	must(t, err)
	here := holdsBase(system.basePath(cache, chosen.recipe))
	if required := os.Getenv("KETTLE_REQUIRE_VM") == "1"; !required && (!here || os.Geteuid() != 0) {
		t.Skip("it takes root and a base system, which scripts/build-image makes")
	}
	output := filepath.Join(t.TempDir(), "root.erofs")
	must(t, Root(t.Context(), RootConfig{
		Cache: cache, Mirror: FindMirror(t.Context(), os.Getenv), System: System{Profile: Strict}, Output: output,
		Trees: []Tree{{Source: write(t, filepath.Join(t.TempDir(), "note"), "one file more", 0o600), Target: "/usr/lib/kettle/note"}},
	}))
	for _, path := range []string{"/usr/lib/kettle/note", image.MakeXFS, image.ScratchDir, "/usr/bin/crun"} {
		if _, err := run(t.Context(), tool{name: "dump.erofs", args: []string{"--path=" + path, output}}); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}
