// SPDX-License-Identifier: Apache-2.0

package beneath_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/runner/beneath"
)

// folder makes a directory with one of everything and opens it.
func folder(t *testing.T) (int, string) {
	t.Helper()
	dir := t.TempDir()
	fatal(t, os.MkdirAll(filepath.Join(dir, "sub/deep"), 0o755))
	fatal(t, os.WriteFile(filepath.Join(dir, "sub/f"), []byte("text"), 0o600))
	for link, target := range map[string]string{"link": "sub/f", "sub/dirlink": "deep", "out": "/etc", "magic": "/proc/self/root"} {
		fatal(t, os.Symlink(target, filepath.Join(dir, link)))
	}
	fatal(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	fatal(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd, dir
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestStat(t *testing.T) {
	t.Parallel()
	dir, _ := folder(t)
	for name, want := range map[string]any{
		"sub/f": uint32(unix.S_IFREG), "/sub/f": uint32(unix.S_IFREG), "": uint32(unix.S_IFDIR), "/": uint32(unix.S_IFDIR), "sub": uint32(unix.S_IFDIR),
		"fifo": uint32(unix.S_IFIFO), "link": uint32(unix.S_IFLNK), "sub/../sub/f": uint32(unix.S_IFREG), "none": unix.ENOENT, "sub/f/x": unix.ENOTDIR,
		"link/": unix.ELOOP, "sub/dirlink/x": unix.ELOOP, "out/passwd": unix.ELOOP, "magic/etc": unix.ELOOP, "..": unix.EXDEV, "sub/../../x": unix.EXDEV,
	} {
		st, err := beneath.Stat(dir, name)
		if kind, ok := want.(uint32); ok && (err != nil || st.Mode&unix.S_IFMT != kind) {
			t.Errorf("%q: got mode %#o, %v", name, st.Mode, err)
		}
		if wanted, ok := want.(error); ok && !errors.Is(err, wanted) {
			t.Errorf("%q: got %v, want %v", name, err, wanted)
		}
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	dir, path := folder(t)
	st, err := beneath.Stat(dir, "sub/f")
	fatal(t, err)
	f, err := beneath.Read(dir, "sub/f", st)
	fatal(t, err)
	defer f.Close()
	if text, err := io.ReadAll(f); err != nil || string(text) != "text" {
		t.Errorf("got %q, %v", text, err)
	}
	for _, name := range []string{"fifo", "link", "sub"} {
		st, err := beneath.Stat(dir, name)
		fatal(t, err)
		if _, err := beneath.Read(dir, name, st); !errors.Is(err, beneath.ErrNotRegular) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	fatal(t, os.WriteFile(filepath.Join(path, "sub/f"), []byte("longer text"), 0o600))
	if _, err := beneath.Read(dir, "sub/f", st); !errors.Is(err, beneath.ErrChanged) {
		t.Errorf("written to: got %v", err)
	}
	if _, err := beneath.Read(dir, "sub/none", st); !errors.Is(err, unix.ENOENT) {
		t.Errorf("removed: got %v", err)
	}
	fatal(t, os.Remove(filepath.Join(path, "sub/f")))
	fatal(t, unix.Mkfifo(filepath.Join(path, "sub/f"), 0o600))
	if _, err := beneath.Read(dir, "sub/f", st); !errors.Is(err, beneath.ErrChanged) {
		t.Errorf("a FIFO now: got %v", err)
	}
}

// Whoever holds a write lease makes others wait for it, up to /proc/sys/fs/lease-break-time (45 s).
func TestReadLeased(t *testing.T) {
	t.Parallel()
	dir, path := folder(t)
	st, err := beneath.Stat(dir, "sub/f")
	fatal(t, err)
	holder, err := os.OpenFile(filepath.Join(path, "sub/f"), os.O_RDWR, 0)
	fatal(t, err)
	defer holder.Close()
	if _, err := unix.FcntlInt(holder.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Fatalf("taking a lease: %v", err)
	}
	before := time.Now()
	if _, err := beneath.Read(dir, "sub/f", st); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(before); took > 10*time.Second {
		t.Errorf("waited %v", took)
	}
}

func TestWhiteout(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		st   unix.Stat_t
		want bool
	}{
		"whiteout":     {unix.Stat_t{Mode: unix.S_IFCHR}, true},
		"null device":  {unix.Stat_t{Mode: unix.S_IFCHR | 0o666, Rdev: unix.Mkdev(1, 3)}, false},
		"block device": {unix.Stat_t{Mode: unix.S_IFBLK}, false},
		"empty file":   {unix.Stat_t{Mode: unix.S_IFREG}, false},
	} {
		if got := beneath.Whiteout(tc.st); got != tc.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestDir(t *testing.T) {
	t.Parallel()
	dir, path := folder(t)
	want := []string{fmt.Sprint("bad\xff name\n", unix.DT_REG), fmt.Sprint(strings.Repeat("n", 255), unix.DT_REG)}
	fatal(t, os.Mkdir(filepath.Join(path, "many"), 0o755))
	fatal(t, os.Mkdir(filepath.Join(path, "many/dir"), 0o755))
	want = append(want, fmt.Sprint("dir", unix.DT_DIR))
	for _, name := range []string{"bad\xff name\n", strings.Repeat("n", 255)} {
		fatal(t, os.WriteFile(filepath.Join(path, "many", name), nil, 0o600))
	}
	for i := range 3000 {
		name := fmt.Sprintf("file-%04d", i)
		fatal(t, os.WriteFile(filepath.Join(path, "many", name), nil, 0o600))
		want = append(want, fmt.Sprint(name, unix.DT_REG))
	}
	d, err := beneath.OpenDir(dir, "many")
	fatal(t, err)
	defer d.Close()
	var got []string
	for {
		entries, err := d.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		fatal(t, err)
		for _, e := range entries {
			got = append(got, fmt.Sprint(e.Name, e.Type))
		}
	}
	sort.Strings(got)
	sort.Strings(want)
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %d entries, want %d", len(got), len(want))
	}
	sub, err := beneath.OpenDir(d.FD(), "dir")
	fatal(t, err)
	sub.Close()
	for name, want := range map[string]error{"sub/f": unix.ENOTDIR, "sub/dirlink": unix.ELOOP, "none": unix.ENOENT} {
		if _, err := beneath.OpenDir(dir, name); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
}
