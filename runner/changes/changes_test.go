// SPDX-License-Identifier: Apache-2.0

package changes_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/kettle/attest/runner/changes"
)

func limits() changes.Limits {
	return changes.Limits{Entries: 200_000, HashBytes: 1 << 30, ListBytes: 16 << 20, Time: time.Minute}
}

// layers is an image with an overlay over it, as kettled mounts one. What a job does, it does in merged.
func layers(t *testing.T) (c changes.Config, merged string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"upper", "work", "merged", "image/etc", "image/usr/lib/a/b", "image/var"} {
		fatal(t, os.MkdirAll(at(d), 0o755))
	}
	for _, name := range []string{"etc/passwd", "etc/hosts", "etc/motd", "usr/tool", "usr/lib/a/one", "usr/lib/a/two", "usr/lib/a/b/three"} {
		write(t, at("image/"+name), "image's "+name)
	}
	fatal(t, os.Symlink("hosts", at("image/etc/link")))
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,index=off,metacopy=off,redirect_dir=nofollow", at("image"), at("upper"), at("work"))
	if err := unix.Mount("overlay", at("merged"), "overlay", 0, options); err != nil {
		t.Fatalf("mounting an overlay: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at("merged"), unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return changes.Config{Upper: at("upper"), Lower: at("image"), IDs: changes.IDs{Count: 1<<32 - 1}}, at("merged")
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, name, text string) {
	t.Helper()
	fatal(t, os.MkdirAll(filepath.Dir(name), 0o755))
	fatal(t, os.WriteFile(name, []byte(text), 0o644))
}

func sumOf(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }

func collect(t *testing.T, c changes.Config, l changes.Limits) *changes.Changes {
	t.Helper()
	got, err := changes.Collect(t.Context(), c, l)
	fatal(t, err)
	checkList(t, got)
	return got
}

// lineOf is a line of the list as any reader sees it.
type lineOf struct {
	Op, Path string
	Raw      []byte
	Old, New map[string]any
}

// checkList demands of every list that it says what the result says.
func checkList(t testing.TB, c *changes.Changes) (lines []lineOf) {
	t.Helper()
	raw := strings.Split(string(c.Lines()), "\n")
	var head struct {
		Schema                    string
		Created, Changed, Deleted int
		Complete                  bool
		Bounds                    []changes.Bound
	}
	fatal(t, json.Unmarshal([]byte(raw[0]), &head))
	if head.Schema != changes.Schema || head.Created != c.Created || head.Changed != c.Changed || head.Deleted != c.Deleted ||
		head.Complete != c.Complete() || len(head.Bounds) != len(c.Bounds) || c.Digest() != sha256.Sum256(c.Lines()) {
		t.Errorf("the header %s is not of %+v", raw[0], c)
	}
	last, n := "", 0
	for _, text := range raw[1 : len(raw)-1] {
		var l lineOf
		fatal(t, json.Unmarshal([]byte(text), &l))
		if len(l.Raw) > 0 {
			l.Path = string(l.Raw)
		}
		if l.Path <= last || (l.Old == nil) != (l.Op == "created") || (l.New == nil) != (l.Op == "deleted") {
			t.Errorf("%q after %q", text, last)
		}
		for _, r := range text {
			if r < ' ' || r == 0x7f {
				t.Errorf("unsafe to print: %q", text)
			}
		}
		last = l.Path
		lines = append(lines, l)
		n++
	}
	if total := c.Created + c.Changed + c.Deleted; n != total && !strings.Contains(fmt.Sprint(c.Bounds), string(changes.BoundList)) {
		t.Errorf("%d lines for %d changes", n, total)
	}
	if raw[len(raw)-1] != "" {
		t.Error("the last line has no end")
	}
	return lines
}

// brief is a list in short.
func brief(t *testing.T, c *changes.Changes) []string {
	t.Helper()
	var out []string
	for _, l := range checkList(t, c) {
		s := l.Op + " " + l.Path
		for _, side := range []map[string]any{l.Old, l.New} {
			if side != nil {
				s += " " + fmt.Sprint(side["type"])
			}
		}
		if l.Op == "changed" {
			for _, key := range []string{"mode", "uid", "gid", "target", "capability"} {
				if fmt.Sprint(l.Old[key]) != fmt.Sprint(l.New[key]) {
					s += " " + key
				}
			}
			if l.Old["sha256"] != l.New["sha256"] {
				s += " bytes"
			}
		}
		out = append(out, s)
	}
	return out
}

func TestJobs(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		job  func(t *testing.T, at func(string) string)
		want []string
	}{
		"nothing":  {func(*testing.T, func(string) string) {}, nil},
		"read all": {func(t *testing.T, at func(string) string) { _, err := os.ReadFile(at("etc/passwd")); fatal(t, err) }, nil},
		"touch": {func(t *testing.T, at func(string) string) {
			fatal(t, os.Chtimes(at("etc/passwd"), time.Now(), time.Now()))
		}, nil},
		"same again":    {func(t *testing.T, at func(string) string) { write(t, at("etc/passwd"), "image's etc/passwd") }, nil},
		"write":         {func(t *testing.T, at func(string) string) { write(t, at("etc/passwd"), "x") }, []string{"changed /etc/passwd file file bytes"}},
		"same size":     {func(t *testing.T, at func(string) string) { write(t, at("etc/passwd"), "image's etc/PASSWD") }, []string{"changed /etc/passwd file file bytes"}},
		"chmod":         {func(t *testing.T, at func(string) string) { fatal(t, os.Chmod(at("usr/tool"), 0o4755)) }, []string{"changed /usr/tool file file mode"}},
		"set-user-ID":   {func(t *testing.T, at func(string) string) { fatal(t, unix.Chmod(at("usr/tool"), 0o4755)) }, []string{"changed /usr/tool file file mode"}},
		"chown":         {func(t *testing.T, at func(string) string) { fatal(t, os.Chown(at("usr/tool"), 7, 8)) }, []string{"changed /usr/tool file file uid gid"}},
		"chmod of root": {func(t *testing.T, at func(string) string) { fatal(t, os.Chmod(at("."), 0o700)) }, []string{"changed / directory directory mode"}},
		"chmod folder":  {func(t *testing.T, at func(string) string) { fatal(t, os.Chmod(at("usr/lib"), 0o777)) }, []string{"changed /usr/lib directory directory mode"}},
		"delete":        {func(t *testing.T, at func(string) string) { fatal(t, os.Remove(at("etc/motd"))) }, []string{"deleted /etc/motd file"}},
		"create": {func(t *testing.T, at func(string) string) { write(t, at("opt/new/f"), "f") }, []string{
			"created /opt directory", "created /opt/new directory", "created /opt/new/f file"}},
		"create in an old folder": {func(t *testing.T, at func(string) string) { write(t, at("usr/lib/a/new"), "f") }, []string{"created /usr/lib/a/new file"}},
		"delete a tree": {func(t *testing.T, at func(string) string) { fatal(t, os.RemoveAll(at("usr/lib"))) }, []string{
			"deleted /usr/lib directory", "deleted /usr/lib/a directory", "deleted /usr/lib/a/b directory", "deleted /usr/lib/a/b/three file",
			"deleted /usr/lib/a/one file", "deleted /usr/lib/a/two file"}},
		"replace a tree": {func(t *testing.T, at func(string) string) {
			fatal(t, os.RemoveAll(at("usr/lib")))
			write(t, at("usr/lib/a/one"), "image's usr/lib/a/one") // as it was
			write(t, at("usr/lib/a/two"), "other")
			write(t, at("usr/lib/a/four"), "new")
		}, []string{"deleted /usr/lib/a/b directory", "deleted /usr/lib/a/b/three file", "created /usr/lib/a/four file", "changed /usr/lib/a/two file file bytes"}},
		"folder becomes a file": {func(t *testing.T, at func(string) string) {
			fatal(t, os.RemoveAll(at("usr/lib/a")))
			write(t, at("usr/lib/a"), "file")
		}, []string{"changed /usr/lib/a directory file mode", "deleted /usr/lib/a/b directory", "deleted /usr/lib/a/b/three file",
			"deleted /usr/lib/a/one file", "deleted /usr/lib/a/two file"}},
		"file becomes a folder": {func(t *testing.T, at func(string) string) {
			fatal(t, os.Remove(at("usr/tool")))
			write(t, at("usr/tool/sub/f"), "file")
		}, []string{"changed /usr/tool file directory mode", "created /usr/tool/sub directory", "created /usr/tool/sub/f file"}},
		"link retargeted": {func(t *testing.T, at func(string) string) {
			fatal(t, errors.Join(os.Remove(at("etc/link")), os.Symlink("passwd", at("etc/link"))))
		}, []string{"changed /etc/link symlink symlink target"}},
		"file becomes a link": {func(t *testing.T, at func(string) string) {
			fatal(t, errors.Join(os.Remove(at("etc/hosts")), os.Symlink("/home/runner/hosts", at("etc/hosts"))))
		}, []string{"changed /etc/hosts file symlink mode target"}},
		"made folder over a deleted one": {func(t *testing.T, at func(string) string) {
			write(t, at("made/one"), "image's usr/lib/a/one")
			write(t, at("made/b/other"), "")
			fatal(t, errors.Join(os.RemoveAll(at("usr/lib/a")), os.Rename(at("made"), at("usr/lib/a"))))
		}, []string{"created /usr/lib/a/b/other file", "deleted /usr/lib/a/b/three file", "deleted /usr/lib/a/two file"}},
		"folder of the image renamed": {func(t *testing.T, at func(string) string) {
			if err := os.Rename(at("usr/lib/a"), at("usr/lib/z")); !errors.Is(err, unix.EXDEV) {
				t.Errorf("the kernel renames folders of the image: %v", err)
			}
		}, nil},
		"move": {func(t *testing.T, at func(string) string) { fatal(t, os.Rename(at("etc/motd"), at("etc/dtom"))) }, []string{
			"created /etc/dtom file", "deleted /etc/motd file"}},
		"swap": {func(t *testing.T, at func(string) string) {
			fatal(t, unix.Renameat2(unix.AT_FDCWD, at("etc/motd"), unix.AT_FDCWD, at("etc/hosts"), unix.RENAME_EXCHANGE))
		}, []string{"changed /etc/hosts file file bytes", "changed /etc/motd file file bytes"}},
		"created and deleted": {func(t *testing.T, at func(string) string) {
			write(t, at("etc/new/x"), "")
			fatal(t, os.RemoveAll(at("etc/new")))
		}, nil},
		"deleted and restored": {func(t *testing.T, at func(string) string) {
			fatal(t, os.Remove(at("etc/motd")))
			write(t, at("etc/motd"), "image's etc/motd")
		}, nil},
		"special files": {func(t *testing.T, at func(string) string) {
			fatal(t, errors.Join(unix.Mkfifo(at("etc/fifo"), 0o600), unix.Mknod(at("etc/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))))
			fatal(t, errors.Join(os.Remove(at("etc/passwd")), unix.Mkfifo(at("etc/passwd"), 0o644), unix.Mknod(at("etc/sock"), unix.S_IFSOCK|0o600, 0)))
		}, []string{"created /etc/fifo fifo", "created /etc/null character-device", "changed /etc/passwd file fifo", "created /etc/sock socket"}},
		"capability": {func(t *testing.T, at func(string) string) { fatal(t, setcap(at("usr/tool"))) }, []string{"changed /usr/tool file file capability"}},
		"hard link":  {func(t *testing.T, at func(string) string) { fatal(t, os.Link(at("usr/tool"), at("usr/second"))) }, []string{"created /usr/second file"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, merged := layers(t)
			tc.job(t, func(name string) string { return filepath.Join(merged, name) })
			got := collect(t, c, limits())
			if diff := cmp.Diff(tc.want, brief(t, got)); diff != "" || !got.Complete() {
				t.Errorf("%s%v\n%s", diff, got.Bounds, got.Lines())
			}
		})
	}
}

// setcap gives a program CAP_NET_RAW, permitted and effective (struct vfs_cap_data, version 2).
func setcap(name string) error {
	return unix.Setxattr(name, "security.capability", []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0)
}

// The bytes of a list are bound by its digest: another encoding needs another schema.
func TestGolden(t *testing.T) {
	t.Parallel()
	c, merged := layers(t)
	at := func(name string) string { return filepath.Join(merged, name) }
	write(t, at("etc/passwd"), "root::0:0::/:/bin/sh\n")
	fatal(t, os.Chown(at("etc/passwd"), 1<<20+5, 1<<20+6))
	fatal(t, os.Remove(at("etc/motd")))
	fatal(t, errors.Join(os.Remove(at("etc/link")), os.Symlink("a\n\x1b[31m\u202e\xff\U000e0001é", at("etc/link"))))
	write(t, at("var/new\n\"<é>\\"), "12345")
	write(t, at("var/bad\xff"), "")
	fatal(t, os.Link(at("var/bad\xff"), at("var/bad2")))
	fatal(t, setcap(at("usr/tool")))
	fatal(t, errors.Join(unix.Mknod(at("var/null"), unix.S_IFCHR, int(unix.Mkdev(1, 3))), os.Chmod(at("var/null"), 0o666)))
	volume := filepath.Join(filepath.Dir(c.Upper), "home")
	write(t, filepath.Join(volume, "a/f"), strings.Repeat("x", 5000))
	fatal(t, os.Link(filepath.Join(volume, "a/f"), filepath.Join(volume, "g")))
	c.Volumes = []changes.Volume{{Inside: "/home/runner", Outside: volume}}
	c.IDs = changes.IDs{First: 1 << 20, Count: 1 << 18}
	got := collect(t, c, limits())
	const golden = "testdata/golden.jsonl"
	if os.Getenv("UPDATE_GOLDEN") != "" {
		fatal(t, os.WriteFile(golden, got.Lines(), 0o600))
	}
	want, err := os.ReadFile(golden)
	fatal(t, err)
	if diff := cmp.Diff(string(want), string(got.Lines())); diff != "" {
		t.Error(diff)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	c, merged := layers(t)
	at := func(name string) string { return filepath.Join(merged, name) }
	write(t, at("etc/passwd"), strings.Repeat("x", 100_000))
	write(t, at("etc/hosts"), "short")
	fatal(t, os.RemoveAll(at("usr/lib")))
	for i := range 500 {
		write(t, at(fmt.Sprintf("var/new/%04d", i)), "")
	}
	c.Volumes = []changes.Volume{{Inside: "/var/lib", Outside: filepath.Join(c.Upper, "var/new")}}
	all := collect(t, c, limits())
	if !all.Complete() || all.Created != 501 || all.Changed != 2 || all.Deleted != 6 || all.Volumes[0].Files != 500 || !all.Volumes[0].Complete {
		t.Errorf("got %+v", all)
	}
	for name, tc := range map[string]struct {
		set   func(*changes.Limits)
		bound changes.Bound
		check func(got *changes.Changes) bool
	}{
		"entries": {func(l *changes.Limits) { l.Entries = 100 }, changes.BoundEntries, func(g *changes.Changes) bool {
			return g.Changed == 2 && g.Deleted == 6 && g.Created <= 100 && g.Volumes[0].Files <= 100 && !g.Volumes[0].Complete
		}},
		"few entries": {func(l *changes.Limits) { l.Entries = 1 }, changes.BoundEntries, func(g *changes.Changes) bool { return g.Created <= 1 }},
		"hash": {func(l *changes.Limits) { l.HashBytes = 1000 }, changes.BoundHash, func(g *changes.Changes) bool {
			return g.Changed == 2 && strings.Contains(string(g.Lines()), sumOf("short")) && g.Created == 501
		}},
		"list": {func(l *changes.Limits) { l.ListBytes = 5000 }, changes.BoundList, func(g *changes.Changes) bool {
			return g.Changed == 2 && g.Deleted == 6 && g.Created == 501 && len(g.Lines()) < 5500
		}},
		"time": {func(l *changes.Limits) { l.Time = 1 }, changes.BoundTime, func(g *changes.Changes) bool { return g.Created == 0 && !g.Volumes[0].Complete }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := limits()
			tc.set(&l)
			got := collect(t, c, l)
			if got.Complete() || len(got.Bounds) != 1 || got.Bounds[0] != tc.bound || !tc.check(got) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	valid := func() changes.Config {
		return changes.Config{Upper: dir, Lower: dir, IDs: changes.IDs{Count: 1}, Volumes: []changes.Volume{{Inside: "/v", Outside: dir}}}
	}
	for name, tc := range map[string]struct {
		set  func(*changes.Config, *changes.Limits)
		says string
	}{
		"no upper":          {func(c *changes.Config, _ *changes.Limits) { c.Upper = "" }, "the upper layer"},
		"no lower":          {func(c *changes.Config, _ *changes.Limits) { c.Lower = "" }, "the image"},
		"relative volume":   {func(c *changes.Config, _ *changes.Limits) { c.Volumes[0].Inside = "v" }, "no absolute path inside"},
		"volume nowhere":    {func(c *changes.Config, _ *changes.Limits) { c.Volumes[0].Outside = "" }, "the volume /v"},
		"no ids":            {func(c *changes.Config, _ *changes.Limits) { c.IDs.Count = 0 }, "no ids"},
		"missing upper":     {func(c *changes.Config, _ *changes.Limits) { c.Upper += "/none" }, "no such file"},
		"missing lower":     {func(c *changes.Config, _ *changes.Limits) { c.Lower += "/none" }, "no such file"},
		"missing volume":    {func(c *changes.Config, _ *changes.Limits) { c.Volumes[0].Outside += "/none" }, "counting the volume /v"},
		"entries":           {func(_ *changes.Config, l *changes.Limits) { l.Entries = 0 }, "positive"},
		"bytes to hash":     {func(_ *changes.Config, l *changes.Limits) { l.HashBytes = 0 }, "positive"},
		"bytes of the list": {func(_ *changes.Config, l *changes.Limits) { l.ListBytes = -1 }, "positive"},
		"time":              {func(_ *changes.Config, l *changes.Limits) { l.Time = 0 }, "positive"},
	} {
		c, l := valid(), limits()
		tc.set(&c, &l)
		if got, err := changes.Collect(t.Context(), c, l); err == nil || got != nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := changes.Collect(ctx, valid(), limits()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	if got, err := changes.Collect(t.Context(), valid(), limits()); err != nil || !got.Complete() || bytes.Count(got.Lines(), []byte("\n")) != 1 {
		t.Errorf("nothing changed: got %+v, %v", got, err)
	}
}
