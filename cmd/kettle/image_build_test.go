// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/build"
	"github.com/kettle/attest/image/locks"
)

// kernelPackage makes a package of Debian's format that holds a kernel.
func kernelPackage(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	for name, text := range map[string]string{
		"boot/vmlinuz-6.12.1-test": "kernel", "lib/modules/6.12.1-test/kernel/x.ko": "module",
		"DEBIAN/control": "Package: linux-image-6.12.1-test\nVersion: 6.12.1-1\nArchitecture: amd64\nMaintainer: test <test@example.com>\nDescription: test\n",
	} {
		path := filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--build", "--root-owner-group", tree, dir+"/x.deb").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(dir + "/x.deb")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// buildFiles are what the scripts about builds find: an archive of one package, locks that name it, and a configuration.
func buildFiles(t *testing.T) map[string][]byte {
	t.Helper()
	deb := kernelPackage(t)
	lock, err := locks.OfProfile("strict")
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range lock.Packages {
		if p.Use == locks.Kernel {
			lock.Packages[i] = locks.Package{
				Name: "linux-image-6.12.1-test", Version: "6.12.1-1", Architecture: "amd64", Archive: locks.Main, Use: locks.Kernel,
				Path: "pool/main/l/linux/linux-image-6.12.1-test_6.12.1-1_amd64.deb", SHA256: image.SHA256(sha256.Sum256(deb)), Size: int64(len(deb)),
			}
		}
	}
	text, err := lock.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	formats, err := os.ReadFile("../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	_, config, _ := strings.Cut(string(formats), "<!-- example: config -->\n```yaml\n")
	config, _, _ = strings.Cut(config, "```")
	pin := `{"schema":"kettle.runner/v1","version":"2.336.0","released":"2026-08-17","size":1,"url":"https://127.0.0.1:1/x","sha256":"` +
		strings.Repeat("ab", 32) + `"}`
	return map[string][]byte{
		"archive/pool/main/l/linux/linux-image-6.12.1-test_6.12.1-1_amd64.deb": deb, "other/pool/main/l/linux/linux-image-6.12.1-test_6.12.1-1_amd64.deb": append(deb[:len(deb):len(deb)], 0),
		"strict.lock": text, "settings/config.yaml": []byte(config), "loose/config.yaml": []byte("schema: kettle.config/v1\n"), "runner.lock": []byte(pin),
		"bad.lock": []byte(strings.Replace(string(text), "{", "{ ", 1)), "bad-runner.lock": []byte(strings.Replace(pin, "https", "http", 1)),
		"runner/bin/Runner.Listener": []byte("#!/bin/sh\n"), "runner.json": []byte(`{"version":"2.336.0","released":"2026-08-17"}`), "program": []byte("\x7fELF"), "file": []byte("x"),
	}
}

func TestImageBuildScripts(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skipf("images are built on Debian and Ubuntu: %v", err)
	}
	files := buildFiles(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/build",
		Setup: func(env *testscript.Env) error {
			for name, data := range files {
				path := filepath.Join(env.WorkDir, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o700)); err != nil {
					return err
				}
			}
			programs, _, _ := strings.Cut(env.Getenv("PATH"), ":")
			env.Setenv("KETTLE", filepath.Join(programs, "kettle"))
			env.Setenv("KETTLE_CACHE", filepath.Join(env.WorkDir, "cache"))
			env.Setenv("KETTLE_DEBIAN_MIRROR", "file://"+filepath.Join(env.WorkDir, "archive"))
			env.Setenv("KETTLE_DEBIAN_SNAPSHOT", "file://"+filepath.Join(env.WorkDir, "nowhere"))
			return nil
		},
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"code": wantCode},
		RequireExplicitExec: true,
	})
}

// TestBuildInterrupted ends each command that takes long as soon as it has begun.
func TestBuildInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, args := range [][]string{
		{"image", "fetch", "--kernel", "--cache", t.TempDir()}, {"image", "fetch", "--cache", t.TempDir()},
	} {
		if code, out, said := call(ctx, args...); code != cli.ExitInterrupted || out != "" {
			t.Errorf("%v: code %d, %s%s", args, code, out, said)
		}
	}
}

// TestStepLog holds what a person sees of a build where there is no terminal, and what a program gets.
func TestStepLog(t *testing.T) {
	t.Parallel()
	var said strings.Builder
	l := newStepLog(&cli.IO{Err: &said})
	w := l.watch()
	w.Moving("packages", 1, 2)
	w.Done(build.Step{Name: "packages", Took: 1234567 * time.Microsecond})
	w.Done(build.Step{Name: "base", Took: 12 * time.Second, Cached: true, Note: "a note\x1b[2J"})
	l.end()
	if want := "  packages  made       1.2 s\n  base      cached    12.0 s\n            a note�[2J\n"; said.String() != want {
		t.Errorf("want %q\ngot  %q", want, said.String())
	}
	if want := (stepJSON{Name: "packages", Seconds: 1.235}); l.steps[0] != want {
		t.Errorf("got %+v", l.steps[0])
	}
}
