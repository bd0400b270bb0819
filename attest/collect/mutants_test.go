// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package collect

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts one check of what the kernel and the network answer out after the other.
// go test -tags mutants -run TestMutants ./attest/collect.
func TestMutants(t *testing.T) {
	t.Parallel()
	const own = "attest/collect"
	for _, row := range []struct{ folder, check, file, old, with, attack string }{
		{own, "report data of an SEV-SNP report", "snp.go", "if [64]byte(report[reportDataOffset:][:64]) != data {", "if false {", "AnswerOfAnotherQuestion$"},
		{own, "report data of a TD quote", "tdx.go", "if [64]byte(body[tdReportData:][:64]) != data {", "if false {", "AnswerOfAnotherQuestion$"},
		{own, "broken is not absent", "snp.go", "if !errors.Is(err, ErrUnsupported) {", "if err == nil {", "BrokenInterfaceIsNotAnOlderOne$"},
		{"attest/collect/fetch", "document of its address", "cache.go", " || e.URL != url {", " {", "PoisonedCache$"},
	} {
		t.Run(row.check, func(t *testing.T) {
			t.Parallel()
			m := mutant.Mutant{Check: row.check, File: row.folder + "/" + row.file, Old: row.old, New: row.with}
			mutant.Run(t, m, row.folder, "^TestAttack"+row.attack)
		})
	}
}
