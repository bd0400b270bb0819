// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"errors"
	"fmt"
	"slices"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
)

// Terms are what a floor is judged by, beside the report. The zero Terms are the strictest of the built-in ones: the
// table shipped with this program, and nobody trusted.
type Terms struct {
	Table Table // the zero Table stands for [Builtin]; raise that one with [Table.Raise]
	Trust Trust
}

// Trust names the hosts that the judge trusts not to attack their own guests. [floor.Strict] asks a host that is not
// named here for more. The zero Trust names none. A chip or provider is taken as the endorsement names it, byte for byte.
type Trust struct {
	Chips     [][64]byte // see [Report.EndorsedChip]
	Providers []string   // as [Report.Provider] gives them, for example "CN=cc-us-east-2.amazonaws.com"
}

// covers reports whether the host of the report is named. What a report does not name, no list can cover.
func (t Trust) covers(r *Report) bool {
	chip := r.EndorsedChip()
	return chip != [64]byte{} && slices.Contains(t.Chips, chip) ||
		r.csp != "" && slices.Contains(t.Providers, r.csp)
}

// Meets is [Report.Judge] with the zero [Terms].
func (r *Report) Meets(f floor.Floor) error { return r.Judge(f, Terms{}) }

// Judge reports, as nil, that the platform reaches the floor. Otherwise it joins one [refusal.Refusal] for each thing
// that falls short, the gravest first. Codes: debug, tcb, policy, in this order; missing for the zero Floor and an
// unverified report.
//
// [floor.Signature] asks for nothing beyond what [Verify] checked. It admits debuggable guests and broken firmware.
//
// [floor.Default] refuses a guest whose memory its host may read: by debugging (policy bit 19), or by a migration agent
// of the host's choice (bit 18), which no guest of a cloud has. It refuses a reported TCB below the table, processors
// without a row, and reports of version 2, which name no processor. It does not ask for VMPL 0, for the alias check or
// for SMT off: genuine reports of providers that run their own layer at VMPL 0 come from VMPL 1, and the vendor's floor
// does not depend on either. Who relies on the difference between levels asks with [Report.AtVMPL].
//
// [floor.Strict] adds: a completed alias check (AMD-SB-3015); the stricter column of the table for reported, committed
// and launch TCB; VMPL 0; and, from a host that [Trust] does not name, two tiers: threads of the host beside the
// guest's only with microcode that keeps them apart (AMD-SB-3027), and no Milan chip of AMD's, since its endorsement
// keys can be extracted in software for every TCB (arXiv 2605.12990), so that a forged report may claim any value of
// any field. A private root is a simulator's whatever line it speaks; nothing in it can be extracted that its owner does
// not have, so it is no Milan chip here.
func (r *Report) Judge(f floor.Floor, t Terms) error {
	if r == nil || !r.verified {
		return floorRefusal(refusal.Missing, "a verified report", "none", nextFreshReport)
	}
	switch f {
	case floor.Signature:
		return nil
	case floor.Default, floor.Strict:
	default:
		return floorRefusal(refusal.Missing, "a floor: signature, default or strict", "none", "choose one in the policy")
	}
	table, err := t.table()
	if err != nil {
		return err
	}
	if f == floor.Default {
		return errors.Join(r.debugOff(), r.reaches(table, "reported", r.reportedTCB, Row.floor), r.migrationOff())
	}
	return errors.Join(
		r.debugOff(),
		r.reaches(table, "reported", r.reportedTCB, Row.strict),
		r.reaches(table, "committed", r.committedTCB, Row.strict),
		r.reaches(table, "launch", r.launchTCB, Row.strict),
		r.aliasChecked(),
		r.chipKeepsKeys(t.Trust),
		r.migrationOff(),
		r.siblingsOff(table, t.Trust),
		r.AtVMPL(0),
	)
}

