// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	childConfig = "KETTLE_REPRODUCIBLE" // file with the configuration of a build in a process of its own
	nobody      = 65534
	ahead       = 400 // days that the other clock is ahead
)

// otherClock is a library without any other that gives whoever is linked with it another time. It is made for this test since
// libfaketime keeps what it needs outside of the folder into which a base system is installed.
const otherClock = `
static long call(long number, long a, long b) {
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b) : "rcx", "r11", "memory");
	return result;
}
struct pair { long seconds, fraction; };
int clock_gettime(int clock, struct pair *t) {
	long result = call(228, clock, (long)t);
	if (result == 0 && (clock == 0 || clock == 5)) t->seconds += AHEAD * 86400L;
	return result == 0 ? 0 : -1;
}
int gettimeofday(struct pair *t, void *zone) {
	long result = call(96, (long)t, (long)zone);
	if (result == 0 && t) t->seconds += AHEAD * 86400L;
	return result == 0 ? 0 : -1;
}
long time(long *out) {
	struct pair t;
	clock_gettime(0, &t);
	if (out) *out = t.seconds;
	return t.seconds;
}
`

// TestReproducible builds one image three times and wants the same bytes of every file: first plainly; then in another
// folder, of inputs with other times and modes, with another umask, time zone, language, clock (by 400 days) and host name;
// then without privileges, for another user, from the root that the first build made. The base system is the one in the cache:
// that one of the same packages is the same, [TestReproducibleFromPackages] shows at night.
func TestReproducible(t *testing.T) {
	if os.Getenv(childConfig) != "" {
		return // this process is one of the builds
	}
	cache, err := CacheDir(os.Getenv)
	must(t, err)
	bases, err := filepath.Glob(filepath.Join(cache, "base-"+string(Strict)+"-*"))
	must(t, err)
	if required := os.Getenv("KETTLE_REQUIRE_VM") == "1"; !required && (len(bases) == 0 || os.Geteuid() != 0) {
		t.Skip("it takes root and a base system, which scripts/build-image makes")
	}
	reproduce(t, func(s side) {
		for _, pattern := range []string{"base-" + string(Strict) + "-*", "unpacked-*", "kernel"} {
			s.copyFrom(t, cache, pattern)
		}
	})
}

// reproduce builds three times from what supply puts into the cache of the first two, and compares.
func reproduce(t *testing.T, supply func(side)) {
	t.Helper()
	work := t.TempDir()
	must(t, errors.Join(os.Chmod(filepath.Dir(work), 0o755), os.Chmod(work, 0o755)))
	self := filepath.Join(work, "test")
	// A program of its own: with the race detector, whoever writes a disk takes ten times as long.
	_, err := run(t.Context(), tool{name: "go", args: []string{"test", "-c", "-o", self, "."}})
	must(t, errors.Join(err, os.Chmod(self, 0o755)))

	first := newSide(t, filepath.Join(work, "a"), 0o022, time.Unix(1_600_000_000, 0))
	supply(first)
	began := time.Now()
	first.build(t, exec.CommandContext(t.Context(), self))
	t.Logf("the first build: %.0f s", time.Since(began).Seconds())

	second := newSide(t, filepath.Join(work, "another-folder", "with a space", "b"), 0o077, time.Unix(1_900_000_000, 0))
	supply(second)
	began = time.Now()
	second.build(t, otherMachine(t, work, self))
	t.Logf("the second build: %.0f s", time.Since(began).Seconds())
	first.compare(t, second)

	third := newSide(t, filepath.Join(work, "c"), 0o022, time.Unix(1_700_000_000, 0))
	third.borrow(t, first)
	unprivileged := exec.CommandContext(t.Context(), self)
	unprivileged.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	began = time.Now()
	third.build(t, unprivileged)
	t.Logf("the third build: %.0f s", time.Since(began).Seconds())
	first.compare(t, third)
}

