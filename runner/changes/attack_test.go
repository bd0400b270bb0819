// SPDX-License-Identifier: Apache-2.0

package changes_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/kettle/attest/runner/changes"
)

// truth compares what the job sees with the image, name by name: slow, unbounded, and through the overlay itself.
func truth(t *testing.T, lower, merged string) []string {
	t.Helper()
	before, after := tree(t, lower), tree(t, merged)
	var out []string
	for p, was := range before {
		is, there := after[p]
		switch {
		case !there:
			out = append(out, "deleted "+p)
		case was != is:
			out = append(out, "changed "+p)
		}
	}
	for p := range after {
		if _, there := before[p]; !there {
			out = append(out, "created "+p)
		}
	}
	slices.Sort(out)
	return out
}

func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	fatal(t, filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return errors.New("no state")
		}
		what := fmt.Sprint(info.Mode(), st.Uid, st.Gid)
		switch info.Mode().Type() {
		case 0:
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			what += string(text)
		case fs.ModeSymlink:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			what += target
		}
		rel, err := filepath.Rel(root, name)
		out[filepath.Join("/", rel)] = what
		return err
	}))
	return out
}

// found is the list in the words of truth.
func found(t *testing.T, c *changes.Changes) []string {
	t.Helper()
	var out []string
	for _, l := range checkList(t, c) {
		out = append(out, l.Op+" "+l.Path)
	}
	slices.Sort(out)
	return out
}

// hider is a job that does what it can, at random, to have its changes overlooked.
type hider struct {
	*rand.Rand
	root  string
	names []string
}

func (h hider) path() string {
	p := h.root
	if h.IntN(3) == 0 {
		return filepath.Join(p, []string{"etc/link", "usr/tool", "usr/lib/a", "usr/lib/a/one", "usr/lib/a/b/three"}[h.IntN(5)])
	}
	for range 1 + h.IntN(4) {
		p = filepath.Join(p, h.names[h.IntN(len(h.names))])
	}
	return p
}

// one does one thing. What the kernel refuses did not happen.
func (h hider) one() {
	p, q := h.path(), h.path()
	switch h.IntN(16) {
	case 0, 1:
		_ = os.MkdirAll(p, 0o755)
	case 2, 3:
		_ = os.WriteFile(p, []byte(fmt.Sprint("bytes ", h.IntN(3))), 0o644)
	case 4, 5:
		_ = os.RemoveAll(p)
	case 6, 7:
		_ = os.Rename(p, q)
	case 8:
		_ = unix.Renameat2(unix.AT_FDCWD, p, unix.AT_FDCWD, q, unix.RENAME_EXCHANGE)
	case 9:
		_ = os.Link(p, q)
	case 10:
		_ = os.Symlink(q, p)
	case 11:
		_ = os.Chmod(p, fs.FileMode([]uint32{0o700, 0o755, 0o644}[h.IntN(3)]))
	case 12:
		_ = os.Lchown(p, h.IntN(2), h.IntN(2))
	case 13, 14: // one thing in place of another
		_ = os.RemoveAll(p)
		switch h.IntN(3) {
		case 0:
			_ = os.Symlink(q, p)
		case 1:
			_ = os.MkdirAll(filepath.Join(p, "one"), 0o755)
		default:
			_ = os.WriteFile(p, nil, 0o644)
		}
	default:
		for _, mark := range []string{"opaque", "whiteout", "redirect", "metacopy", "origin"} {
			for _, space := range []string{"user.overlay.", "trusted.overlay."} { // as root of the machine: more than any job can
				_ = unix.Lsetxattr(p, space+mark, []byte([]string{"y", "x", "/etc", ""}[h.IntN(4)]), 0)
			}
		}
	}
}

// Whatever a job does through the overlay, the list says what became of every name.
func TestAttackHide(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			c, merged := layers(t)
			h := hider{rand.New(rand.NewPCG(seed, 0)), merged, []string{"etc", "usr", "lib", "a", "b", "passwd", "one", "tool", "new", "bad\xff\n"}}
			for range 60 {
				h.one()
			}
			got := collect(t, c, limits())
			if diff := cmp.Diff(truth(t, c.Lower, merged), found(t, got)); diff != "" || !got.Complete() {
				t.Errorf("%v%s", got.Bounds, diff)
			}
		})
	}
}

