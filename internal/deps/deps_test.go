// SPDX-License-Identifier: Apache-2.0

package deps_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kettle/attest/internal/deps"
)

// moduleRoot walks up to go.mod.
func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above this test")
		}
		dir = up
	}
}

// graph asks the go command for every package of the module.
func graph(t *testing.T) []deps.Package {
	t.Helper()
	fields := "ImportPath,Imports,TestImports,XTestImports,Deps,GoFiles,TestGoFiles,XTestGoFiles,Standard"
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json="+fields, "./...")
	cmd.Dir = moduleRoot(t)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []deps.Package
	decoder := json.NewDecoder(bytes.NewReader(out))
	for {
		var p deps.Package
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) < 2 {
		t.Fatalf("go list names %d packages; the rules would be checked against nothing", len(packages))
	}
	return packages
}

// TestModule holds this module to its rules.
func TestModule(t *testing.T) {
	t.Parallel()
	packages := graph(t)
	checks := map[string][]string{
		"order":     deps.CheckOrder(packages, deps.Order()),
		"importers": deps.CheckImporters(packages, deps.SingleImporters()),
		"barred":    deps.CheckBarred(packages, deps.BarredLinks()),
		"bare":      deps.CheckBare(packages, deps.BarePackages()),
	}
	for name, faults := range checks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, fault := range faults {
				t.Error(fault)
			}
		})
	}
}

// TestOrderIsUsed fails when the order names a folder that is gone: a stale rule guards nothing.
func TestOrderIsUsed(t *testing.T) {
	t.Parallel()
	root := moduleRoot(t)
	for _, folder := range deps.Order() {
		if _, err := os.Stat(filepath.Join(root, folder)); err != nil {
			t.Errorf("the import order names %s, which does not exist: remove it from internal/deps and docs/architecture.md", folder)
		}
	}
}

// TestDocumentedOrder fails when docs/architecture.md does not name a folder of the order.
func TestDocumentedOrder(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(moduleRoot(t), "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range deps.Order() {
		if !strings.Contains(string(text), "`"+folder+"`") {
			t.Errorf("docs/architecture.md does not name `%s`", folder)
		}
	}
}

var (
	drawnNode  = regexp.MustCompile(`(\w+)\(?\["([a-z/-]+)"\]\)?`)
	drawnArrow = regexp.MustCompile(`(?m)^\s*(\w+)(?:\S*\))? --> (\w+)$`)
)

