// SPDX-License-Identifier: Apache-2.0

package diag

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/internal/secret"
)

// prize is what a job must not get into the archive.
const prize = "the supervisor's own file"

// skipped gives why something is not in the archive.
func skipped(r *Report, name string) string {
	for _, s := range r.Skipped {
		if s.Name == name {
			return s.Reason
		}
	}
	return ""
}

// without demands that no member has the prize.
func without(t *testing.T, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if strings.Contains(text, prize) {
			t.Errorf("%s has it", name)
		}
	}
}

// The job owns the folder and everything on the way to it; kettled's own files are the prize.
func TestAttackLinks(t *testing.T) {
	t.Parallel()
	folder, dir := runnerFolder(t, map[string]string{"Runner_1.log": "a log\n", "sub/f": "text"})
	outside := filepath.Join(t.TempDir(), "prize")
	fatal(t, os.WriteFile(outside, []byte(prize), 0o600))
	for name, target := range map[string]string{
		"absolute": outside, "relative": "../../../" + filepath.Base(filepath.Dir(outside)) + "/prize", "magic": "/proc/self/environ", "rootlink": "/", "up": "..",
		"sub/again": "../sub", "Worker_1.log": outside, "loop": "loop",
	} {
		fatal(t, os.Symlink(target, filepath.Join(dir, name)))
	}
	files, report := collected(t.Context(), t, Sources{Runner: folder}, DefaultLimits())
	without(t, files)
	if len(files) != 2 {
		t.Errorf("got %d files", len(files))
	}
	for _, name := range []string{"absolute", "relative", "magic", "rootlink", "up", "sub/again", "Worker_1.log", "loop"} {
		if got := skipped(report, "runner/"+name); got != "a symbolic link" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestAttackLinkedFolder(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	fatal(t, os.MkdirAll(filepath.Join(outside, "_diag"), 0o755))
	fatal(t, os.WriteFile(filepath.Join(outside, "_diag/Runner_1.log"), []byte(prize), 0o600))
	for name, swap := range map[string]func(volume string) error{
		"the folder": func(v string) error {
			return os.Symlink(filepath.Join(outside, "_diag"), filepath.Join(v, "actions-runner/_diag"))
		},
		"its parent": func(v string) error {
			fatal(t, os.Remove(filepath.Join(v, "actions-runner")))
			return os.Symlink(outside, filepath.Join(v, "actions-runner"))
		},
		"a file":  func(v string) error { return os.WriteFile(filepath.Join(v, "actions-runner/_diag"), nil, 0o600) },
		"a FIFO":  func(v string) error { return unix.Mkfifo(filepath.Join(v, "actions-runner/_diag"), 0o600) },
		"nothing": func(string) error { return nil },
	} {
		folder, dir := runnerFolder(t, nil)
		fatal(t, os.Remove(dir))
		fatal(t, swap(folder.Volume))
		files, report := collected(t.Context(), t, Sources{Runner: folder}, DefaultLimits())
		if len(files) > 0 || !strings.HasPrefix(skipped(report, "runner/"), "cannot be opened: ") {
			t.Errorf("%s: %v, %q", name, files, skipped(report, "runner/"))
		}
	}
	folder, _ := runnerFolder(t, nil)
	folder.Path = "../" + filepath.Base(outside) + "/_diag"
	if files, _ := collected(t.Context(), t, Sources{Runner: folder}, DefaultLimits()); len(files) > 0 {
		t.Errorf("out of the volume: %v", files)
	}
}

// A hard link has no target that could be told from the file: a second name is enough for not looking.
func TestAttackHardLink(t *testing.T) {
	t.Parallel()
	folder, dir := runnerFolder(t, map[string]string{"Runner_1.log": "a log\n"})
	outside := filepath.Join(folder.Volume, "prize")
	fatal(t, os.WriteFile(outside, []byte(prize), 0o600))
	fatal(t, os.Link(outside, filepath.Join(dir, "Worker_1.log")))
	files, report := collected(t.Context(), t, Sources{Runner: folder}, DefaultLimits())
	without(t, files)
	if got := skipped(report, "runner/Worker_1.log"); got != errLinked.Error() || len(files) != 1 {
		t.Errorf("got %q, %d files", got, len(files))
	}
}

// Opening a FIFO waits for a writer, opening a device has effects.
func TestAttackSpecialFiles(t *testing.T) {
	t.Parallel()
	folder, dir := runnerFolder(t, map[string]string{"zz.log": "a log\n"})
	want := map[string]string{"fifo": "a FIFO", "socket": "a socket"}
	fatal(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o666))
	fatal(t, unix.Mknod(filepath.Join(dir, "socket"), unix.S_IFSOCK|0o666, 0))
	if os.Geteuid() == 0 {
		for name, mode := range map[string]uint32{"zero": unix.S_IFCHR, "disk": unix.S_IFBLK} {
			fatal(t, unix.Mknod(filepath.Join(dir, name), mode|0o666, int(unix.Mkdev(1, 5))))
			want[name] = "a device"
		}
	}
	files, report := collected(t.Context(), t, Sources{Runner: folder}, DefaultLimits())
	for name, reason := range want {
		if got := skipped(report, "runner/"+name); got != reason {
			t.Errorf("%s: %q", name, got)
		}
	}
	if len(files) != 1 {
		t.Errorf("got %d files", len(files))
	}
}

// TestAttackSparseFile leaves a file of four terabytes of which nothing is there but its ends.
func TestAttackSparseFile(t *testing.T) {
	t.Parallel()
	folder, dir := runnerFolder(t, nil)
	const size = 4 << 40
	f, err := os.Create(filepath.Join(dir, "Worker_1.log"))
	fatal(t, err)
	defer f.Close()
	for where, text := range map[int64]string{0: "the beginning", 1 << 39: prize, size - 7: "the end"} {
		_, err = f.WriteAt([]byte(text), where)
		fatal(t, err)
	}
	files, report := collected(t.Context(), t, Sources{Runner: folder}, DefaultLimits())
	without(t, files)
	got := files["runner/Worker_1.log"]
	if !strings.HasPrefix(got, "the beginning") || !strings.HasSuffix(got, "the end") || !strings.Contains(got, "bytes were left out here]") {
		t.Errorf("got %d bytes", len(got))
	}
	if e := report.Members[0]; e.Size != size || e.Left < size-e.Kept {
		t.Errorf("got %+v", e)
	}
}

// TestAttackManyFiles hides the logs among others, deeper and deeper.
func TestAttackManyFiles(t *testing.T) {
	t.Parallel()
	files := map[string]string{"Runner_1.log": "the runner\n", "a/b/c/d/deepest": "seen", "a/b/c/d/e/f": "not seen"}
	for i := range 3000 {
		files[fmt.Sprintf("0/%04d", i)] = ""
	}
	folder, _ := runnerFolder(t, files)
	l := DefaultLimits()
	got, report := collected(t.Context(), t, Sources{Runner: folder}, l)
	if got["runner/Runner_1.log"] != "the runner\n" || len(got) != l.Files || len(report.Skipped) > maxSkipped {
		t.Errorf("got %d files, %d are named as skipped", len(got), len(report.Skipped))
	}
	if reason := skipped(report, "runner/a/b/c/d/e"); reason != "below 4 folders" {
		t.Errorf("got %q", reason)
	}
	l.Entries = 100
	_, report = collected(t.Context(), t, Sources{Runner: folder}, l)
	if !strings.Contains(fmt.Sprint(report.Skipped), "more than 100 names") {
		t.Errorf("got %+v", report.Skipped)
	}
}

// TestAttackNames uses names that a terminal obeys, that lead elsewhere when unpacked, that are alike, and that say what
// must not be said.
func TestAttackNames(t *testing.T) {
	t.Parallel()
	names := map[string]string{
		"new\nline":                   "runner/new%0Aline",
		"\x1b[2J\x1b]0;x\x07":         "runner/%1B%5B2J%1B%5D0%3Bx%07",
		"..x":                         "runner/%2E.x",
		".hidden":                     "runner/%2Ehidden",
		"...":                         "runner/%2E..",
		"\xff\u202e":                  "runner/%FF%E2%80%AE",
		"a b":                         "runner/a%20b",
		"a%20b":                       "runner/a%2520b",
		`C:\x`:                        "runner/C%3A%5Cx",
		"manifest.json":               "runner/manifest.json",
		"Worker_hunter2-ghs.log":      "runner/%masked-1",
		"aHVudGVyMi":                  "runner/%masked-2",
		strings.Repeat("n", 255):      "",
		strings.Repeat("n", 254):      "",
		strings.Repeat("\n", 40):      "",
		strings.Repeat("d/", 4) + "f": "runner/d/d/d/d/f",
	}
	files := map[string]string{}
	for name := range names {
		files[name] = fmt.Sprintf("text of %d bytes", len(name))
	}
	folder, _ := runnerFolder(t, files)
	got, _ := collected(t.Context(), t, Sources{Runner: folder, Secrets: []secret.String{secret.New("hunter2")}}, DefaultLimits())
	if len(got) != len(names) {
		t.Errorf("%d names became %d", len(names), len(got))
	}
	for name, want := range names {
		if want != "" && got[want] != fmt.Sprintf("text of %d bytes", len(name)) {
			t.Errorf("%q: no %q", name, want)
		}
	}
}

// TestAttackChangingFiles writes, cuts, replaces and removes while the archive is made.
func TestAttackChangingFiles(t *testing.T) {
	t.Parallel()
	folder, dir := runnerFolder(t, map[string]string{"Runner_1.log": strings.Repeat("line\n", 1<<18), "stays": "text"})
	outside := filepath.Join(t.TempDir(), "prize")
	fatal(t, os.WriteFile(outside, []byte(prize), 0o600))
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		name := filepath.Join(dir, "Runner_1.log")
		for i := 0; !stop.Load(); i++ {
			switch i % 5 {
			case 0:
				_ = os.WriteFile(name, []byte(strings.Repeat("grown\n", 1<<16)), 0o600)
			case 1:
				_ = os.Truncate(name, 10)
			case 2:
				_ = os.Remove(name)
				_ = os.Symlink(outside, name)
			case 3:
				_ = os.Remove(name)
				_ = unix.Mkfifo(name, 0o600)
			case 4:
				_ = os.Remove(name)
				_ = os.Mkdir(name, 0o755)
				_ = os.Remove(name)
			}
		}
	}()
	for range 40 {
		files, _ := collected(t.Context(), t, Sources{Runner: folder}, DefaultLimits())
		without(t, files)
		if files["runner/stays"] != "text" {
			t.Error("a file that stays is missing")
		}
	}
	stop.Store(true)
	<-done
}

