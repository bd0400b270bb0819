// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	cited   = regexp.MustCompile("`([a-z/]+)` ((?:TestAttack[A-Za-z0-9]+(?:, )?)+)")
	defined = regexp.MustCompile(`(?m)^func (TestAttack[A-Z][A-Za-z0-9]*)\(`)
)

// TestAttacksExist: every attack that the threat model names stands in the package that it names, and no attack of the
// project is left out of it.
func TestAttacksExist(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	text, named := string(page), map[string]map[string]bool{}
	for _, m := range cited.FindAllStringSubmatch(text, -1) {
		there := attacks(t, m[1])
		if named[m[1]] == nil {
			named[m[1]] = map[string]bool{}
		}
		for name := range strings.SplitSeq(strings.TrimSuffix(m[2], ", "), ", ") {
			named[m[1]][name] = true
			if !there[name] {
				t.Errorf("threat-model.md names %s of %s, which is not there", name, m[1])
			}
		}
	}
	for _, pkg := range packages(t) {
		for name := range attacks(t, pkg) {
			if !named[pkg][name] {
				t.Errorf("threat-model.md does not name %s of %s", name, pkg)
			}
		}
	}
	if len(named) < 5 {
		t.Errorf("found attacks of %d packages only", len(named))
	}
}

// packages lists the folders of the module that have tests.
func packages(t *testing.T) []string {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && d.Name() != "..") {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, "_test.go") {
			folder, err := filepath.Rel("..", filepath.Dir(path))
			if err != nil {
				return err
			}
			found[filepath.ToSlash(folder)] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(found))
}

// attacks lists the attack tests of a package.
func attacks(t *testing.T, pkg string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(pkg), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range defined.FindAllStringSubmatch(string(src), -1) {
			found[m[1]] = true
		}
	}
	return found
}
