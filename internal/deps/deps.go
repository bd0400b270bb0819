// SPDX-License-Identifier: Apache-2.0

// Package deps holds the rules for who may import whom in this module, and the check that they are kept.
//
// The rules are data: the import order of docs/architecture.md, the libraries that have one importer, the code that a
// verifier must never link. Each carries its reason, so that a failing test says why the rule is there. The package
// guarantees nothing at run time; its test reads the graph from the go command and is the guarantee. It trusts the go
// command's answer.
package deps

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Module is the path of this module.
const Module = "github.com/kettle/attest"

// Package is what the rules need to know of one package of this module. The field names are those of `go list -json`.
type Package struct {
	ImportPath   string
	Imports      []string // direct, of the files that are not tests
	TestImports  []string // direct, of the tests inside the package
	XTestImports []string // direct, of the tests outside it
	Deps         []string // everything linked, the tests' imports left out
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	Standard     bool
}

// rel gives the path below the module root, "." for the root itself, and whether path belongs to this module.
func rel(path string) (string, bool) {
	if path == Module {
		return ".", true
	}
	return strings.CutPrefix(path, Module+"/")
}

// under reports whether path is folder or lies below it.
func under(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

// standard reports whether an import path is of the standard library: its first element has no dot.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// place gives the index of the longest entry of order that path equals or lies below, or -1.
func place(order []string, path string) int {
	best, length := -1, -1
	for i, entry := range order {
		fits := path == entry || (entry != "." && under(path, entry))
		if fits && len(entry) > length {
			best, length = i, len(entry)
		}
	}
	return best
}

// CheckOrder finds each import that does not point upwards in order, and each package that order does not know.
func CheckOrder(packages []Package, order []string) []string {
	var faults []string
	for _, p := range packages {
		from, ours := rel(p.ImportPath)
		if !ours {
			continue
		}
		at := place(order, from)
		if at < 0 {
			faults = append(faults, fmt.Sprintf("%s stands nowhere in the import order: put it in internal/deps and in docs/architecture.md", from))
			continue
		}
		for _, imported := range p.Imports {
			if to, ours := rel(imported); ours && place(order, to) > at {
				faults = append(faults, fmt.Sprintf("%s imports %s, which stands below it in the import order: an arrow points up only", from, to))
			}
		}
	}
	return faults
}

// Imports reports whether a package below the folder from imports one that belongs to the folder to of [Order].
func Imports(packages []Package, from, to string) bool {
	for _, p := range packages {
		path, ours := rel(p.ImportPath)
		if !ours || !under(path, from) {
			continue
		}
		for _, imported := range p.Imports {
			if target, ours := rel(imported); ours && nearest(target) == to {
				return true
			}
		}
	}
	return false
}

// nearest gives the entry of the order that path belongs to, or path itself below cmd.
func nearest(path string) string {
	order := Order()
	if i := place(order, path); i >= 0 && order[i] != "cmd" {
		return order[i]
	}
	return path
}

// Importers says which folders may import a library directly.
type Importers struct {
	Library string   // the module, and every package in it
	Folders []string // below the module root
	Tests   []string // folders whose tests may import it too; "." means every folder
	Reason  string
}

// CheckImporters finds each direct import of a library by a folder that its rule does not name.
func CheckImporters(packages []Package, rules []Importers) []string {
	var faults []string
	for _, rule := range rules {
		for _, p := range packages {
			from, ours := rel(p.ImportPath)
			if !ours {
				continue
			}
			allowed := slices.ContainsFunc(rule.Folders, func(f string) bool { return under(from, f) })
			tests := allowed || slices.ContainsFunc(rule.Tests, func(f string) bool { return f == "." || under(from, f) })
			if !allowed && imports(p.Imports, rule.Library) {
				faults = append(faults, fmt.Sprintf("%s imports %s, which belongs to %s alone: %s", from, rule.Library, strings.Join(rule.Folders, " and "), rule.Reason))
			}
			if !tests && (imports(p.TestImports, rule.Library) || imports(p.XTestImports, rule.Library)) {
				faults = append(faults, fmt.Sprintf("a test of %s imports %s, which belongs to %s alone: %s", from, rule.Library, strings.Join(rule.Folders, " and "), rule.Reason))
			}
		}
	}
	return faults
}

func imports(paths []string, library string) bool {
	return slices.ContainsFunc(paths, func(path string) bool { return under(path, library) })
}

// Barred says what the packages of some folders must not link, directly or through others.
type Barred struct {
	Folders []string // below the module root; "." means every package
	Except  []string // folders that the rule leaves alone
	Links   []string // full import paths, or paths below the module root when they begin with "./"
	Reason  string
}

// CheckBarred finds each barred package that is linked by a package of a rule's folders.
func CheckBarred(packages []Package, rules []Barred) []string {
	var faults []string
	for _, rule := range rules {
		for _, p := range packages {
			from, ours := rel(p.ImportPath)
			if !ours || !covers(rule, from) {
				continue
			}
			for _, link := range rule.Links {
				path := link
				if below, own := strings.CutPrefix(link, "./"); own {
					path = Module + "/" + below
				}
				if i := slices.IndexFunc(p.Deps, func(dep string) bool { return under(dep, path) }); i >= 0 && len(p.GoFiles) > 0 {
					faults = append(faults, fmt.Sprintf("%s links %s: %s", from, p.Deps[i], rule.Reason))
				}
			}
		}
	}
	return faults
}

func covers(rule Barred, path string) bool {
	in := slices.ContainsFunc(rule.Folders, func(f string) bool { return f == "." || under(path, f) })
	return in && !slices.ContainsFunc(rule.Except, func(f string) bool { return under(path, f) })
}

// Bare names a package that imports the standard library only, and the exceptions.
type Bare struct {
	Folder string
	Also   []string // folders of this module that it may import too
	Reason string
}

// CheckBare finds each import of a bare package from outside the standard library.
func CheckBare(packages []Package, rules []Bare) []string {
	var faults []string
	for _, rule := range rules {
		for _, p := range packages {
			if from, ours := rel(p.ImportPath); !ours || from != rule.Folder {
				continue
			}
			for _, imported := range p.Imports {
				to, ours := rel(imported)
				if standard(imported) || (ours && slices.Contains(rule.Also, to)) {
					continue
				}
				faults = append(faults, fmt.Sprintf("%s imports %s, yet it may import the standard library only: %s", rule.Folder, imported, rule.Reason))
			}
		}
	}
	return faults
}

// EmptyFolders gives the folders that hold no file, neither themselves nor below. files are slash-separated paths below
// the module root, folders likewise.
func EmptyFolders(folders, files []string) []string {
	var empty []string
	for _, folder := range folders {
		if !slices.ContainsFunc(files, func(f string) bool { return strings.HasPrefix(f, folder+"/") }) {
			empty = append(empty, folder)
		}
	}
	sort.Strings(empty)
	return empty
}