// A lease makes whoever opens the file wait for its holder.
func TestAttackLease(t *testing.T) {
	t.Parallel()
	folder, dir := runnerFolder(t, map[string]string{"Runner_1.log": "a log\n"})
	holder, err := os.OpenFile(filepath.Join(dir, "Runner_1.log"), os.O_RDWR, 0)
	fatal(t, err)
	defer holder.Close()
	if _, err := unix.FcntlInt(holder.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Fatalf("taking a lease: %v", err)
	}
	files, report := collected(t.Context(), t, Sources{Runner: folder}, DefaultLimits())
	if got := skipped(report, "runner/Runner_1.log"); !strings.Contains(got, "lease") || len(files) > 0 {
		t.Errorf("got %q", got)
	}
}

// A mount in the folder would be somebody else's file system, or one that never answers.
func TestAttackMount(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	folder, dir := runnerFolder(t, map[string]string{"Runner_1.log": "a log\n", "bound": "", "proc/x": ""})
	outside := filepath.Join(t.TempDir(), "prize")
	fatal(t, os.WriteFile(outside, []byte(prize), 0o600))
	fatal(t, unix.Mount(outside, filepath.Join(dir, "bound"), "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(dir, "bound"), unix.MNT_DETACH) })
	fatal(t, unix.Mount("proc", filepath.Join(dir, "proc"), "proc", 0, ""))
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(dir, "proc"), unix.MNT_DETACH) })
	files, report := collected(t.Context(), t, Sources{Runner: folder}, DefaultLimits())
	without(t, files)
	for _, name := range []string{"runner/bound", "runner/proc"} {
		if got := skipped(report, name); !strings.Contains(got, "a mount point") {
			t.Errorf("%s: %q", name, got)
		}
	}
	if len(files) != 1 {
		t.Errorf("got %d files", len(files))
	}
}

