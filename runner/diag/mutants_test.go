// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package diag

import (
	"errors"
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts one check after the other out and demands that an attack then succeeds.
// go test -tags mutants -run TestMutants ./runner/diag, as root.
func TestMutants(t *testing.T) {
	t.Parallel()
	const beneath, here = "runner/beneath/beneath.go", "runner/diag/"
	for _, row := range []struct {
		mutant.Mutant
		attack   string
		survives bool // a second lock: another check stops the same attacks
	}{
		{cut("no symbolic links", beneath, " | unix.RESOLVE_NO_SYMLINKS", ""), "Link", true}, // no way out, and the type of what is opened
		{cut("no mount points", beneath, " | unix.RESOLVE_NO_XDEV", ""), "Mount", false},
		{cut("no waiting for leases", beneath, "unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY", "unix.O_RDONLY|unix.O_NOCTTY"), "Lease", false},
		{cut("one name", here+"folder.go", "if st.Nlink != 1 {", "if false {"), "HardLink", false},
		{cut("type before opening", here+"folder.go", "if st.Mode&unix.S_IFMT != unix.S_IFREG {", "if false {"), "SpecialFiles", false},
		{cut("entries", here+"folder.go", "w.entries > w.limits.Entries {", "false {"), "ManyFiles", false},
		{cut("depth", here+"folder.go", "if depth == maxDepth {", "if false {"), "ManyFiles", false},
		{cut("files", here+"folder.go", "if w.files == c.limits.Files || c.capacity() == 0 {", "if c.capacity() == 0 {"), "ManyFiles", false},
		{cut("names", here+"name.go", "c == '.' && !start {", "c == '.' && !start || c < ' ' {"), "Names", false},
		{cut("secrets in names", here+"name.go", "if w.secret(p) || w.secret(shown) {", "if false {"), "Names", false},
		{cut("what lies around a cut", here+"text.go", "const margin = 128 << 10", "const margin = 0"), "HalfSecret", false},
		{cut("a secret's beginning at the end", here+"stream.go", "case len(b) >= leastCut:", "case false:"), "HalfSecret", false},
		{cut("waiting for what follows", here+"stream.go", "	case !final:\n		return 0, more\n", "	case !final:\n"), "Borders", false},
		{cut("overlaps", here+"stream.go", "s.until = max(s.until, at+int64(n))", "if s.until <= at {\n	s.until = at + int64(n)\n}"), "Overlaps", false},
		{cut("a marker of its own", here+"mask.go", "used[form[i]] = true", "used[form[i]] = false"), "Overlaps", false},
	} {
		t.Run(row.Check, func(t *testing.T) {
			t.Parallel()
			err := mutant.Try(t, row.Mutant, "runner/diag", "^TestAttack.*"+row.attack)
			if row.survives && !errors.Is(err, mutant.ErrSurvived) || !row.survives && err != nil {
				t.Errorf("survives: %v; got %v", row.survives, err)
			}
		})
	}
}

func cut(check, file, old, with string) mutant.Mutant {
	return mutant.Mutant{Check: check, File: file, Old: old, New: with}
}
