// SPDX-License-Identifier: Apache-2.0

package outputs_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/runner/outputs"
)

// refused demands that every pattern is refused, and soon.
func refused(t *testing.T, c outputs.Config, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		before := time.Now()
		got, err := collectFrom(t.Context(), c, outputs.Request{Workspace: workspace, Patterns: []string{p}}, limits())
		if r := (*refusal.Refusal)(nil); !errors.As(err, &r) {
			t.Errorf("%s: got %v, %v", p, got, err)
		}
		if took := time.Since(before); took > 10*time.Second {
			t.Errorf("%s: took %v", p, took)
		}
	}
}

// The job has root in its sandbox and links, mounts and device nodes to try with; kettled's own files are the prize.
func TestAttackOtherFiles(t *testing.T) {
	t.Parallel()
	root, ws := sandbox(t, map[string]string{"build/app": "app"})
	secret := filepath.Join(root, "..", "secret") // beside the volume, where kettled keeps its own files
	write(t, secret, "secret of the supervisor")
	for link, target := range map[string]string{
		"absolute": secret, "relative": "../../../../../secret", "magic": "/proc/self/root/etc/passwd", "environ": "/proc/self/environ",
		"dirlink": "build", "rootlink": "/", "up": "../../../..", "chain": "dirlink/app",
	} {
		fatal(t, os.Symlink(target, filepath.Join(ws, link)))
	}
	refused(t, config(root), "absolute", "relative", "magic", "environ", "dirlink/app", "dirlink/*", "rootlink/secret", "rootlink/*/*", "up/../secret",
		"chain", "../../../../../secret", "/../secret", "/proc/self/environ", "/proc/self/exe", "/proc/**", "/sys/kernel/notes", "/dev/mem", "up/*", "*link/app")
}

// The sandbox's mounts are not in kettled's view. If ever one is, kettled does not look through it.
func TestAttackBindMount(t *testing.T) {
	t.Parallel()
	disk := mountXFS(t, 512<<20)
	c, ws := snapshotsOn(t, disk)
	for _, d := range []string{"other/sub", "home/_work/widget/dir/sub"} {
		fatal(t, os.MkdirAll(filepath.Join(disk, d), 0o755))
	}
	write(t, filepath.Join(disk, "other/f"), "not the job's") // on the same file system
	write(t, filepath.Join(disk, "other/sub/f"), "not the job's")
	write(t, filepath.Join(ws, "f"), "the job's")
	mount(t, filepath.Join(disk, "other/f"), filepath.Join(ws, "f"), "bind")
	mount(t, filepath.Join(disk, "other"), filepath.Join(ws, "dir"), "bind")
	refused(t, c, workspace+"/f", "/home/runner/_work/widget/f", "/home/runner/_work/widget/dir/f", "/home/runner/_work/widget/dir/*",
		"/home/runner/_work/widget/**/sub/f", "/home/runner/_work/widget/dir/sub/*")
}

func TestAttackProcMount(t *testing.T) {
	t.Parallel()
	needRoot(t)
	root, ws := sandbox(t, map[string]string{"proc/x": "", "sys/x": ""})
	mount(t, "proc", filepath.Join(ws, "proc"), "proc")
	mount(t, "sysfs", filepath.Join(ws, "sys"), "sysfs")
	refused(t, config(root), "proc/self/environ", "proc/*", "proc/version", "sys/kernel/notes", "sys/kernel/*")
}

// A server that never answers holds up whoever asks it anything: nobody does.
func TestAttackFUSE(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		target string
		mode   uint32
		asks   []string
	}{
		"folder": {"fuse", unix.S_IFDIR, []string{"fuse/f", "fuse", "fuse/*", "*/f", "**/f", "f*/**"}},
		"file":   {"file", unix.S_IFREG, []string{"file", "fil*", "**/fil*"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root, ws := sandbox(t, map[string]string{"fuse/f": "f", "file": "f"})
			hung := silentFUSE(t, filepath.Join(ws, tc.target), tc.mode)
			if hung(func() { refused(t, config(root), tc.asks...) }) {
				t.Error("waited for the server")
			}
		})
	}
	t.Run("volume", func(t *testing.T) {
		t.Parallel()
		root, _ := sandbox(t, nil)
		hung := silentFUSE(t, root, unix.S_IFDIR)
		if hung(func() {
			if _, err := outputs.Hold(t.Context(), config(root), patterns("f"), limits()); err == nil || !strings.Contains(err.Error(), `type "fuse"`) {
				t.Errorf("got %v", err)
			}
		}) {
			t.Error("waited for the server")
		}
	})
}

