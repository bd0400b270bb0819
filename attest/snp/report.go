// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/kettle/attest/attest/refusal"
)

// Report is a verified attestation report. Only [Verify] makes one; the zero value meets no floor and names no
// platform.
type Report struct {
	fields
	verified                                         bool
	root                                             Root
	csp                                              string
	hwid                                             [64]byte
	leaf                                             *x509.Certificate // nil unless verified
	reportedTCB, committedTCB, currentTCB, launchTCB TCB
}

// The names of the platforms, see [Report.Platform].
const (
	PlatformSNP = "snp"
	PlatformSim = "sim"
)

// Platform is "snp" under one of AMD's pinned roots and "sim" under a private root, whatever the report itself says.
func (r *Report) Platform() string {
	switch {
	case !r.verified:
		return ""
	case r.root.amd:
		return PlatformSNP
	}
	return PlatformSim
}

// Root is the root that the report's endorsement key leads to.
func (r *Report) Root() Root { return r.root }

// Line is the product line of the processor.
func (r *Report) Line() Line { return r.root.line }

// CPU is the processor by CPUID; zero in a report of version 2, which does not name it.
func (r *Report) CPU() CPU { return r.cpu }

// Version is the version of the report's format, 2 to 5.
func (r *Report) Version() uint32 { return r.version }

// Measurement is the launch digest: SHA-384 chain over the initial memory of the guest.
func (r *Report) Measurement() [48]byte { return r.measurement }

// ReportData is the 64 bytes that the guest asked to be signed.
func (r *Report) ReportData() [64]byte { return r.reportData }

// HostData is the 32 bytes that the host chose at launch. Under a simulator's root it is the run-time register.
func (r *Report) HostData() [32]byte { return r.hostData }

// ReportID names the guest instance: random at launch, the same in all its reports.
func (r *Report) ReportID() [32]byte { return r.reportID }

// ReportIDMA is the report identifier of the migration agent, all ones where there is none.
func (r *Report) ReportIDMA() [32]byte { return r.reportIDMA }

// ChipID is the chip as the report names it. Under a VCEK it equals the certificate's hardware identifier (Turin: 8
// bytes, then zeros). A host may mask it to zeros under either key.
func (r *Report) ChipID() [64]byte { return r.chipID }

// EndorsedChip is the chip as the endorsement names it: the hardware identifier of a VCEK, even where the host masked
// the report's, and the report's own chip under a VLEK, zero where that is masked.
func (r *Report) EndorsedChip() [64]byte {
	if r.key == vcek {
		return r.hwid
	}
	return r.chipID
}

// ChipKeyMasked reports MASK_CHIP_KEY: whether the host withholds the chip's own key from guests.
func (r *Report) ChipKeyMasked() bool { return r.maskChipKey }

// Instance is report identifier and chip identifier, 96 bytes: one launch of one guest on one chip.
func (r *Report) Instance() [96]byte {
	var id [96]byte
	copy(id[:32], r.reportID[:])
	copy(id[32:], r.chipID[:])
	return id
}

// Policy is the guest policy.
func (r *Report) Policy() Policy { return r.policy }

// PlatformInfo is the configuration of the host.
func (r *Report) PlatformInfo() PlatformInfo { return r.platformInfo }

// VMPL is the privilege level, 0 (highest) to 3, whose key asked for the report.
func (r *Report) VMPL() uint32 { return r.vmpl }

// GuestSVN is the security version of the guest, given at launch.
func (r *Report) GuestSVN() uint32 { return r.guestSVN }

// FamilyID is the family identifier of the guest, given at launch.
func (r *Report) FamilyID() [16]byte { return r.familyID }

// ImageID is the image identifier of the guest, given at launch.
func (r *Report) ImageID() [16]byte { return r.imageID }

// IDKeyDigest is the SHA-384 of the key that signed the identity block, zero where there was none.
func (r *Report) IDKeyDigest() [48]byte { return r.idKeyDigest }

// AuthorKeyDigest is the SHA-384 of the key that certified the identity key; false where there was none.
func (r *Report) AuthorKeyDigest() ([48]byte, bool) { return r.authorKeyDigest, r.authorKey }

// ReportedTCB is the TCB that the endorsement key vouches for.
func (r *Report) ReportedTCB() TCB { return r.reportedTCB }

// CommittedTCB is the TCB below which the host cannot roll back.
func (r *Report) CommittedTCB() TCB { return r.committedTCB }

// CurrentTCB is the TCB that runs.
func (r *Report) CurrentTCB() TCB { return r.currentTCB }

// LaunchTCB is the TCB that ran when the guest was launched.
func (r *Report) LaunchTCB() TCB { return r.launchTCB }

// Firmware is the version of the SEV-SNP firmware that runs, and the one below which the host cannot roll back. Which
// version is good enough is said by its TCB, not by this.
func (r *Report) Firmware() (current, committed Firmware) { return r.firmware, r.committedFirmware }

// Mitigations gives the mitigation vectors at launch and now; zero below version 5.
func (r *Report) Mitigations() (launch, current uint64) { return r.launchMitigations, r.mitigations }

// SigningKey is "VCEK" or "VLEK".
func (r *Report) SigningKey() string { return r.key.String() }

// Provider is the provider that a VLEK is for, "" under a VCEK.
func (r *Report) Provider() string { return r.csp }

// EndorsementExpires is the end of validity of the endorsement key certificate; the zero time before verification.
func (r *Report) EndorsementExpires() time.Time {
	if r.leaf == nil {
		return time.Time{}
	}
	return r.leaf.NotAfter
}

// decodeTCBs reads the four TCB versions and refuses what firmware cannot say: more reported or committed than runs.
func (r *Report) decodeTCBs() error {
	for _, t := range [...]struct {
		name string
		raw  tcbBytes
		to   *TCB
	}{
		{"reported", r.reported, &r.reportedTCB},
		{"committed", r.committed, &r.committedTCB},
		{"current", r.current, &r.currentTCB},
		{"launch", r.launch, &r.launchTCB},
	} {
		var clean bool
		if *t.to, clean = t.raw.decode(r.root.line); !clean {
			return malformed("zeros in the reserved bytes of the "+t.name+" TCB", fmt.Sprintf("%x", t.raw))
		}
	}
	for _, t := range [...]struct {
		name string
		tcb  TCB
	}{{"reported", r.reportedTCB}, {"committed", r.committedTCB}} {
		if !r.currentTCB.AtLeast(t.tcb) {
			return &refusal.Refusal{
				Link: linkPlatform, Code: refusal.TCB, Want: "a current TCB of at least the " + t.name + " " + t.tcb.String(),
				Got: r.currentTCB.String(), Next: nextUpdate,
			}
		}
	}
	return nil
}