func (t Terms) table() (Table, error) {
	if t.Table.rows != nil {
		return t.Table, nil
	}
	b, err := Builtin()
	if err != nil { // only a broken build
		return Table{}, floorRefusal(refusal.Missing, "the TCB table of this program", "none that can be read", "report a bug").Because(err)
	}
	return b, nil
}

func (r Row) floor() TCB  { return r.Floor }
func (r Row) strict() TCB { return r.Strict }

func (r *Report) debugOff() error {
	if !r.policy.Debug() {
		return nil
	}
	return floorRefusal(refusal.Debug, "a guest that the host cannot debug (policy bit 19 clear)",
		fmt.Sprintf("policy %#x", uint64(r.policy)), nextRelaunch)
}

func (r *Report) migrationOff() error {
	if !r.policy.MigrationAgent() {
		return nil
	}
	return floorRefusal(refusal.Policy, "a guest without migration agent (policy bit 18 clear)",
		fmt.Sprintf("policy %#x", uint64(r.policy)), nextRelaunch)
}

func (r *Report) aliasChecked() error {
	if r.platformInfo.AliasCheckComplete() {
		return nil
	}
	return floorRefusal(refusal.TCB, "a host whose memory alias check is complete (AMD-SB-3015)",
		fmt.Sprintf("platform information %#x", uint64(r.platformInfo)), nextUpdate)
}

// chipKeepsKeys is the Milan tier.
func (r *Report) chipKeepsKeys(t Trust) error {
	if !r.root.amd || r.root.line != Milan || t.covers(r) {
		return nil
	}
	return floorRefusal(refusal.TCB, "a chip whose endorsement key cannot be extracted in software, or a host on the allow-list",
		"a Milan chip (arXiv 2605.12990)", nextOtherHost)
}

// siblingsOff is the SMT tier. A policy without SMT would do alone, but then the firmware has switched SMT off too.
func (r *Report) siblingsOff(table Table, t Trust) error {
	row, _ := table.Row(r.cpu)
	if !r.platformInfo.SMT() || row.Siblings != 0 && r.reportedTCB.Microcode >= row.Siblings || t.covers(r) {
		return nil
	}
	want := "a host without sibling threads (platform information bit 0 clear), or one on the allow-list"
	if row.Siblings != 0 {
		want += fmt.Sprintf(", or microcode of at least %#02x", row.Siblings)
	}
	return floorRefusal(refusal.Policy, want, fmt.Sprintf("platform information %#x, microcode %#02x",
		uint64(r.platformInfo), r.reportedTCB.Microcode), nextOtherHost)
}

// AtVMPL refuses, with code policy, a report that was asked for at none of the given privilege levels. No level given
// allows none.
func (r *Report) AtVMPL(levels ...uint32) error {
	if slices.Contains(levels, r.vmpl) {
		return nil
	}
	return floorRefusal(refusal.Policy, fmt.Sprintf("a report asked for at a VMPL among %d", levels), fmt.Sprintf("VMPL %d", r.vmpl),
		"ask from an allowed privilege level")
}

func (r *Report) reaches(table Table, name string, have TCB, column func(Row) TCB) error {
	if r.version < cpuidVersion {
		return floorRefusal(refusal.TCB, "a report of version 3 or newer, which names its processor",
			fmt.Sprintf("version %d", r.version), nextUpdate)
	}
	row, ok := table.Row(r.cpu)
	if !ok {
		return floorRefusal(refusal.TCB, "a processor in the TCB table of "+table.Date(), r.cpu.String(), nextOtherHost)
	}
	if want := column(row); !have.AtLeast(want) {
		return floorRefusal(refusal.TCB, "a "+name+" TCB of at least "+want.String()+" for "+quote(row.Name), have.String(), nextUpdate)
	}
	return nil
}

func floorRefusal(code refusal.Code, want, got, next string) *refusal.Refusal {
	return &refusal.Refusal{Link: linkPlatform, Code: code, Want: want, Got: got, Next: next}
}
