// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/verity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFindMirror(t *testing.T) {
	t.Parallel()
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			if i := slices.Index(pairs, name); i >= 0 {
				return pairs[i+1]
			}
			return ""
		}
	}
	script := "    my $mirror    = 'http://mirror.test/debian';\n    my $secmirror = 'https://mirror.test/security';\n    my $other = 'http://x.test';\n"
	if got := scriptMirror(script, Mirror{}); got != (Mirror{Archive: "http://mirror.test/debian", Security: "https://mirror.test/security"}) {
		t.Errorf("mmdebstrap's own: %+v", got)
	}
	if got := scriptMirror(script, Mirror{Archive: "http://kept.test"}); got != (Mirror{Archive: "http://kept.test", Security: "https://mirror.test/security"}) {
		t.Errorf("what was found before: %+v", got)
	}
	got := FindMirror(t.Context(), env("KETTLE_DEBIAN_MIRROR", "http://mirror.test/debian/"))
	if want := (Mirror{Archive: "http://mirror.test/debian", Security: "http://mirror.test/debian-security", Snapshot: history}); got != want {
		t.Errorf("want %v, got %v", want, got)
	}
	got = FindMirror(t.Context(), env("KETTLE_DEBIAN_MIRROR", "http://mirror.test/a", "KETTLE_DEBIAN_SECURITY_MIRROR", "http://mirror.test/b",
		"KETTLE_DEBIAN_SNAPSHOT", "http://mirror.test/past/", "KETTLE_PACKAGES", "fresh"))
	if want := (Mirror{Archive: "http://mirror.test/a", Security: "http://mirror.test/b", Snapshot: "http://mirror.test/past", Fresh: true}); got != want {
		t.Errorf("want %v, got %v", want, got)
	}
	if got := FindMirror(t.Context(), env()); got.Archive == "" || got.Security == "" {
		t.Errorf("no default: %v", got)
	}
}

func TestHostMirror(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		targets string
		want    Mirror
	}{
		"Debian": {
			"Debian|Debian|http://a.test/debian/\nDebian|Debian-Security|http://a.test/debian-security/\nDebian|Debian|http://b.test/debian/\n",
			Mirror{Archive: "http://a.test/debian", Security: "http://a.test/debian-security"},
		},
		"Ubuntu":           {"Ubuntu|Ubuntu|http://archive.ubuntu.test/ubuntu/\n", Mirror{}},
		"local files":      {"Debian|Debian|file:/srv/debian/\n", Mirror{}},
		"another's":        {"Example|Debian|http://a.test/debian/\n", Mirror{}},
		"broken lines":     {"Debian|Debian\n\n|\n", Mirror{}},
		"nothing":          {"", Mirror{}},
		"without security": {"Debian|Debian|http://a.test/debian/\n", Mirror{Archive: "http://a.test/debian"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := hostMirror(tt.targets, Mirror{}); got != tt.want {
				t.Errorf("want %v, got %v", tt.want, got)
			}
		})
	}
}

func TestAptConfigTakesProxiesOnly(t *testing.T) {
	t.Parallel()
	dump := `Acquire "";
Acquire::http "";
Acquire::http::Proxy "http://proxy.test:3142";
Acquire::https::Proxy::mirror.test "DIRECT";
Acquire::Check-Valid-Until "false";
Acquire::AllowInsecureRepositories "true";
APT::Get::AllowUnauthenticated "true";
`
	got := aptConfig("/x", "/x/sources.list", dump)
	for _, want := range []string{`Acquire::http::Proxy "http://proxy.test:3142";`, `Proxy::mirror.test "DIRECT";`, `Dir::Etc::parts "/x/etc/parts";`} {
		if !strings.Contains(got, want) {
			t.Errorf("want %s in %s", want, got)
		}
	}
	for _, bad := range []string{"Check-Valid-Until", "Insecure", "Unauthenticated"} {
		if strings.Contains(got, bad) {
			t.Errorf("%s came through: %s", bad, got)
		}
	}
}