// TestAttackHalfSecret: a log that ends, is cut or is written over in the midst of a secret gives no part of it away.
func TestAttackHalfSecret(t *testing.T) {
	t.Parallel()
	value := "registration-" + strings.Repeat("k3y", 40)
	filler := strings.Repeat("-", 100)
	l := DefaultLimits()
	l.File = leastFile
	head, tail := split(l.File)
	const big = 384 << 10
	for shift := int64(0); shift < int64(len(value)); shift += 19 {
		text := []byte(strings.Repeat(".", big))
		copy(text[head-shift:], value)
		copy(text[big-tail-shift:], value)
		folder, _ := runnerFolder(t, map[string]string{"cut": string(text), "died": filler + value[:max(leastCut, shift)]})
		wrapped := NewConsole(int(head), int(tail))
		_, _ = wrapped.Write(text)
		s := Sources{Journal: text, Console: wrapped, Runner: folder, Secrets: secrets(value)}
		files, _ := collected(t.Context(), t, s, l)
		for _, name := range []string{"journal.jsonl", "console.log", "runner/cut", "runner/died"} {
			if got := files[name]; got == "" || strings.Contains(got, "k3y") || strings.Contains(got, "registr") {
				t.Errorf("%d, %s: %d bytes, with a part of it", shift, name, len(got))
			}
		}
	}
}