// TestReproducibleChild is one build in a process of its own.
func TestReproducibleChild(t *testing.T) {
	name := os.Getenv(childConfig)
	if name == "" {
		return // it is started by the others
	}
	data, err := os.ReadFile(name)
	must(t, err)
	var s side
	must(t, json.Unmarshal(data, &s))
	c := s.config()
	c.Watch.Done = func(s Step) { t.Logf("%-9s cached=%-5v %6.1f s", s.Name, s.Cached, s.Took.Seconds()) }
	_, err = Build(t.Context(), c)
	must(t, err)
}

// side is one build: a folder with its inputs, cache and output.
type side struct {
	Dir    string
	Mirror Mirror
}

func (s side) path(parts ...string) string {
	return filepath.Join(append([]string{s.Dir}, parts...)...)
}

func (s side) config() Config {
	return Config{
		Mirror: s.Mirror, Output: s.path("out"), Cache: s.path("cache"), Kettled: s.path("in/kettled"), Settings: s.path("in/settings"), Policy: "policy.yaml", Profile: Strict,
		Firmware: s.path("in/firmware"), Action: s.path("in/kettle-action"), Hook: s.path("in/started.sh"), Formats: Formats(),
		Runner: Runner{Folder: s.path("in/runner"), Release: s.path("in/runner.json"), Version: "2.336.0"}, GoRoot: s.path("in/go"),
		Extra: []Tree{{Source: s.path("in/extra"), Target: "/var/cache/extra", Owner: 1001}},
	}
}

// newSide lays the inputs out. They are the same for each side, but for their times and modes.
func newSide(t *testing.T, dir string, umask os.FileMode, times time.Time) side {
	t.Helper()
	s := side{dir, FindMirror(t.Context(), os.Getenv)}
	must(t, os.MkdirAll(s.path("in"), 0o755))
	program := goProgram(t)
	for name, mode := range map[string]os.FileMode{
		"kettled": 0o777, "kettle-action": 0o777, "started.sh": 0o777, "firmware": 0o666, "runner/bin/Runner.Listener": 0o777, "runner/lib/data": 0o666,
		"runner.json": 0o666, "settings/config.yaml": 0o666, "settings/policy.yaml": 0o666, "settings/root.pem": 0o666, "go/VERSION": 0o666,
		"go/bin/go": 0o777, "extra/a/b": 0o666, "extra/c": 0o777,
	} {
		path := write(t, s.path("in", name), name, 0o600)
		if strings.HasPrefix(name, "kettle") {
			must(t, copyOver(program, path))
		}
		must(t, errors.Join(os.Chmod(path, mode&^umask), os.Chtimes(path, times, times)))
	}
	must(t, os.Symlink("lib/data", s.path("in/runner/link")))
	// Packages are the same by their digests: fetching them again would show nothing.
	cache, err := CacheDir(os.Getenv)
	must(t, err)
	must(t, os.MkdirAll(s.path("cache"), 0o755))
	if _, err := os.Stat(filepath.Join(cache, packagesDir)); err == nil {
		_, err := run(t.Context(), tool{name: "cp", args: []string{"-r", filepath.Join(cache, packagesDir), s.path("cache", packagesDir)}})
		must(t, err)
	}
	return s
}

// build runs a build in the command's process.
func (s side) build(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	data, err := json.Marshal(s)
	must(t, err)
	config := write(t, s.path("config.json"), string(data), 0o644)
	cmd.Args = append(cmd.Args, "-test.run=^TestReproducibleChild$", "-test.v", "-test.timeout=20m")
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env, cmd.Dir = append(cmd.Env, childConfig+"="+config), s.Dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("building in %s: %v\n%s", s.Dir, err, out)
	}
	t.Logf("%s", out)
}

