// SPDX-License-Identifier: Apache-2.0

package snp

import "fmt"

// Open is one thing that a verified report leaves open: a result has to show it, so that nobody takes it for proved.
type Open struct {
	Name  string // stable, for example "acpi"
	State string // one word, for example "unmeasured"
	Why   string // a sentence for people
}

// Unproven lists what this report does not prove, however good it is. It is never empty.
func (r *Report) Unproven() []Open {
	out := []Open{
		{"acpi", "unmeasured", "ACPI tables come from the host after the launch digest is taken; the guest's kernel has to restrict them"},
		{"runtime", "unmeasured", "SEV-SNP has no run-time register: the report does not say what the guest did after launch"},
		{"memory-bus", "unproven", "interposers on the memory bus leave no trace in a report; only the place of the machine answers them"},
		{"operator", "unproven", "the report does not say who runs the machine"},
	}
	if r.vmpl != 0 {
		out = append(out, Open{"privilege", fmt.Sprintf("vmpl-%d", r.vmpl),
			"software above this privilege level could have asked for the report too; the launch measurement has to name it"})
	}
	if r.ChipID() == [64]byte{} {
		out = append(out, Open{"chip", "masked", "the provider's key signed for a chip that the report does not name"})
	}
	if r.version < cpuidVersion {
		out = append(out, Open{"processor", "unnamed", "reports of version 2 name neither model nor stepping"})
	}
	return out
}