// Marks of overlayfs in the user namespace are the job's: they mean nothing to the overlay, and nothing here.
func TestAttackOwnMarks(t *testing.T) {
	t.Parallel()
	c, merged := layers(t)
	at := func(name string) string { return filepath.Join(merged, name) }
	write(t, at("usr/lib/a/one"), "changed")
	write(t, at("usr/lib/a/b/empty"), "")
	for name, value := range map[string]string{"usr/lib": "y", "usr/lib/a": "y", "usr/lib/a/b": "x", "etc": "y"} {
		fatal(t, unix.Setxattr(at(name), "user.overlay.opaque", []byte(value), 0))
	}
	fatal(t, unix.Setxattr(at("usr/lib/a/b/empty"), "user.overlay.whiteout", nil, 0))
	fatal(t, unix.Setxattr(at("usr/lib/a/one"), "user.overlay.metacopy", nil, 0))
	fatal(t, unix.Setxattr(at("usr/lib/a"), "user.overlay.redirect", []byte("/etc"), 0))
	got := collect(t, c, limits())
	want := []string{"created /usr/lib/a/b/empty file", "changed /usr/lib/a/one file file bytes"}
	if diff := cmp.Diff(want, brief(t, got)); diff != "" || !got.Complete() {
		t.Errorf("%v%s", got.Bounds, diff)
	}
}

// Folders of the image cannot be renamed away; a copy under another name leaves every deletion behind.
func TestAttackRenamedFolder(t *testing.T) {
	t.Parallel()
	c, merged := layers(t)
	at := func(name string) string { return filepath.Join(merged, name) }
	fatal(t, os.CopyFS(at("usr/lib2"), os.DirFS(at("usr/lib"))))
	write(t, at("usr/lib2/a/one"), "evil")
	fatal(t, errors.Join(os.RemoveAll(at("usr/lib")), os.Rename(at("usr/lib2"), at("usr/lib"))))
	got := collect(t, c, limits())
	if diff := cmp.Diff([]string{"changed /usr/lib/a/one file file bytes"}, brief(t, got)); diff != "" {
		t.Error(diff)
	}
	fatal(t, os.Rename(at("usr/lib"), at("usr/lib3"))) // its own folder by now
	got = collect(t, c, limits())
	if got.Deleted != 6 || got.Created != 6 || got.Changed != 0 {
		t.Errorf("got %s", got.Lines())
	}
}

// Writing through a hard link changes the file under its first name too.
func TestAttackHardLink(t *testing.T) {
	t.Parallel()
	c, merged := layers(t)
	at := func(name string) string { return filepath.Join(merged, name) }
	fatal(t, os.Link(at("usr/tool"), at("var/innocent")))
	f, err := os.OpenFile(at("var/innocent"), os.O_WRONLY, 0)
	fatal(t, err)
	_, err = f.WriteAt([]byte("IMAGE"), 0)
	fatal(t, errors.Join(err, f.Close()))
	got := collect(t, c, limits())
	if diff := cmp.Diff([]string{"changed /usr/tool file file bytes", "created /var/innocent file"}, brief(t, got)); diff != "" {
		t.Error(diff)
	}
}

// New files do not use up what is needed to find old ones, and a large one not what is needed to hash small ones.
func TestAttackFlood(t *testing.T) {
	t.Parallel()
	c, merged := layers(t)
	at := func(name string) string { return filepath.Join(merged, name) }
	write(t, at("usr/lib/a/two"), "evil")
	write(t, at("etc/passwd"), strings.Repeat("x", 1<<20-len("image's etc/passwd"))) // with the old one, all that may be hashed
	write(t, at("etc/hosts"), "")
	fatal(t, os.Truncate(at("etc/hosts"), 1<<40))
	fatal(t, os.Remove(at("etc/motd")))
	for i := range 3000 {
		write(t, at(fmt.Sprintf("etc/%04d", i)), "")
		write(t, at(fmt.Sprintf("a/%04d", i)), "")
	}
	l := limits()
	l.Entries, l.ListBytes, l.HashBytes = 1000, 20_000, 1<<20
	got := collect(t, c, l)
	lines := string(got.Lines())
	if got.Changed != 3 || got.Deleted != 1 || got.Created > 1000 || !strings.Contains(lines, sumOf("evil")) || !strings.Contains(lines, sumOf("image's usr/lib/a/two")) ||
		!strings.Contains(lines, `"deleted","path":"/etc/motd"`) || !strings.Contains(lines, `"size":1099511627776`) {
		t.Errorf("got %+v\n%.2000s", got.Bounds, lines)
	}
	if want := []changes.Bound{changes.BoundEntries, changes.BoundHash, changes.BoundList}; !slices.Equal(got.Bounds, want) {
		t.Errorf("got %v, want %v", got.Bounds, want)
	}
}