// otherMachine starts a process as on a machine with another name, clock, time zone and language. mmdebstrap, which starts
// everything that writes into the base system, takes the other clock with it into that system.
func otherMachine(t *testing.T, work, self string) *exec.Cmd {
	t.Helper()
	genuine, err := exec.LookPath("mmdebstrap")
	must(t, err)
	bin, clock := filepath.Join(work, "bin"), filepath.Join(work, "clock.so")
	_, err = run(t.Context(), tool{name: "gcc", args: []string{
		"-O2", "-shared", "-fPIC", "-nostdlib", fmt.Sprintf("-DAHEAD=%d", ahead), "-o", clock, write(t, filepath.Join(work, "clock.c"), otherClock, 0o600),
	}})
	must(t, err)
	// The system that is made has the library at its top, where no package has anything.
	const inside = "/other-clock.so"
	script := "#!/bin/sh\numask 077\nexport LD_PRELOAD=" + clock + ":" + inside + "\nexec " + genuine +
		" --setup-hook='install -m 755 " + clock + " \"$1" + inside + "\"' --customize-hook='chroot \"$1\" date +%F >>" + work + "/days'" +
		" \"$@\" --customize-hook='rm -f \"$1" + inside + "\" \"$1/usr" + inside + "\"'\n" // usrmerge copies it
	write(t, filepath.Join(bin, "mmdebstrap"), script, 0o755)
	t.Cleanup(func() {
		days, err := os.ReadFile(filepath.Join(work, "days")) // outside of the system, and inside where one is made
		must(t, err)
		for day := range strings.FieldsSeq(string(days)) {
			then, err := time.Parse(time.DateOnly, day)
			if days := time.Until(then).Hours() / 24; err != nil || days < ahead-3 || days > ahead+3 {
				t.Errorf("the clock was no other: %q, %v", day, err)
			}
		}
	})
	cmd := exec.CommandContext(t.Context(), "unshare", "--uts", "sh", "-c", `hostname other-machine; umask 077; date +%F >>"$HOME/days"; exec "$0" "$@"`, self)
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); !slices.Contains([]string{"PATH", "TZ", "LANG", "LC_ALL", "HOME", "USER", "KETTLE_CACHE"}, name) {
			cmd.Env = append(cmd.Env, pair)
		}
	}
	cmd.Env = append(cmd.Env, "PATH="+bin+":"+os.Getenv("PATH"), "TZ=Asia/Tokyo", "LANG=tr_TR.UTF-8", "HOME="+work, "USER=somebody", "LD_PRELOAD="+clock)
	return cmd
}

// copyFrom copies what a cache has of this name into this side's own.
func (s side) copyFrom(t *testing.T, cache, pattern string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(cache, pattern))
	must(t, err)
	for _, path := range found {
		target := s.path("cache", strings.TrimPrefix(path, cache))
		must(t, os.MkdirAll(filepath.Dir(target), 0o755))
		_, err := run(t.Context(), tool{name: "cp", args: []string{"-a", path, target}})
		must(t, err)
	}
}

// borrow takes what the other side's cache holds ready: what is left to do takes no root. Everything belongs to nobody then.
func (s side) borrow(t *testing.T, from side) {
	t.Helper()
	for _, pattern := range []string{"root-*.erofs", "unpacked-*", "kernel", "base-*/" + packageList, "base-*/usr/lib/os-release"} {
		s.copyFrom(t, from.path("cache"), pattern)
	}
	must(t, os.Mkdir(s.path("out"), 0o755))
	_, err := run(t.Context(), tool{name: "chown", args: []string{"-R", fmt.Sprint(nobody), s.Dir}})
	must(t, err)
}

// compare wants the same files in both outputs.
func (s side) compare(t *testing.T, other side) {
	t.Helper()
	names := func(s side) []string {
		entries, err := os.ReadDir(s.path("out"))
		must(t, err)
		var all []string
		for _, e := range entries {
			all = append(all, e.Name())
		}
		return all
	}
	mine := names(s)
	if theirs := names(other); !slices.Equal(mine, theirs) || len(mine) != 12 {
		t.Fatalf("one build wrote %v, the other %v", mine, theirs)
	}
	for _, name := range mine {
		if at := firstByte(t, s.path("out", name), other.path("out", name)); at >= 0 {
			t.Errorf("%s differs first at byte %d: %s", name, at, s.inWords(t, other, name, at))
		}
	}
}

