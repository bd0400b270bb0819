// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package measure_test

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts what the predictions of this package and the ones below measure out, one after the other.
// go test -tags mutants -run TestMutants ./image/measure.
func TestMutants(t *testing.T) {
	t.Parallel()
	const own, boot = "image/measure", "image/measure/boot"
	for _, row := range []struct{ folder, check, file, old, with, attack string }{
		{own, "firmware that measures the kernel", "snp.go", "case l.Direct != nil && !l.Firmware.Metadata.KernelHashes():", "case false:", "DirectBootUnmeasured$"},
		{own, "table of kernel hashes", "snp.go", "\t\t\tif l.Direct == nil {\n", "\t\t\tif true {\n", "HashTableTakenAway$"},
		{own, "contents of a page", "tdx.go", "m.h.Write(s.Data[offset : offset+chunk])", "m.h.Write(s.Data[:chunk])", "FirmwareChanged$"},
		{boot, "initrd", "direct.go", "h.Write(d.Initrd)", "_ = d.Initrd", "OtherCommandLine$"},
		{boot, "command line", "direct.go", "h.Write(loadOptions(line))", "h.Write(loadOptions(line[:0]))", "OtherCommandLine$"},
	} {
		t.Run(row.check, func(t *testing.T) {
			t.Parallel()
			m := mutant.Mutant{Check: row.check, File: row.folder + "/" + row.file, Old: row.old, New: row.with}
			mutant.Run(t, m, row.folder, "^TestAttack"+row.attack)
		})
	}
}
