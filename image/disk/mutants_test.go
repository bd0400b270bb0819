// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package disk_test

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts the checks of the bundle partition out, one after the other.
// go test -tags mutants -run TestMutants ./image/disk.
func TestMutants(t *testing.T) {
	t.Parallel()
	const disk, slot = "image/disk", "image/disk/slot"
	for _, row := range []struct{ folder, check, file, old, with, attack string }{
		{disk, "a bundle goes where one was", "content.go", "if err := slot.Check(io.NewSectionReader(f, l.Bundle.Offset, l.Bundle.Size)); err != nil {", "if err := error(nil); err != nil {", "BundleOverData$"},
		{disk, "the layout is one of ours", "disk.go", "if !ok || l.ESP.Size%alignment != 0 || l.Root.Size%alignment != 0 {", "if !ok && false {", "BundleOverData$"},
		{slot, "magic", "slot.go", "if string(got[:]) != magic {", "if false {", "BundlePartition$"},
		{slot, "the partition is whole", "slot.go", "case len(rest) != Capacity:", "case len(rest) < int(size):", "BundlePartition$"},
		{slot, "no bundle is no empty bundle", "slot.go", "case size == 0:", "case false:", "BundlePartition$"},
		{slot, "nothing is hidden behind the bundle", "slot.go", "if b != 0 {", "if b != 0 && false {", "BundlePartition$"},
	} {
		t.Run(row.check, func(t *testing.T) {
			t.Parallel()
			m := mutant.Mutant{Check: row.check, File: row.folder + "/" + row.file, Old: row.old, New: row.with}
			mutant.Run(t, m, row.folder, "^TestAttack"+row.attack)
		})
	}
}