// firstByte gives the offset of the first byte in which two files differ, or -1.
func firstByte(t *testing.T, a, b string) int64 {
	t.Helper()
	x, err := os.Open(a)
	must(t, err)
	defer func() { must(t, x.Close()) }()
	y, err := os.Open(b)
	must(t, err)
	defer func() { must(t, y.Close()) }()
	p, q := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); ; at += int64(len(p)) {
		n, errA := io.ReadFull(x, p)
		m, errB := io.ReadFull(y, q)
		for i := range min(n, m) {
			if p[i] != q[i] {
				return at + int64(i)
			}
		}
		switch {
		case n != m:
			return at + int64(min(n, m))
		case errA != nil && errB != nil:
			return -1
		}
	}
}

// inWords says what stands at the difference: the line of a text, the file of a root.
func (s side) inWords(t *testing.T, other side, name string, at int64) string {
	t.Helper()
	if name == rootFile {
		return "in the tree, " + s.inTree(t, other)
	}
	a, err := os.ReadFile(s.path("out", name))
	must(t, err)
	b, err := os.ReadFile(other.path("out", name))
	must(t, err)
	around := func(data []byte) []byte {
		return data[min(max(0, at-40), int64(len(data))):min(at+40, int64(len(data)))]
	}
	return fmt.Sprintf("%q and %q", around(a), around(b))
}

// inTree names the first file of two roots that differs, and how.
func (s side) inTree(t *testing.T, other side) string {
	t.Helper()
	trees := [2]string{}
	for i, side := range []side{s, other} {
		trees[i] = filepath.Join(t.TempDir(), "tree")
		_, err := run(t.Context(), tool{name: "fsck.erofs", args: []string{"--extract=" + trees[i], "--preserve", side.path("out", rootFile)}})
		must(t, err)
	}
	list := func(root string) (names []string) {
		must(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			names = append(names, strings.TrimPrefix(path, root))
			return err
		}))
		return names
	}
	a, b := list(trees[0]), list(trees[1])
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("one has %s where the other has %s", a[i], b[i])
		}
		if how := sameFile(t, trees[0]+a[i], trees[1]+b[i]); how != "" {
			return a[i] + " differs in its " + how
		}
	}
	if len(a) != len(b) {
		return fmt.Sprintf("one has %d files and the other %d", len(a), len(b))
	}
	return "all files are the same, but not how they are packed"
}

func sameFile(t *testing.T, a, b string) string {
	t.Helper()
	var x, y unix.Stat_t
	must(t, errors.Join(unix.Lstat(a, &x), unix.Lstat(b, &y)))
	switch {
	case x.Mode != y.Mode:
		return fmt.Sprintf("mode: %o and %o", x.Mode, y.Mode)
	case x.Uid != y.Uid || x.Gid != y.Gid:
		return fmt.Sprintf("owner: %d:%d and %d:%d", x.Uid, x.Gid, y.Uid, y.Gid)
	case x.Mtim != y.Mtim:
		return "time"
	case x.Mode&unix.S_IFMT == unix.S_IFLNK:
		p, err := os.Readlink(a)
		must(t, err)
		q, err := os.Readlink(b)
		must(t, err)
		if p != q {
			return fmt.Sprintf("target: %s and %s", p, q)
		}
	case x.Mode&unix.S_IFMT == unix.S_IFREG:
		p, err := os.ReadFile(a)
		must(t, err)
		q, err := os.ReadFile(b)
		must(t, err)
		if i := firstDifferent(p, q); i >= 0 {
			around := func(data []byte) []byte { return data[max(0, i-40):min(i+40, len(data))] }
			return fmt.Sprintf("content, first at byte %d: %q and %q", i, around(p), around(q))
		}
	}
	return ""
}

func firstDifferent(p, q []byte) int {
	if bytes.Equal(p, q) {
		return -1
	}
	for i := range min(len(p), len(q)) {
		if p[i] != q[i] {
			return i
		}
	}
	return min(len(p), len(q))
}
