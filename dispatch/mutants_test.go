// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package dispatch

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts one check of the launcher and its reaper out after the other.
// go test -tags mutants -run TestMutants ./dispatch.
func TestMutants(t *testing.T) {
	t.Parallel()
	const reap, journal, session, folder = "reap.go", "journal.go", "session.go", "folder.go"
	for _, row := range []struct{ check, file, old, with, attack string }{
		{"prefix of listed runners", reap, "if g.ID <= 0 || !strings.HasPrefix(g.Name, j.prefix+\"-\") {", "if g.ID <= 0 {", "CalmsItsReaper$"},
		{"prefix of named runners", journal, "if !owned(prefix, named.Name) {", "if false {", "ForeignNames$/^someone_else"},
		{"prefix of the shown runner", session, "if owned(s.config.Folder.Prefix(), m.Runner.Name) {", "if m.Runner.Name != \"\" {", "ForeignNames$/^someone_else"},
		{"reaped whatever it says", reap, "\t\twant = 1\n", "\t\treturn nil\n", "CalmsItsReaper$"},
		{"each line names the one before", journal, "case e.Previous != c.last:", "case false:", "Journal$/^other_past"},
		{"number of a line", journal, "case e.Seq != c.lines:", "case false:", "Journal$/^negative_seq"},
		{"lines of a journal", journal, "c.lines == maxLines, ", "", "Flood$/^short_lines"},
		{"state folder of one's own", folder, "info.Mode().Perm()&0o022 != 0 || ", "", "StateFolder$/^writable"},
	} {
		t.Run(row.check, func(t *testing.T) {
			t.Parallel()
			m := mutant.Mutant{Check: row.check, File: "dispatch/" + row.file, Old: row.old, New: row.with}
			mutant.Run(t, m, "dispatch", "^TestAttack"+row.attack)
		})
	}
}