// TestDrawnArrows fails when the graph in docs/architecture.md shows an import that does not exist.
func TestDrawnArrows(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(moduleRoot(t), "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, drawing, _ := strings.Cut(string(text), "```mermaid")
	drawing, _, _ = strings.Cut(drawing, "```")
	folders := map[string]string{}
	for _, m := range drawnNode.FindAllStringSubmatch(drawing, -1) {
		folders[m[1]] = m[2]
	}
	arrows := drawnArrow.FindAllStringSubmatch(drawing, -1)
	if len(arrows) < 20 || len(arrows) != strings.Count(drawing, "-->") {
		t.Fatalf("%d of %d arrows could be read", len(arrows), strings.Count(drawing, "-->"))
	}
	packages := graph(t)
	for _, m := range arrows {
		from, to := folders[m[1]], folders[m[2]]
		if from == "" || to == "" || !deps.Imports(packages, from, to) {
			t.Errorf("docs/architecture.md draws %s (%s) --> %s (%s), which is no import", m[1], from, m[2], to)
		}
	}
}

// TestFolders fails on a folder without a file.
func TestFolders(t *testing.T) {
	t.Parallel()
	root := moduleRoot(t)
	var folders, files []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		below = filepath.ToSlash(below)
		switch {
		case below == ".git" || below == "out" || below == "bin":
			if entry.IsDir() {
				return fs.SkipDir
			}
		case below == ".":
		case entry.IsDir():
			folders = append(folders, below)
		default:
			files = append(files, below)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range deps.EmptyFolders(folders, files) {
		t.Errorf("the folder %s is empty: a folder comes with its first file", folder)
	}
}

func own(path string) string { return deps.Module + "/" + path }

// TestRules shows that each check says no: for each rule, a graph that breaks it and one that does not.
func TestRules(t *testing.T) {
	t.Parallel()
	order := []string{"a", "a/low", "b", "cmd"}
	importers := []deps.Importers{{Library: "example.com/heavy", Folders: []string{"a"}, Tests: []string{"b"}, Reason: "one home"}}
	barred := []deps.Barred{{Folders: []string{"a"}, Except: []string{"a/low"}, Links: []string{"example.com/heavy", "./b"}, Reason: "small"}}
	bare := []deps.Bare{{Folder: "a", Also: []string{"b"}, Reason: "bare"}}
	cases := map[string]struct {
		pkg    deps.Package
		check  func([]deps.Package) []string
		refuse string // a part of the sentence; empty when the graph is fine
	}{
		"order: upwards":            {deps.Package{ImportPath: own("b"), Imports: []string{own("a"), "fmt"}}, inOrder(order), ""},
		"order: downwards":          {deps.Package{ImportPath: own("a"), Imports: []string{own("b")}}, inOrder(order), "a imports b, which stands below it"},
		"order: sub-folder":         {deps.Package{ImportPath: own("a"), Imports: []string{own("a/low")}}, inOrder(order), "a imports a/low"},
		"order: same entry":         {deps.Package{ImportPath: own("cmd/x"), Imports: []string{own("cmd/internal")}}, inOrder(order), ""},
		"order: unknown package":    {deps.Package{ImportPath: own("util")}, inOrder(order), "util stands nowhere"},
		"order: alike name":         {deps.Package{ImportPath: own("ab")}, inOrder(order), "ab stands nowhere"},
		"order: other module":       {deps.Package{ImportPath: "example.com/x", Imports: []string{own("b")}}, inOrder(order), ""},
		"importer: home":            {deps.Package{ImportPath: own("a/x"), Imports: []string{"example.com/heavy/v2"}}, of(importers), ""},
		"importer: second":          {deps.Package{ImportPath: own("b"), Imports: []string{"example.com/heavy"}}, of(importers), "one home"},
		"importer: allowed test":    {deps.Package{ImportPath: own("b"), XTestImports: []string{"example.com/heavy"}}, of(importers), ""},
		"importer: test elsewhere":  {deps.Package{ImportPath: own("cmd"), TestImports: []string{"example.com/heavy"}}, of(importers), "a test of cmd"},
		"importer: alike name":      {deps.Package{ImportPath: own("b"), Imports: []string{"example.com/heavyweight"}}, of(importers), ""},
		"barred: library":           {deps.Package{ImportPath: own("a"), GoFiles: []string{"a.go"}, Deps: []string{"example.com/heavy/x"}}, without(barred), "a links example.com/heavy/x: small"},
		"barred: own package":       {deps.Package{ImportPath: own("a/x"), GoFiles: []string{"a.go"}, Deps: []string{own("b")}}, without(barred), "small"},
		"barred: exception":         {deps.Package{ImportPath: own("a/low"), GoFiles: []string{"a.go"}, Deps: []string{own("b")}}, without(barred), ""},
		"barred: folder not meant":  {deps.Package{ImportPath: own("cmd"), GoFiles: []string{"a.go"}, Deps: []string{own("b")}}, without(barred), ""},
		"bare: standard library":    {deps.Package{ImportPath: own("a"), Imports: []string{"crypto/sha256", own("b")}}, only(bare), ""},
		"bare: library":             {deps.Package{ImportPath: own("a"), Imports: []string{"example.com/x"}}, only(bare), "a imports example.com/x"},
		"bare: own package":         {deps.Package{ImportPath: own("a"), Imports: []string{own("c")}}, only(bare), "standard library only"},
		"bare: folder below is not": {deps.Package{ImportPath: own("a/x"), Imports: []string{own("c")}}, only(bare), ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			faults := strings.Join(c.check([]deps.Package{c.pkg}), "\n")
			if c.refuse == "" && faults != "" {
				t.Errorf("want no fault, got %q", faults)
			}
			if !strings.Contains(faults, c.refuse) {
				t.Errorf("want a fault with %q, got %q", c.refuse, faults)
			}
		})
	}
}

func inOrder(order []string) func([]deps.Package) []string {
	return func(p []deps.Package) []string { return deps.CheckOrder(p, order) }
}

func of(rules []deps.Importers) func([]deps.Package) []string {
	return func(p []deps.Package) []string { return deps.CheckImporters(p, rules) }
}

func without(rules []deps.Barred) func([]deps.Package) []string {
	return func(p []deps.Package) []string { return deps.CheckBarred(p, rules) }
}

func only(rules []deps.Bare) func([]deps.Package) []string {
	return func(p []deps.Package) []string { return deps.CheckBare(p, rules) }
}

// TestEmptyFolders covers the walk's judge.
func TestEmptyFolders(t *testing.T) {
	t.Parallel()
	got := deps.EmptyFolders([]string{"a", "a/b", "c", "cc"}, []string{"a/b/x.go", "cc/y.go"})
	if len(got) != 1 || got[0] != "c" {
		t.Errorf("want [c], got %v", got)
	}
}

// TestRulesHaveReasons fails on a rule that does not say why it is there.
func TestRulesHaveReasons(t *testing.T) {
	t.Parallel()
	for _, r := range deps.SingleImporters() {
		if r.Reason == "" || len(r.Folders) == 0 {
			t.Errorf("the rule for %s lacks its reason or its folders", r.Library)
		}
	}
	for _, r := range deps.BarredLinks() {
		if r.Reason == "" || len(r.Links) == 0 || len(r.Folders) == 0 {
			t.Errorf("the rule for %v lacks its reason, its links or its folders", r.Folders)
		}
	}
	for _, r := range deps.BarePackages() {
		if r.Reason == "" {
			t.Errorf("the rule for %s lacks its reason", r.Folder)
		}
	}
}