// A FIFO without a writer holds up whoever opens it.
func TestAttackFIFO(t *testing.T) {
	t.Parallel()
	root, ws := sandbox(t, map[string]string{"f": "f"})
	fatal(t, unix.Mkfifo(filepath.Join(ws, "fifo"), 0o666))
	refused(t, config(root), "fifo", "fif*")
	_, err := collect(t.Context(), root, outputs.Request{Workspace: workspace, Checksums: "fifo"}, limits())
	wantRefusal(t, err, refusal.ErrMalformed, "a FIFO")
}

// Whoever holds a lease on a file holds up whoever opens it, up to lease-break-time. A frozen process never gives it back.
func TestAttackLease(t *testing.T) {
	t.Parallel()
	root, ws := sandbox(t, map[string]string{"f": "f"})
	f, err := os.OpenFile(filepath.Join(ws, "f"), os.O_RDWR, 0)
	fatal(t, err)
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Fatal(err)
	}
	refused(t, config(root), "f")
}

// A file that nobody in the sandbox made is not its output, whatever name leads to it.
func TestAttackForeignOwner(t *testing.T) {
	t.Parallel()
	needRoot(t)
	root, ws := sandbox(t, map[string]string{"own": "own", "user": "u", "group": "g", "both": "b", "last": "l", "after": "a"})
	for name, id := range map[string][2]int{
		"own": {1 << 20, 1<<20 + 1001}, "user": {0, 1 << 20}, "group": {1 << 20, 0}, "both": {0, 0}, "last": {1<<20 + 1<<18 - 1, 1 << 20}, "after": {1<<20 + 1<<18, 1 << 20},
	} {
		fatal(t, os.Chown(filepath.Join(ws, name), id[0], id[1]))
	}
	fatal(t, os.Link(filepath.Join(ws, "both"), filepath.Join(ws, "link")))
	c := config(root)
	c.IDs = outputs.IDs{First: 1 << 20, Count: 1 << 18}
	refused(t, c, "user", "group", "both", "link", "after", "l*")
	if got, err := collectFrom(t.Context(), c, patterns("own", "last"), limits()); err != nil || len(got) != 2 {
		t.Errorf("got %v, %v", got, err)
	}
}

// Hard links are no way out: the bytes are those that stood there, and the subject says how many names they have.
func TestAttackHardLinks(t *testing.T) {
	t.Parallel()
	c, ws := snapshots(t)
	write(t, filepath.Join(ws, "f"), "first")
	for i := range 3 {
		fatal(t, os.Link(filepath.Join(ws, "f"), filepath.Join(ws, fmt.Sprint("link", i))))
	}
	h, err := outputs.Hold(t.Context(), c, patterns("/home/runner/_work/widget/f"), limits())
	fatal(t, err)
	defer func() { fatal(t, h.Release()) }()
	write(t, filepath.Join(ws, "link1"), "other") // in place, through another name
	fatal(t, os.Truncate(filepath.Join(ws, "link2"), 3))
	got, err := h.Hash(t.Context())
	fatal(t, err)
	if got[0].SHA256 != sha256.Sum256([]byte("first")) || got[0].Links != 4 {
		t.Errorf("got %+v", got[0])
	}
}

// 1 TiB of nothing takes no room and hours to read.
func TestAttackSparse(t *testing.T) {
	t.Parallel()
	c, ws := snapshots(t)
	write(t, filepath.Join(ws, "huge"), "")
	fatal(t, os.Truncate(filepath.Join(ws, "huge"), 1<<40))
	l := limits()
	l.Time, l.FrozenTime = time.Second, time.Second
	for _, snapshots := range []string{c.Snapshots, ""} {
		c.Snapshots = snapshots
		_, err := collectFrom(t.Context(), c, patterns("/home/runner/_work/widget/huge"), l)
		wantRefusal(t, err, refusal.ErrPolicy, "1099511627776 bytes")
	}
}

// A sandbox may not be made to stand still for long by what a file is made of.
func TestAttackPieces(t *testing.T) {
	t.Parallel()
	c, ws := snapshots(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		write(t, filepath.Join(ws, name), name)
		pieces(t, filepath.Join(ws, name), 2100)
	}
	fatal(t, outputs.Settle(t.Context(), ws))
	h, err := outputs.Hold(t.Context(), c, patterns("/home/runner/_work/widget/*"), limits())
	fatal(t, err)
	defer func() { fatal(t, h.Release()) }()
	if h.Snapshot() {
		t.Error("cloned 8,400 pieces")
	}
}

