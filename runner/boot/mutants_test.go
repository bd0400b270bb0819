// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package boot_test

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts out what hardens the machine and protects kettled, and demands that the attacks then succeed. What only
// a machine shows (the root's hash tree, the tags of the job's disk, lockdown itself) has its attacks in attack_vm_test.go
// and disk_vm_test.go.
func TestMutants(t *testing.T) {
	t.Parallel()
	const harden, protect, scratch = "runner/boot/harden.go", "runner/boot/protect.go", "runner/boot/scratch.go"
	for attack, m := range map[string]mutant.Mutant{
		"TestAttackSettingThatDoesNotTake": {
			Check: "a setting is read back", File: harden,
			Old: `got != s.value {`, New: `got != s.value && false {`,
		},
		"TestAttackKernelWithoutSetting": {
			Check: "a setting that cannot be written ends the boot", File: harden,
			Old: `return fmt.Errorf("setting %s: %w", s.name, err)`, New: `continue`,
		},
		"TestAttackKernelNotLockedDown": {
			Check: "lockdown is read back", File: harden,
			Old: `if !strings.Contains(string(text), "[integrity]") {`, New: `if false {`,
		},
		"TestAttackReadAHiddenProcess": {
			Check: "kettled is not dumpable", File: protect,
			Old: "if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {", New: "if true {\nreturn nil\n}\nif err := error(nil); err != nil {",
		},
		"TestAttackDieForMemory": {
			Check: "kettled is never chosen when memory runs out", File: protect,
			Old: "got != neverOOM {", New: "got != neverOOM && false {",
		},
		"TestAttackFillMemory": {
			Check: "a full disk and a full memory fit into the machine", File: scratch,
			Old: "if err := s.fits(total); err != nil {", New: "if err := s.fits(total); err != nil && false {",
		},
		"TestAttackSecondDisk": {
			Check: "two disks of one name are refused", File: "runner/boot/disk.go",
			Old: "case len(found) == 1:", New: "case len(found) >= 1:",
		},
		"TestAttackBundlePartition/two_partitions": {
			Check: "two bundle partitions are refused", File: "runner/boot/bundle.go",
			Old: "case len(found) > 1:", New: "case len(found) > 2:",
		},
		"TestAttackOtherConfiguration": {
			Check: "the configuration has the measured digest", File: "runner/boot/config.go",
			Old: "got != want {", New: "got != want && false {",
		},
		"TestAttackLinkedConfiguration": {
			Check: "the configuration is a file of its own", File: "runner/boot/config.go",
			Old: "if !info.Mode().IsRegular() || info.Size() > maxConfig {", New: "if info.Size() > maxConfig {",
		},
	} {
		t.Run(m.Check, func(t *testing.T) {
			t.Parallel()
			mutant.Run(t, m, "runner/boot", "^"+attack+"$")
		})
	}
}
