// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package launch

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts the checks of a launch out, and parts of what is measured of it.
// go test -tags mutants -run TestMutants ./image/launch.
func TestMutants(t *testing.T) {
	t.Parallel()
	const launch, esp, measure = "image/launch", "image/disk/esp", "image/measure"
	for _, row := range []struct{ folder, check, file, old, with, attack string }{
		{launch, "no debugging policy", "hardware.go", "h.Policy&(policyDebug|policyMigration) == 0", "true", "Hardware$/^(debugging|migration)$"},
		{launch, "a processor's name is no option", "hardware.go", "check(cpuModel.MatchString(h.CPU)", "check(h.CPU != \"\"", "Hardware$/^a_model_of_options$"},
		{launch, "hardware measures a kernel", "config.go", "(c.NewProcessor != nil || c.UKI != nil)", "c.NewProcessor != nil", "Hardware$/^a_disk's_kernel$"},
		{esp, "one system partition", "esp.go", "if found != 1 {", "if found < 1 {", "ESP$/^two_system_partitions$"},
		{esp, "no long names", "fat.go", "case attributes&attrLongName == attrLongName:", "case attributes&attrLongName == attrLongName && false:", "ESP$/^a_long_name$"},
		{esp, "one file of the name", "fat.go", "if count != 1 {", "if count < 1 {", "ESP$/^a_second_of_the_name$"},
		{esp, "the table in use", "fat.go", "|| le.Uint16(b[40:]) != 0:", "|| false:", "ESP$/^another_table_is_used$"},
		{esp, "folders end", "fat.go", "case f.left == 0 && f.open:", "case false:", "ESP$/^a_folder_without_end$"},
		{measure, "variables are measured", "measure.go", `{"variables", l.Variables}, `, "", "SimUKI$"},
		{measure, "a disk's boot has its own domain", "measure.go", `sim(simUKIDomain, []part{{"firmware", l.Firmware}, {"variables", l.Variables}, {"uki", l.UKI}})`, `sim(simDomain, []part{{"firmware", l.Firmware}, {"kernel", l.Variables}, {"initrd", l.UKI}, {"command-line", image.SHA256{}}})`, "SimUKI$"},
	} {
		t.Run(row.check, func(t *testing.T) {
			t.Parallel()
			m := mutant.Mutant{Check: row.check, File: row.folder + "/" + row.file, Old: row.old, New: row.with}
			mutant.Run(t, m, row.folder, "^TestAttack"+row.attack)
		})
	}
}
