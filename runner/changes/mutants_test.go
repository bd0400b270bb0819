// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package changes_test

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts one check after the other out and demands that an attack then succeeds.
// go test -tags mutants -run TestMutants ./runner/changes, as root.
func TestMutants(t *testing.T) {
	t.Parallel()
	const here = "runner/changes/"
	for _, row := range []struct {
		mutant.Mutant
		attack string
	}{
		{cut("whiteouts", "tracked.go", "case whiteout, !there && f.opaque:", "case whiteout && false, !there && f.opaque:"), "Hide"},
		{cut("opaque folders", "tracked.go", "case whiteout, !there && f.opaque:", "case whiteout:"), "Hide"},
		{cut("folders in opaque folders", "tracked.go", "f.opaque = f.opaque || hidden", ""), "Hide"},
		{cut("trusted attributes alone", "tracked.go", `"trusted.overlay.opaque"`, `"user.overlay.opaque"`), "OwnMarks"},
		{cut("redirects", "tracked.go", "if redirect, err := attribute(f.upper.FD(), \"trusted.overlay.redirect\"); err != nil || redirect != nil {", "if false {"), "OtherOverlay"},
		{cut("metadata alone", "compare.go", "err != nil || mark != nil {", "err != nil || false && mark != nil {"), "OtherOverlay"},
		{cut("bytes of files", "compare.go", " && before.SHA256 == after.SHA256", ""), "Hide"},
		{cut("mode", "state.go", "n.st.Mode&meta == o.st.Mode&meta", "n.kind() == o.kind()"), "Hide"},
		{cut("owner", "state.go", "n.st.Uid == o.st.Uid && ", ""), "Hide"},
		{cut("group", "state.go", "n.st.Gid == o.st.Gid && ", ""), "Hide"},
		{cut("targets of links", "state.go", " && n.target == o.target", ""), "Hide"},
		{cut("what a deleted folder held", "tracked.go", "err != nil || !n.dir() {\n\t\treturn err\n\t}\n\treturn c.inside(ctx, p)", "err != nil {\n\t\treturn err\n\t}\n\treturn nil"), "Hide"},
		{cut("what a replaced folder held", "tracked.go", "case before.dir() && !after.dir():", "case false:"), "Hide"},
		{cut("what is in new folders", "created.go", "made = append(made, p) // over", "_ = p // over"), "Hide"},
		{cut("the image first", "changes.go", "c.tracked, c.compare, c.created, c.usage", "c.created, c.tracked, c.compare, c.usage"), "Flood"},
		{cut("small files first", "compare.go", "cmp.Compare(a.size(), b.size())", "cmp.Compare(b.size(), a.size())"), "Flood"},
		{cut("bytes to hash", "compare.go", "if p.size() > left {", "if false {"), "Flood"},
		{cut("names to look at", "collect.go", "c.entries > c.limits.Entries {", "false {"), "Flood"},
		{cut("bytes of the list", "list.go", "if c.listed+len(encoded)+1 > c.limits.ListBytes {", "if false {"), "Flood"},
		{cut("long paths", "collect.go", "case len(dir) > maxPath:", "case false:"), "Depth"},
		{cut("printable names", "list.go", "unicode.IsPrint(r) && r", "(unicode.IsPrint(r) || r > ' ') && r"), "Names"},
		{cut("exact names", "list.go", "if !utf8.ValidString(path) {", "if false {"), "Names"},
	} {
		t.Run(row.Check, func(t *testing.T) {
			t.Parallel()
			row.Mutant.File = here + row.Mutant.File
			mutant.Run(t, row.Mutant, "runner/changes", "^TestAttack"+row.attack)
		})
	}
}

func cut(check, file, old, with string) mutant.Mutant {
	return mutant.Mutant{Check: check, File: file, Old: old, New: with}
}
