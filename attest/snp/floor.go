// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"errors"
	"fmt"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
)

// FloorDate is the day the TCB table below was last compared with its sources.
const FloorDate = "2026-11-21"

// minimumTCB gives the lowest TCB without a known and published hole, by processor (AMD-SB-3019 and the firmware
// versions that follow from it; Milan as in CCF's operator guide). A processor that is not in the table has no floor and
// is refused: a new stepping needs a new line, not the benefit of the doubt.
func minimumTCB(c CPU) (TCB, bool) {
	switch c {
	case CPU{0x19, 0x01, 0x01}: // Milan B1
		return TCB{Bootloader: 4, SNP: 24, Microcode: 0xdb}, true
	case CPU{0x19, 0x01, 0x02}: // Milan-X B2
		return TCB{Bootloader: 4, SNP: 24, Microcode: 0x44}, true
	case CPU{0x19, 0x11, 0x01}: // Genoa B1
		return TCB{Bootloader: 10, SNP: 23, Microcode: 0x54}, true
	case CPU{0x19, 0x11, 0x02}: // Genoa-X B2
		return TCB{Bootloader: 10, SNP: 23, Microcode: 0x4f}, true
	case CPU{0x19, 0xa0, 0x02}: // Bergamo and Siena A2
		return TCB{Bootloader: 10, SNP: 23, Microcode: 0x19}, true
	case CPU{0x1a, 0x02, 0x01}: // Turin C1
		return TCB{FMC: 1, Bootloader: 1, TEE: 1, SNP: 4, Microcode: 0x51}, true
	}
	return TCB{}, false
}

// Meets reports, as nil, that the platform reaches the floor. Otherwise it joins one [refusal.Refusal] for each thing
// that falls short, the gravest first. Codes: debug, tcb, policy; missing for the zero Floor and an unverified report.
func (r *Report) Meets(f floor.Floor) error {
	if r == nil || !r.verified {
		return floorRefusal(refusal.Missing, "a verified report", "none", nextFreshReport)
	}
	switch f {
	case floor.Signature:
		return nil
	case floor.Default:
		return r.meetsDefault()
	case floor.Strict:
		return errors.Join(r.meetsDefault(), r.meetsStrict())
	}
	return floorRefusal(refusal.Missing, "a floor: signature, default or strict", "none", "choose one in the policy")
}

func (r *Report) meetsDefault() error {
	var errs []error
	if r.policy.Debug() {
		errs = append(errs, floorRefusal(refusal.Debug, "a guest that the host cannot debug (policy bit 19 clear)",
			fmt.Sprintf("policy %#x", uint64(r.policy)), nextRelaunch))
	}
	errs = append(errs, r.reaches("reported", r.reportedTCB))
	if !r.platformInfo.AliasCheckComplete() {
		errs = append(errs, floorRefusal(refusal.TCB, "a host whose memory alias check is complete (AMD-SB-3015)",
			fmt.Sprintf("platform information %#x", uint64(r.platformInfo)), nextUpdate))
	}
	if r.policy.MigrationAgent() {
		errs = append(errs, floorRefusal(refusal.Policy, "a guest without migration agent (policy bit 18 clear)",
			fmt.Sprintf("policy %#x", uint64(r.policy)), nextRelaunch))
	}
	if r.vmpl != 0 {
		errs = append(errs, floorRefusal(refusal.Policy, "a report asked for at VMPL 0", fmt.Sprintf("VMPL %d", r.vmpl),
			"ask from the highest privilege level"))
	}
	return errors.Join(errs...)
}

func (r *Report) meetsStrict() error {
	var errs []error
	if r.root.amd && r.root.line == Milan {
		errs = append(errs, floorRefusal(refusal.TCB, "a chip whose endorsement key cannot be extracted in software",
			"a Milan chip (arXiv 2605.12990)", nextOtherHost))
	}
	return errors.Join(append(errs, r.reaches("committed", r.committedTCB), r.reaches("launch", r.launchTCB))...)
}

func (r *Report) reaches(name string, have TCB) error {
	if r.version < cpuidVersion {
		return floorRefusal(refusal.TCB, "a report of version 3 or newer, which names its processor",
			fmt.Sprintf("version %d", r.version), nextUpdate)
	}
	want, ok := minimumTCB(r.cpu)
	if !ok {
		return floorRefusal(refusal.TCB, "a processor in the TCB table of "+FloorDate, r.cpu.String(), nextOtherHost)
	}
	if !have.AtLeast(want) {
		return floorRefusal(refusal.TCB, "a "+name+" TCB of at least "+want.String(), have.String(), nextUpdate)
	}
	return nil
}

func floorRefusal(code refusal.Code, want, got, next string) error {
	return &refusal.Refusal{Link: linkPlatform, Code: code, Want: want, Got: got, Next: next}
}
