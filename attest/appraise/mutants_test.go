// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package appraise_test

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts what the switch over platforms itself demands out, one after the other; the packages of the platforms have their own.
// go test -tags mutants -run TestMutants ./attest/appraise.
func TestMutants(t *testing.T) {
	t.Parallel()
	const verify, judge, platform = "verifier.go", "judge.go", "appraise.go"
	for _, row := range []struct{ check, file, old, with, attack string }{
		{"paravisor's report bound by hardware", verify, "hcl.Bind(data);", "hcl.Bind([][64]byte{hcl.ReportData(), data}[0]);", "SwappedPart$"},
		{"AMD's root", platform, "private = !q.report.Root().AMD()", "private = false", "SimulatorAsHardware$"},
		{"Intel's root", platform, "private = !q.td.Root().Intel()", "private = false", "SimulatorAsHardware$"},
		{"floor of SEV-SNP", judge, "q.report.Judge(f, snp.Terms{Trust: t.Host}), ", "", "WeakHardware$"},
		{"floor of TDX", judge, "errs = append(errs, q.judgeTD(f))", "_ = q.judgeTD", "WeakHardware$"},
		{"collateral", judge, "\t\treturn q.td.Meets(f, setting, nil, q.at)\n", "\t\treturn nil\n", "WeakHardware$"},
		{"privilege level", judge, "errors.Join(q.Judge(f, t), q.highest(f, named))", "q.Judge(f, t)", "LowerLevel$"},
		{"a revocation is final", judge, "q.report.NotRevoked(list, q.at)\n\t\tif errors.Is(err, refusal.ErrRevoked) {", "q.report.NotRevoked(list, q.at)\n\t\tif false {",
			"RevocationOutvoted$"},
		{"a revocation is final, TDX", judge, "q.meetsBy(text, f, setting)\n\t\tif errors.Is(err, refusal.ErrRevoked) {", "q.meetsBy(text, f, setting)\n\t\tif false {",
			"CollateralOutvoted$"},
		{"a list is there", judge, "if !t.RevocationList {", "if true {", "RevocationOutvoted$"},
		{"boot registers whether logged or not", "bootlog.go", "if i <= lastBootRTMR || slices", "if slices", "StrippedBootLog$"},
		{"register is the replay", judge, "if want == got {", "if want == got || true {", "OtherEvents$"},
	} {
		t.Run(row.check, func(t *testing.T) {
			t.Parallel()
			m := mutant.Mutant{Check: row.check, File: "attest/appraise/" + row.file, Old: row.old, New: row.with}
			mutant.Run(t, m, "attest/appraise", "^TestAttack"+row.attack)
		})
	}
}
