// SPDX-License-Identifier: Apache-2.0

package outputs_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/runner/outputs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tabled is a sandbox of several volumes, none of which lies where the sandbox has it.
func tabled(t *testing.T) (c outputs.Config, at func(inside string) string) {
	t.Helper()
	dir := t.TempDir()
	table := map[string]string{"/": "upper", "/home/runner": "home", "/tmp": "tmp", "/var/lib/docker": "docker", "/home/runner/cache": "cache"}
	c = config(filepath.Join(dir, "upper"))
	c.Volumes = nil
	for inside, name := range table {
		c.Volumes = append(c.Volumes, outputs.Volume{Inside: inside, Outside: filepath.Join(dir, name)})
		fatal(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	c.Image = filepath.Join(dir, "image")
	fatal(t, os.Mkdir(c.Image, 0o755))
	return c, func(inside string) string {
		best, name := "/", "upper"
		for prefix, n := range table {
			if strings.HasPrefix(inside, prefix+"/") && len(prefix) > len(best) {
				best, name = prefix, n
			}
		}
		return filepath.Join(dir, name, strings.TrimPrefix(inside, best))
	}
}

func TestVolumes(t *testing.T) {
	t.Parallel()
	c, at := tabled(t)
	for _, p := range []string{
		"/opt/f", "/home/runner/f", "/home/runner/cache/f", "/tmp/f", "/tmpfoo/f", "/home/other/f", "/var/lib/docker/overlay2/f", "/home/runner/caches/f",
	} {
		write(t, at(p), p)
	}
	// What lies below a volume is not the sandbox's.
	for _, hidden := range []string{"tmp/hidden", "home/runner/f", "home/runner/hidden"} {
		write(t, filepath.Join(at("/"), hidden), "hidden below the volume")
	}
	write(t, filepath.Join(at("/home/runner/f"), "../cache/hidden"), "hidden below the volume")
	write(t, filepath.Join(c.Image, "usr/bin/tool"), "of the image")
	fatal(t, os.Symlink("usr/bin", filepath.Join(c.Image, "bin")))
	for pattern, want := range map[string]any{
		"/opt/f":                 []string{"/opt/f"},
		"/tmp/f":                 []string{"/tmp/f"},
		"/tmp/*":                 []string{"/tmp/f"},
		"/tmp*/f":                []string{"/tmp/f", "/tmpfoo/f"},
		"/tmp/../tmpfoo/f":       []string{"/tmpfoo/f"},
		"/home/*/f":              []string{"/home/other/f", "/home/runner/f"},
		"/home/runner/*/f":       []string{"/home/runner/cache/f", "/home/runner/caches/f"},
		"/home/runner/cache/*":   []string{"/home/runner/cache/f"},
		"/var/**":                []string{"/var/lib/docker/overlay2/f"},
		"/var/lib/*/*/f":         []string{"/var/lib/docker/overlay2/f"},
		"/**/f":                  []string{"/home/other/f", "/home/runner/cache/f", "/home/runner/caches/f", "/home/runner/f", "/opt/f", "/tmp/f", "/tmpfoo/f", "/var/lib/docker/overlay2/f"},
		"/**/hidden":             refusal.ErrMissing,
		"/tmp/hidden":            refusal.ErrMissing,
		"/home/runner/hidden":    refusal.ErrMissing,
		"/home/runner":           refusal.ErrMalformed,
		"/tmp":                   refusal.ErrMalformed,
		"/home/runner/opt/f":     refusal.ErrMissing,
		"/usr/bin/tool":          "comes with the image, not from the job",
		"/usr/bin/*":             "what comes with the image does not count",
		"/usr/bin":               "nothing there",
		"/usr/bin/none":          "nothing there",
		"/bin/tool":              "without symbolic links",
		"/home/runner/usr/bin/x": "nothing there",
	} {
		t.Run(pattern, func(t *testing.T) {
			t.Parallel()
			req := outputs.Request{Workspace: "/home/runner", Patterns: []string{pattern}}
			if strings.Contains(pattern, "*") {
				req.Patterns = append(req.Patterns, "!/x")
			}
			h, err := outputs.Hold(t.Context(), c, req, limits())
			if want, ok := want.([]string); ok {
				fatal(t, err)
				checkBytes(t, h, want)
				return
			}
			code, says := refusal.ErrNotVerified, ""
			switch want := want.(type) {
			case error:
				code = want
			case string:
				says = want
			}
			wantRefusal(t, err, code, says)
		})
	}
}

// checkBytes demands files that each hold their own path.
func checkBytes(t *testing.T, h *outputs.Held, want []string) {
	t.Helper()
	defer func() { fatal(t, h.Release()) }()
	held := map[string]bool{}
	subjects, err := h.Hash(t.Context())
	if err != nil && !errors.Is(err, refusal.ErrMalformed) { // one name, several files
		t.Fatal(err)
	}
	if err != nil && len(want) == 1 {
		t.Fatal(err)
	}
	for _, s := range subjects {
		held[s.Path] = true
		if s.SHA256 != sha256.Sum256([]byte(s.Path)) {
			t.Errorf("%s has other bytes", s.Path)
		}
	}
	for _, p := range want {
		if err == nil && !held[p] {
			t.Errorf("%s is missing", p)
		}
	}
	if err == nil && len(held) != len(want) {
		t.Errorf("got %v, want %v", held, want)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		change func(*outputs.Config)
		says   string
	}{
		"no volume":         {func(c *outputs.Config) { c.Volumes = nil }, `no volume for "/"`},
		"no root volume":    {func(c *outputs.Config) { c.Volumes[0].Inside = "/home" }, `no volume for "/"`},
		"relative inside":   {func(c *outputs.Config) { c.Volumes[0].Inside = "home" }, "absolute and clean"},
		"unclean outside":   {func(c *outputs.Config) { c.Volumes[0].Outside += "/../x" }, "absolute and clean"},
		"empty outside":     {func(c *outputs.Config) { c.Volumes[0].Outside = "" }, "absolute and clean"},
		"twice":             {func(c *outputs.Config) { c.Volumes = append(c.Volumes, c.Volumes[0]) }, `"/" twice`},
		"no types":          {func(c *outputs.Config) { c.FileSystems = nil }, "file system types"},
		"an empty type":     {func(c *outputs.Config) { c.FileSystems = []string{""} }, "file system types"},
		"another type":      {func(c *outputs.Config) { c.FileSystems = []string{"vfat"} }, "only vfat may hold outputs"},
		"no ids":            {func(c *outputs.Config) { c.IDs = outputs.IDs{First: 1 << 20} }, "no ids"},
		"relative image":    {func(c *outputs.Config) { c.Image = "image" }, "absolute and clean"},
		"missing image":     {func(c *outputs.Config) { c.Image = filepath.Join(dir, "none") }, "opening the image"},
		"missing volume":    {func(c *outputs.Config) { c.Volumes[0].Outside = filepath.Join(dir, "none") }, "no such file"},
		"volume is a file":  {func(c *outputs.Config) { c.Volumes[0].Outside = filepath.Join(dir, "file") }, "not a directory"},
		"volume is a link":  {func(c *outputs.Config) { c.Volumes[0].Outside = filepath.Join(dir, "link") }, "not a directory"},
		"proc":              {func(c *outputs.Config) { c.Volumes[0].Outside = "/proc" }, `type "proc"`},
		"sysfs":             {func(c *outputs.Config) { c.Volumes[0].Outside = "/sys" }, `type "sysfs"`},
		"snapshots inside":  {func(c *outputs.Config) { c.Snapshots = filepath.Join(c.Volumes[0].Outside, "x") }, "lie in one another"},
		"snapshots around":  {func(c *outputs.Config) { c.Snapshots = filepath.Dir(c.Volumes[0].Outside) }, "lie in one another"},
		"snapshots shared":  {func(c *outputs.Config) { c.Snapshots = filepath.Join(dir, "shared") }, "has to be ours alone"},
		"snapshots missing": {func(c *outputs.Config) { c.Snapshots = filepath.Join(dir, "none") }, "no such file"},
		"snapshots a link":  {func(c *outputs.Config) { c.Snapshots = filepath.Join(dir, "link") }, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root, _ := sandbox(t, map[string]string{"f": "f"})
			c := config(root)
			tc.change(&c)
			_, err := outputs.Hold(t.Context(), c, patterns("f"), limits())
			if err == nil || errors.Is(err, refusal.ErrNotVerified) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want %q", err, tc.says)
			}
		})
	}
	fatal(t, errors.Join(os.Mkdir(filepath.Join(dir, "shared"), 0o700), os.Chmod(filepath.Join(dir, "shared"), 0o710),
		os.WriteFile(filepath.Join(dir, "file"), nil, 0o600), os.Symlink("shared", filepath.Join(dir, "link"))))
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	c, ws := snapshots(t)
	big := strings.Repeat("0123456789abcdef", 1<<16)
	write(t, filepath.Join(ws, "dist/big"), big)
	write(t, filepath.Join(ws, "dist/small"), "small")
	write(t, filepath.Join(ws, "dist/empty"), "")
	write(t, filepath.Join(c.Volumes[0].Outside, "opt/tool"), "tool")
	fatal(t, outputs.Settle(t.Context(), c.Snapshots))
	h, err := outputs.Hold(t.Context(), c, patterns("/home/runner/_work/widget/dist/*", "/opt/tool"), limits())
	fatal(t, err)
	if !h.Snapshot() {
		t.Error("no snapshot")
	}
	// Whatever the job does now, its outputs are those of the moment when it stood still.
	write(t, filepath.Join(ws, "dist/big"), "overwritten")
	fatal(t, os.Remove(filepath.Join(ws, "dist/small")))
	fatal(t, os.RemoveAll(filepath.Join(c.Volumes[0].Outside, "opt")))
	want := []outputs.Subject{
		{Name: "big", Path: workspace + "/dist/big", SHA256: sha256.Sum256([]byte(big)), Size: 1 << 20, Links: 1},
		{Name: "empty", Path: workspace + "/dist/empty", SHA256: sha256.Sum256(nil), Links: 1},
		{Name: "small", Path: workspace + "/dist/small", SHA256: sha256.Sum256([]byte("small")), Size: 5, Links: 1},
		{Name: "tool", Path: "/opt/tool", SHA256: sha256.Sum256([]byte("tool")), Size: 4, Links: 1},
	}
	for range 2 { // hashing moves nothing
		got, err := h.Hash(t.Context())
		fatal(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	fatal(t, errors.Join(h.Release(), h.Release()))
	if got, err := h.Hash(t.Context()); err == nil {
		t.Errorf("hashed after release: %v", got)
	}
	if left, err := os.ReadDir(c.Snapshots); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Release gives the space of a snapshot back, also that of files which the job overwrote since.
func TestReleaseFreesSpace(t *testing.T) {
	t.Parallel()
	c, ws := snapshots(t)
	free := func() uint64 {
		fatal(t, outputs.Settle(t.Context(), ws))
		var st unix.Statfs_t
		fatal(t, unix.Statfs(ws, &st))
		return st.Bfree * uint64(st.Bsize) //nolint:gosec // a block size.
	}
	text := strings.Repeat("x", 64<<20)
	write(t, filepath.Join(ws, "f"), text)
	before := free()
	h, err := outputs.Hold(t.Context(), c, patterns("/home/runner/_work/widget/f"), limits())
	fatal(t, err)
	write(t, filepath.Join(ws, "f"), strings.Repeat("y", 64<<20))
	if during := free(); during > before-(60<<20) {
		t.Errorf("%d bytes free before, %d while held", before, during)
	}
	fatal(t, h.Release())
	var after uint64
	for range 100 { // XFS frees the blocks of an unlinked file soon, not at once
		if after = free(); after > before-(4<<20) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d bytes free before, %d after", before, after)
}

func TestNoSnapshot(t *testing.T) {
	t.Parallel()
	other := t.TempDir()
	for name, change := range map[string]func(t *testing.T, c *outputs.Config, ws string){
		"none asked for": func(_ *testing.T, c *outputs.Config, _ string) { c.Snapshots = "" },
		"another disk": func(t *testing.T, c *outputs.Config, _ string) {
			c.Snapshots = filepath.Join(other, "private")
			fatal(t, os.Mkdir(c.Snapshots, 0o700))
		},
		"one of two volumes elsewhere": func(t *testing.T, c *outputs.Config, _ string) {
			c.FileSystems = append(c.FileSystems, "ext4", "tmpfs", "overlay", "btrfs")
			c.Volumes = append(c.Volumes, outputs.Volume{Inside: "/home/runner/_work/widget/z", Outside: t.TempDir()})
			write(t, filepath.Join(c.Volumes[2].Outside, "f1"), "elsewhere")
		},
		"disk full": func(t *testing.T, _ *outputs.Config, ws string) { fill(t, filepath.Join(ws, "..")) },
		"many pieces": func(t *testing.T, _ *outputs.Config, ws string) {
			pieces(t, filepath.Join(ws, "f0"), 10_000)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, ws := snapshots(t)
			for i := range 3 {
				write(t, filepath.Join(ws, fmt.Sprintf("f%d", i)), fmt.Sprint("text ", i))
			}
			change(t, &c, ws)
			fatal(t, outputs.Settle(t.Context(), ws))
			h, err := outputs.Hold(t.Context(), c, patterns("/home/runner/_work/widget/**/f*"), limits())
			fatal(t, err)
			defer func() { fatal(t, h.Release()) }()
			if h.Snapshot() {
				t.Error("a snapshot")
			}
			got, err := h.Hash(t.Context())
			if name == "one of two volumes elsewhere" { // one name, two digests: everything was hashed
				wantRefusal(t, err, refusal.ErrMalformed, "different bytes")
				return
			}
			fatal(t, err)
			if len(got) != 3 || got[2].SHA256 != sha256.Sum256([]byte("text 2")) {
				t.Errorf("got %v", got)
			}
			fatal(t, os.WriteFile(filepath.Join(ws, "f2"), []byte("text 3"), 0o600)) // the sandbox was not left alone
			_, err = h.Hash(t.Context())
			wantRefusal(t, err, refusal.ErrBinding, "unchanged while it was read")
		})
	}
}

// fill writes to the disk of dir until nothing more goes in.
func fill(t *testing.T, dir string) {
	t.Helper()
	block := make([]byte, 1<<20)
	f, err := os.Create(filepath.Join(dir, "ballast"))
	fatal(t, err)
	defer f.Close()
	for len(block) > 0 {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	for i := 0; ; i++ { // and the inodes
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("inode", i)), nil, 0o600); err != nil {
			return
		}
	}
}

// pieces makes a file of so many extents, and keeps its text at the start.
func pieces(t *testing.T, name string, n int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	fatal(t, err)
	defer f.Close()
	for i := int64(1); i < n; i++ {
		if _, err := f.WriteAt([]byte("x"), i*8192); err != nil {
			t.Fatal(err)
		}
	}
}

// A request that a frozen sandbox has no time for says so, and can be held again when the sandbox is dead.
func TestOverBudget(t *testing.T) {
	t.Parallel()
	root, _ := sandbox(t, map[string]string{"f": strings.Repeat("x", 1<<20), "dir/g": "g"})
	c := config(root)
	hold := func(change func(*outputs.Limits), req outputs.Request) error {
		l := limits()
		change(&l)
		h, err := outputs.Hold(t.Context(), c, req, l)
		if err != nil {
			return err
		}
		_, err = h.Hash(t.Context())
		return errors.Join(err, h.Release())
	}
	for name, tc := range map[string]struct {
		change func(*outputs.Limits)
		over   bool
		says   string
	}{
		"time":         {func(l *outputs.Limits) { l.FrozenTime = 1 }, true, "held within 1ns"},
		"bytes":        {func(l *outputs.Limits) { l.FrozenBytes = 1<<20 - 1 }, true, "1048575 bytes hashed while the job stands still"},
		"bytes in all": {func(l *outputs.Limits) { l.Bytes = 1<<20 - 1 }, false, "1048575 bytes in all outputs"},
		"entries":      {func(l *outputs.Limits) { l.Entries = 1 }, false, "1 directory entries"},
	} {
		err := hold(tc.change, patterns("f", "dir*/*"))
		wantRefusal(t, err, refusal.ErrPolicy, tc.says)
		if errors.Is(err, outputs.ErrOverBudget) != tc.over {
			t.Errorf("%s: over budget %v: %v", name, !tc.over, err)
		}
	}
	fatal(t, hold(func(*outputs.Limits) {}, patterns("f", "dir*/*")))
}

// A snapshot has time of its own, while the job goes on.
func TestSnapshotTime(t *testing.T) {
	t.Parallel()
	c, ws := snapshots(t)
	write(t, filepath.Join(ws, "f"), "f")
	l := limits()
	l.Time, l.FrozenBytes = 1, 1
	write(t, filepath.Join(ws, "g"), strings.Repeat("g", 100))
	h, err := outputs.Hold(t.Context(), c, patterns("/home/runner/_work/widget/*"), l)
	fatal(t, err) // FrozenBytes is not for snapshots
	defer func() { fatal(t, h.Release()) }()
	_, err = h.Hash(t.Context())
	wantRefusal(t, err, refusal.ErrPolicy, "hashed within 1ns")
	if errors.Is(err, outputs.ErrOverBudget) {
		t.Errorf("over the budget of a frozen sandbox: %v", err)
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	if err := outputs.Settle(t.Context(), t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := outputs.Settle(t.Context(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := outputs.Settle(ctx, t.TempDir()); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