func TestSourcesAreSigned(t *testing.T) {
	t.Parallel()
	for _, line := range (Mirror{Archive: "http://a.test/debian", Security: "http://a.test/debian-security"}).sources() {
		if !strings.Contains(line, "signed-by="+keyring) || strings.Contains(line, "trusted=yes") {
			t.Errorf("not signed by Debian's keys: %s", line)
		}
	}
}

func TestKernelName(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"  Depends: linux-image-6.12.117+deb12-cloud-amd64":          "6.12.117+deb12-cloud-amd64",
		"  Depends: linux-image-6.12.1+deb12.1-cloud-amd64":          "6.12.1+deb12.1-cloud-amd64",
		"  Depends: linux-image-6.12.117+deb12-cloud-amd64-unsigned": "",
		"  Depends: linux-image-6.1.0-40-cloud-amd64":                "",
		"  Suggests: linux-image-6.12.117+deb12-cloud-amd64":         "",
	} {
		got := ""
		if m := kernelName.FindStringSubmatch(line); m != nil {
			got = m[1]
		}
		if got != want {
			t.Errorf("%q: want %q, got %q", line, want, got)
		}
	}
}

func TestTree(t *testing.T) {
	t.Parallel()
	source := t.TempDir()
	write(t, filepath.Join(source, "bin/tool"), "#!/bin/sh\n", 0o700)
	write(t, filepath.Join(source, "data"), "data", 0o640)
	write(t, filepath.Join(source, "skipped/file"), "x", 0o600)
	if err := os.Symlink("bin/tool", filepath.Join(source, "link")); err != nil {
		t.Fatal(err)
	}
	tree := Tree{Source: source, Target: "/home/runner/.cache/x", Owner: os.Getuid(), Skip: func(path string, _ fs.DirEntry) bool { return path == "skipped" }}
	root := t.TempDir()
	if err := tree.copyTo(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	top := filepath.Join(root, "home/runner/.cache/x")
	for name, want := range map[string]os.FileMode{"bin/tool": 0o755, "data": 0o644, "bin": fs.ModeDir | 0o755} {
		if info, err := os.Lstat(filepath.Join(top, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: want %v, got %v, %v", name, want, info.Mode(), err)
		}
	}
	if link, err := os.Readlink(filepath.Join(top, "link")); err != nil || link != "bin/tool" {
		t.Errorf("link: %q, %v", link, err)
	}
	if _, err := os.Stat(filepath.Join(top, "skipped")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is skipped was copied: %v", err)
	}
	if err := tree.copyTo(t.Context(), root); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second copy replaced the first: %v", err)
	}
}

func TestTreeDigest(t *testing.T) {
	t.Parallel()
	type change func(t *testing.T, dir string, tree *Tree)
	digest := func(t *testing.T, alter change) image.SHA256 {
		t.Helper()
		dir := t.TempDir()
		write(t, filepath.Join(dir, "a/tool"), "one", 0o755)
		write(t, filepath.Join(dir, "b"), "two", 0o644)
		tree := Tree{Source: dir, Target: "/x"}
		alter(t, dir, &tree)
		got, err := tree.digest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	same := digest(t, func(*testing.T, string, *Tree) {})
	if again := digest(t, func(t *testing.T, dir string, _ *Tree) {
		if err := errors.Join(os.Chtimes(filepath.Join(dir, "b"), time.Unix(1, 0), time.Unix(1, 0)), os.Chmod(filepath.Join(dir, "b"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}); again != same {
		t.Error("times or the read bits count")
	}
	for name, alter := range map[string]change{
		"content":    func(t *testing.T, dir string, _ *Tree) { write(t, filepath.Join(dir, "b"), "twO", 0o644) },
		"executable": func(t *testing.T, dir string, _ *Tree) { must(t, os.Chmod(filepath.Join(dir, "b"), 0o755)) },
		"name": func(t *testing.T, dir string, _ *Tree) {
			must(t, os.Rename(filepath.Join(dir, "b"), filepath.Join(dir, "c")))
		},
		"more":   func(t *testing.T, dir string, _ *Tree) { write(t, filepath.Join(dir, "c"), "", 0o644) },
		"folder": func(t *testing.T, dir string, _ *Tree) { must(t, os.Mkdir(filepath.Join(dir, "c"), 0o755)) },
		"link":   func(t *testing.T, dir string, _ *Tree) { must(t, os.Symlink("b", filepath.Join(dir, "c"))) },
		"target": func(_ *testing.T, _ string, tree *Tree) { tree.Target = "/y" },
		"owner":  func(_ *testing.T, _ string, tree *Tree) { tree.Owner = 1001 },
	} {
		if digest(t, alter) == same {
			t.Errorf("%s does not count", name)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestGoTreeSkips(t *testing.T) {
	t.Parallel()
	tree := GoTree("/goroot")
	for path, skipped := range map[string]bool{
		"VERSION": false, "go.env": false, "bin/go": false, "src/fmt/print.go": false, "pkg/tool/linux_amd64/compile": false,
		"lib/time/zoneinfo.zip": false, "src/go/testdata": true, "src/fmt/fmt_test.go": true, "src/cmd": true, "test": true,
		"api": true, "doc": true, "misc": true, "codereview.cfg": true, "pkg/obj": true, "bin/gofmt": true,
	} {
		if got := tree.Skip(path, named(filepath.Base(path))); got != skipped {
			t.Errorf("%s: want %v, got %v", path, skipped, got)
		}
	}
}

// named is a directory entry of which only the name counts.
type named string

func (n named) Name() string             { return string(n) }
func (named) IsDir() bool                { return false }
func (named) Type() fs.FileMode          { return 0 }
func (named) Info() (fs.FileInfo, error) { return nil, fs.ErrNotExist }

func TestSealRoot(t *testing.T) {
	t.Parallel()
	data := strings.Repeat("kettle..", 4096/8*300)
	path := write(t, filepath.Join(t.TempDir(), "root"), data, 0o600)
	want, err := SealRoot(t.Context(), path)
	if err != nil || want.DataBlocks != 300 {
		t.Fatalf("got %v, %v", want, err)
	}
	sealed, err := os.ReadFile(path)
	must(t, err)
	if !strings.HasPrefix(string(sealed), data) || int64(len(sealed)) != (300+verity.TreeBlocks(300))*verity.BlockSize {
		t.Fatalf("%d bytes", len(sealed))
	}
	if got, err := SealedRoot(t.Context(), path); err != nil || got != want {
		t.Errorf("want %v, got %v, %v", want, got, err)
	}
	for name, spoiled := range map[string][]byte{
		"data": append([]byte("K"), sealed[1:]...), "tree": append(slices.Clone(sealed[:len(sealed)-1]), 1),
		"a block less": sealed[:len(sealed)-4096], "a byte more": append(slices.Clone(sealed), 0), "nothing": nil,
	} {
		if got, err := SealedRoot(t.Context(), write(t, filepath.Join(t.TempDir(), "root"), string(spoiled), 0o600)); err == nil {
			t.Errorf("%s: accepted as %v", name, got)
		}
	}
}

func TestRunTellsTheReason(t *testing.T) {
	t.Parallel()
	_, err := run(t.Context(), tool{name: "sh", args: []string{"-c", "echo the reason >&2; exit 3"}})
	if err == nil || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := run(ctx, tool{name: "sleep", args: []string{"60"}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("want the context's error, got %v", err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	if err := (&Config{}).Validate(); err == nil || !strings.Contains(err.Error(), "kettled") || !strings.Contains(err.Error(), "mirror") {
		t.Errorf("an empty configuration: %v", err)
	}
	if m, err := Build(t.Context(), Config{}); err == nil || m != nil {
		t.Error("an empty configuration was built")
	}
}
