// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package outputs_test

import (
	"errors"
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts one check after the other out and demands that an attack then succeeds.
// go test -tags mutants -run TestMutants ./runner/outputs, as root.
func TestMutants(t *testing.T) {
	t.Parallel()
	const beneath, here = "runner/beneath/beneath.go", "runner/outputs/"
	for _, row := range []struct {
		mutant.Mutant
		attack   string
		survives bool // a second lock: another check stops the same attacks
	}{
		{cut("no symbolic links", beneath, " | unix.RESOLVE_NO_SYMLINKS", ""), "OtherFiles", false},
		{cut("no mount points", beneath, " | unix.RESOLVE_NO_XDEV", ""), "BindMount", false},
		{cut("no mount points, before FUSE", beneath, " | unix.RESOLVE_NO_XDEV", ""), "FUSE", false},
		{cut("no magic links", beneath, " | unix.RESOLVE_NO_MAGICLINKS", ""), "OtherFiles", true}, // no links at all
		{cut("no way out", beneath, "unix.RESOLVE_BENEATH | ", ""), "OtherFiles", true},           // paths are clean, and there are no links
		{cut("no waiting for leases", beneath, "unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY", "unix.O_RDONLY|unix.O_NOCTTY"), "Lease", false},
		{cut("type before opening", here+"volume.go", "if before.Mode&unix.S_IFMT != unix.S_IFREG {", "if false {"), "FIFO", false},
		{cut("type before opening, below", beneath, "if want.Mode&unix.S_IFMT != unix.S_IFREG {", "if false {"), "FIFO", true},
		{cut("type of the volume", here+"volume.go", "if !slices.Contains(types, name) {", "if false {"), "FUSE", false},
		{cut("type of the open file", here+"volume.go", "if int64(st.Type) != w.magic {", "if false {"), "ProcMount", true}, // no mount points
		{cut("owner", here+"volume.go", "if !v.ids.contain(before.Uid) || !v.ids.contain(before.Gid) {", "if false {"), "ForeignOwner", false},
		{cut("group", here+"volume.go", " || !v.ids.contain(before.Gid) {", " {"), "ForeignOwner", false},
		{cut("metadata alone", here+"volume.go", "return entire(f, p)", "return nil"), "Metacopy", false},
		{cut("deleted is not there", here+"walk.go", "case hit && !beneath.Whiteout(st):", "case hit:"), "ImageFile", false},
		{cut("bytes in all", here+"hold.go", "if before.Size > left {", "if false {"), "Sparse", false},
		{cut("pieces", here+"clone.go", " || c.extents > maxExtents {", " {"), "Pieces", false},
		{cut("directory entries", here+"walk.go", "w.entries > w.limits.Entries {", "false {"), "ManyFiles", false},
		{cut("subjects", here+"walk.go", "if len(w.found) > w.limits.Subjects {", "if false {"), "ManyFiles", false},
		{cut("depth", here+"walk.go", "if at.depth >= p.depth {", "if false {"), "Depth", false},
		{cut("names", here+"name.go", "case !printable(name):", "case false:"), "Names", false},
		{cut("paths", here+"name.go", "if len(p) <= maxPath && printable(p) {", "if len(p) <= maxPath {"), "Names", false},
		{cut("stated digest", here+"collect.go", "if w.claim == nil || sum == *w.claim {", "if true {"), "StatedDigest", false},
		{cut("the clone is hashed", here+"clone.go", "	original := f.f\n	f.f = clone\n	return original.Close()", "	return clone.Close()"), "HardLinks", false},
		{cut("unchanged when hashed", here+"hash.go", "if err := h.volumes.unchanged(f.f, f.path, f.before); err != nil {", "if err := error(nil); err != nil {"), "Race$", false},
		{cut("unchanged by itself", here+"volume.go", "err != nil || !beneath.Same(before, after) || !beneath.Same(before, now)",
			"err != nil || false && !beneath.Same(after, now)"), "Race$", false},
		{cut("size when hashed", here+"hash.go", "for n <= size {", "for {"), "Growing", false},
		{cut("size after hashing", here+"hash.go", "if n != size {", "if false {"), "Growing", true}, // the file's times
	} {
		t.Run(row.Check, func(t *testing.T) {
			t.Parallel()
			err := mutant.Try(t, row.Mutant, "runner/outputs", "^TestAttack"+row.attack)
			if row.survives && !errors.Is(err, mutant.ErrSurvived) || !row.survives && err != nil {
				t.Errorf("survives: %v; got %v", row.survives, err)
			}
		})
	}
}

func cut(check, file, old, with string) mutant.Mutant {
	return mutant.Mutant{Check: check, File: file, Old: old, New: with}
}
