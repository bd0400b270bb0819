// SPDX-License-Identifier: Apache-2.0

package tree_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kettle/attest/internal/fakegithub/tree"
)

// folder writes a tree with everything that sorts or counts differently in git.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{
		"a.txt": 0o644, "a/b": 0o644, "a/c/d": 0o755, "a0": 0o644, "a-b": 0o600, "z/.git": 0o644, ".github/workflows/x.yml": 0o644, "empty": 0o644,
	} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o750); err != nil {
			t.Fatal(err)
		}
		content := []byte("content of " + name)
		if name == "empty" {
			content = nil
		}
		if err := os.WriteFile(p, content, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a/b", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "void"), 0o750); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Identifiers are git's own. Golden: they may change only with the test folder.
func TestGolden(t *testing.T) {
	t.Parallel()
	c, err := tree.New(os.DirFS(folder(t)), tree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const wantTree, wantCommit = "4a2ab028fd80645b75d01be46fdb5abfdca09d6a", "22053599e9e73ecc81db3bf778c1e2c141127d0b"
	if c.Tree != wantTree || c.SHA != wantCommit {
		t.Errorf("tree %s, commit %s", c.Tree, c.SHA)
	}
}

func TestAgainstGit(t *testing.T) {
	t.Parallel()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not installed")
	}
	dir := folder(t)
	c, err := tree.New(os.DirFS(dir), tree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "z", ".git")); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), git, args...)
		cmd.Dir = dir
		const when = "1767225600 +0000"
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
			"GIT_AUTHOR_NAME=fakegithub", "GIT_AUTHOR_EMAIL=noreply@github.demo.test", "GIT_AUTHOR_DATE="+when,
			"GIT_COMMITTER_NAME=fakegithub", "GIT_COMMITTER_EMAIL=noreply@github.demo.test", "GIT_COMMITTER_DATE="+when)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("init", "-q")
	run("add", "-A", "-f")
	run("commit", "-q", "-m", "Snapshot")
	if got := run("rev-parse", "HEAD^{tree}"); got != c.Tree {
		t.Errorf("git's tree %s, ours %s", got, c.Tree)
	}
	if got := run("rev-parse", "HEAD"); got != c.SHA {
		t.Errorf("git's commit %s, ours %s", got, c.SHA)
	}
}

func TestArchives(t *testing.T) {
	t.Parallel()
	c, err := tree.New(os.DirFS(folder(t)), tree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := c.Tar(&b, "o-r-1234567"); err != nil {
		t.Fatal(err)
	}
	zr, err := gzip.NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]*tar.Header{}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = h
	}
	if h := got["pax_global_header"]; h == nil || h.PAXRecords["comment"] != c.SHA {
		t.Errorf("global header %+v", h)
	}
	if h := got["o-r-1234567/link"]; h == nil || h.Linkname != "a/b" {
		t.Errorf("link %+v", h)
	}
	if h := got["o-r-1234567/a/c/d"]; h == nil || h.Mode&0o100 == 0 {
		t.Errorf("executable %+v", h)
	}
	if len(got) != 2+len(c.Files) {
		t.Errorf("%d entries for %d files", len(got), len(c.Files))
	}
	b.Reset()
	if err := c.Zip(&b, "o-r-1234567"); err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil || len(z.File) != len(c.Files) {
		t.Errorf("zip: %v", err)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	fsys := fstest.MapFS{"action.yml": {Data: []byte("a")}, "docs/x/y": {Data: []byte("b")}, "docs/z": {Data: []byte("c")}, "big/f": {Data: []byte("d")}}
	sha := strings.Repeat("0123456789", 4)
	c, err := tree.New(fsys, tree.Options{Include: []string{"action.yml", "docs/x"}, SHA: sha})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Files) != 2 || c.SHA != sha {
		t.Errorf("files %d, commit %s", len(c.Files), c.SHA)
	}
	if f, ok := c.File("docs/x/y"); !ok || string(f.Data) != "b" {
		t.Errorf("file %+v", f)
	}
	if _, ok := c.File("docs/z"); ok {
		t.Error("a file that was not asked for")
	}
	for name, opts := range map[string]tree.Options{"nothing": {Include: []string{"none"}}, "identifier": {SHA: "abc"}} {
		if _, err := tree.New(fsys, opts); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
