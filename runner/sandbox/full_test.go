// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/runner/sandbox"
)

// scriptsDir holds the jobs of the full machine, and packagesDir a repository for apt.
const (
	scriptsDir  = "/usr/lib/kettle/scripts"
	packagesDir = "/usr/lib/kettle/packages"
)

// addScripts puts them into the root.
func addScripts(t *testing.T, tree string) {
	t.Helper()
	scripts, err := filepath.Glob("testdata/*.sh")
	if err != nil || len(scripts) == 0 {
		t.Fatal(err)
	}
	for _, s := range scripts {
		install(t, s, filepath.Join(tree, scriptsDir, filepath.Base(s)), 0o755)
	}
	addPackage(t, filepath.Join(tree, packagesDir))
}

// addPackage makes a repository of one package, as dpkg-scanpackages would.
func addPackage(t *testing.T, dir string) {
	t.Helper()
	const control = "Package: kettle-hello\nVersion: 1.0\nArchitecture: all\nMaintainer: Kettle <kettle@example.invalid>\n" +
		"Description: says hello\n"
	const hello = "#!/bin/sh\necho hello from a package\n"
	work := t.TempDir()
	for name, text := range map[string]string{"DEBIAN/control": control, "usr/bin/kettle-hello": hello} {
		path := filepath.Join(work, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	deb := filepath.Join(dir, "kettle-hello.deb")
	command(t, "dpkg-deb", "--root-owner-group", "--build", work, deb)
	data, err := os.ReadFile(deb)
	if err != nil {
		t.Fatal(err)
	}
	list := fmt.Sprintf("%sFilename: ./kettle-hello.deb\nSize: %d\nSHA256: %x\n", control, len(data), sha256.Sum256(data))
	if err := os.WriteFile(filepath.Join(dir, "Packages"), []byte(list), 0o644); err != nil {
		t.Fatal(err)
	}
}

// roomy is what container engines need.
func roomy(c sandbox.Config) sandbox.Config {
	c.Limits.Memory, c.Limits.Processes, c.Limits.Files = 1<<30, 1000, 65536
	return c
}

// script runs one of the jobs to its end and demands its words and its exit code.
func script(t *testing.T, c sandbox.Config, code int, words []string, args ...string) running {
	t.Helper()
	argv := append([]string{"/bin/bash", filepath.Join(scriptsDir, args[0])}, args[1:]...)
	r := loadArgs(t, roomy(c), argv)
	before := time.Now()
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.Done():
	case <-time.After(12 * time.Minute):
		t.Errorf("it does not end")
	}
	t.Logf("it took %v", time.Since(before).Round(time.Second))
	if got := r.wait(t); got != code {
		t.Errorf("exit code %d", got)
	}
	for _, w := range append(words, "all is well") {
		if !strings.Contains(r.out.String(), w) {
			t.Errorf("no %q", w)
		}
	}
	if n, left := r.Leftovers(); n > 0 {
		t.Logf("%d left: %v", n, left)
	}
	t.Log("\n" + r.out.String())
	return r
}
