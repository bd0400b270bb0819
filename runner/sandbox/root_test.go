// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/image/build"
)

// Where the guests have what the tests need.
const (
	runnerDir  = "/usr/lib/kettle/runner"
	mutantsDir = "/usr/lib/kettle/mutants"
)

// command runs a tool for static programs.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	need(t, err)
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// job builds the program that runs in the sandboxes.
func job(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "job")
	command(t, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./testdata/job")
	return program
}

// pack makes the image of a root.
func pack(t *testing.T, tree string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root.erofs")
	command(t, "mkfs.erofs", "--quiet", root, tree)
	return root
}

// smallRoot makes the least root: the runtimes, an init, a shell and mkfs.xfs with their libraries, and the job twice: as
// the runner program, and to be run by root through its set-user-ID bit.
func smallRoot(t *testing.T) string {
	t.Helper()
	return pack(t, smallTree(t))
}

func smallTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"proc", "sys", "dev", "run", "scratch", "tmp", "var/tmp", "etc", "root", "home/runner"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/false\nrunner:x:1001:1001::/home/runner:/bin/sh\n",
		"etc/group":  "root:x:0:\nsudo:x:27:runner\ndocker:x:998:other,runner\nrunner:x:1001:\n", "home/runner/.profile": "of the image\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range []struct{ name, to string }{
		{"crun", "usr/bin/crun"}, {"runc", "usr/sbin/runc"}, {"catatonit", "usr/bin/catatonit"}, {"dash", "bin/sh"}, {"mkfs.xfs", "usr/sbin/mkfs.xfs"},
	} {
		path, err := exec.LookPath(program.name)
		need(t, err)
		install(t, path, filepath.Join(dir, program.to), 0o755)
		for _, lib := range libraries(t, path) {
			install(t, lib, filepath.Join(dir, lib), 0o755)
		}
	}
	addJob(t, dir)
	return dir
}

func addJob(t *testing.T, dir string) {
	t.Helper()
	program := job(t)
	install(t, program, filepath.Join(dir, runnerDir, "bin/Runner.Listener"), 0o755)
	install(t, program, filepath.Join(dir, "usr/bin/as-root"), 0o755|os.ModeSetuid)
}

// fullRoot adds the job to the docker profile's own system.
func fullRoot(t *testing.T) string {
	t.Helper()
	cache, err := build.CacheDir(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	base, err := build.Base(t.Context(), cache, build.FindMirror(t.Context(), os.Getenv), build.System{Profile: build.Docker})
	need(t, err)
	tree := filepath.Join(t.TempDir(), "tree")
	command(t, "cp", "-al", base, tree)
	for _, d := range []string{"scratch", strings.TrimPrefix(runnerDir, "/")} {
		if err := os.MkdirAll(filepath.Join(tree, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	addJob(t, tree)
	addScripts(t, tree)
	return pack(t, tree)
}

// libraries lists what the dynamic linker would load.
func libraries(t *testing.T, program string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ldd", program).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil // static
	}
	if err != nil {
		t.Fatal(err)
	}
	var libs []string
	for word := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(word, "/") {
			libs = append(libs, word)
		}
	}
	return libs
}

func install(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(to, data, 0o755), os.Chmod(to, mode)); err != nil {
		t.Fatal(err)
	}
}