// Names end up in a file that people open.
func TestAttackNames(t *testing.T) {
	t.Parallel()
	c, merged := layers(t)
	names := []string{
		"a\nb", `{"op":"deleted","path":"x"}`, "\x1b[2J", "\u202ecod", "bad\xff", "bad\xfe", "\u2028", "\xed\xa0\x80", strings.Repeat("n", 255), strings.Repeat("\xff", 255),
		"\U000e0041", "\"", "\\", "\\n", "\ufffd",
	}
	for _, name := range names {
		write(t, filepath.Join(merged, "var", name), "")
	}
	got := collect(t, c, limits())
	if got.Created != len(names) || !got.Complete() {
		t.Errorf("got %+v", got)
	}
	seen := map[string]bool{}
	for _, l := range checkList(t, got) {
		seen[l.Path] = true
	}
	for _, name := range names {
		if !seen["/var/"+name] {
			t.Errorf("%q is not there", name)
		}
	}
	for _, bad := range []string{"\u202e", "\u2028", "\U000e0041", "\ufffd", "\xff"} {
		if strings.Contains(string(got.Lines()), bad) {
			t.Errorf("unsafe to read: %q", bad)
		}
	}
}

// A path that nobody can name any more ends the list there, and the list says so.
func TestAttackDepth(t *testing.T) {
	t.Parallel()
	c, merged := layers(t)
	dir, err := unix.Open(merged, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	fatal(t, err)
	for range 3000 {
		fatal(t, unix.Mkdirat(dir, "d", 0o755))
		sub, err := unix.Openat(dir, "d", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		fatal(t, errors.Join(err, unix.Close(dir)))
		dir = sub
	}
	fatal(t, unix.Close(dir))
	write(t, filepath.Join(merged, "etc/passwd"), "evil")
	got := collect(t, c, limits())
	if got.Created != 2048 || got.Changed != 1 || !slices.Equal(got.Bounds, []changes.Bound{changes.BoundDepth}) {
		t.Errorf("got %d created, %v", got.Created, got.Bounds)
	}
}

// An overlay that is not mounted as kettled does leaves files without bytes and folders that lead elsewhere.
func TestAttackOtherOverlay(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ path, attr string }{
		"metacopy": {"etc/passwd", "trusted.overlay.metacopy"}, "redirect": {"etc", "trusted.overlay.redirect"},
	} {
		c, merged := layers(t)
		fatal(t, os.Chmod(filepath.Join(merged, "etc/passwd"), 0o600))
		fatal(t, unix.Setxattr(filepath.Join(c.Upper, tc.path), tc.attr, []byte("x"), 0))
		if got := collect(t, c, limits()); !slices.Equal(got.Bounds, []changes.Bound{changes.BoundOverlay}) || got.Changed != 1 {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// Whiteouts may be marked in attributes instead of being devices; those are not the job's to set either.
func TestMarkedWhiteouts(t *testing.T) {
	t.Parallel()
	c, _ := layers(t)
	upper := func(name string) string { return filepath.Join(c.Upper, name) }
	write(t, upper("etc/motd"), "")
	write(t, upper("etc/hosts"), "")
	write(t, upper("etc/new"), "")
	for _, name := range []string{"etc/motd", "etc/new"} {
		fatal(t, unix.Setxattr(upper(name), "trusted.overlay.whiteout", []byte("y"), 0))
	}
	got := brief(t, collect(t, c, limits()))
	if diff := cmp.Diff([]string{"changed /etc/hosts file file bytes", "changed /etc/motd file file bytes", "created /etc/new file"}, got); diff != "" {
		t.Errorf("in a folder without a mark: %s", diff)
	}
	fatal(t, unix.Setxattr(upper("etc"), "trusted.overlay.opaque", []byte("x"), 0))
	got = brief(t, collect(t, c, limits()))
	if diff := cmp.Diff([]string{"changed /etc/hosts file file bytes", "deleted /etc/motd file"}, got); diff != "" {
		t.Error(diff)
	}
}