func TestAttackManyFiles(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	mount(t, "tmpfs", root, "tmpfs")
	ws := filepath.Join(root, workspace)
	write(t, filepath.Join(ws, "many/x"), "")
	for i := range 100_000 {
		fatal(t, unix.Mknod(filepath.Join(ws, "many", fmt.Sprint(i)), unix.S_IFREG|0o644, 0))
	}
	l := limits()
	l.Entries = 99_999
	for _, pattern := range []string{"many/x", "**/x", "many/*x", "many/[0]"} {
		_, err := collect(t.Context(), root, patterns(pattern), l)
		if pattern != "many/x" { // named, not looked for
			wantRefusal(t, err, refusal.ErrPolicy, "99999 directory entries")
		} else if err != nil {
			t.Error(err)
		}
	}
	_, err := collect(t.Context(), root, patterns("**"), limits())
	wantRefusal(t, err, refusal.ErrPolicy, "1024 subjects")
	l.Entries = 200_000
	before := time.Now()
	if got, err := collect(t.Context(), root, patterns("**/x"), l); err != nil || len(got) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
	t.Logf("one among 100,000 files found within %v", time.Since(before))
}

// Folders below folders hold one descriptor each open, and a path longer than 4095 bytes cannot be named.
func TestAttackDepth(t *testing.T) {
	t.Parallel()
	disk := mountXFS(t, 512<<20) // nobody has to remove what lies there
	c, ws := snapshotsOn(t, disk)
	dir, err := unix.Open(ws, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	fatal(t, err)
	for range 5000 {
		fatal(t, unix.Mkdirat(dir, "d", 0o755))
		sub, err := unix.Openat(dir, "d", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		fatal(t, errors.Join(err, unix.Close(dir)))
		dir = sub
	}
	fatal(t, unix.Close(dir))
	for pattern, says := range map[string]string{
		"/home/runner/**": "at most 64 deep", "/home/runner/**/*.gz": "at most 64 deep", "/**/d/d/x": "at most 64 deep",
		"/home/runner/_work/widget" + strings.Repeat("/*", 100) + "/f": "at most 64 deep", workspace + strings.Repeat("/d", 300): "a directory",
	} {
		_, err := collectFrom(t.Context(), c, patterns(pattern), limits())
		wantRefusal(t, err, refusal.ErrNotVerified, says)
	}
}

// Names end up in statements, summaries and terminals.
func TestAttackNames(t *testing.T) {
	t.Parallel()
	root, ws := sandbox(t, nil)
	for i, name := range []string{
		"a\nb", "a\rb", "a\tb", "esc\x1b[2J", "bell\a", "del\x7f", "bad\xff", "c1\u009b31m", "rtl\u202egpj.exe", "zero\u200bwidth", "line\u2028end", "no\u00a0break",
	} {
		dir := fmt.Sprint("d", i)
		write(t, filepath.Join(ws, dir, name), "x")
		refused(t, config(root), dir+"/*", dir+"/"+name)
		write(t, filepath.Join(ws, dir, "sub", name, "f"), "x")
		refused(t, config(root), dir+"/*/*/f", dir+"/sub/"+name+"/f")
		write(t, filepath.Join(ws, "plain"), "x")
		_, err := collect(t.Context(), root, outputs.Request{Workspace: workspace, Patterns: []string{"plain"}, Name: name}, limits())
		wantRefusal(t, err, refusal.ErrMalformed, "subject name")
	}
}

// A digest that the job states never becomes a subject by being stated.
func TestAttackStatedDigest(t *testing.T) {
	t.Parallel()
	root, ws := sandbox(t, map[string]string{"app": "mine"})
	other := sumOf("somebody else's")
	write(t, filepath.Join(ws, "sums"), other+"  app\n")
	write(t, filepath.Join(ws, "list"), `{"version":1,"subjects":[{"name":"app","digest":"sha256:`+other+`","kind":"file"}]}`)
	for name, req := range map[string]outputs.Request{
		"digest": {Digest: "sha256:" + other, Name: "app"}, "checksums": {Checksums: "sums"}, "artifacts": {ArtifactsList: "list"},
	} {
		req.Workspace = workspace
		got, err := collect(t.Context(), root, req, limits())
		if !errors.Is(err, refusal.ErrBinding) || got != nil {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}
