// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"encoding/binary"
	"fmt"

	"github.com/kettle/attest/attest/refusal"
)

// ReportSize is the length of every attestation report in bytes.
const ReportSize = 1184

// Offsets of ATTESTATION_REPORT (ABI, table "ATTESTATION_REPORT Structure").
const (
	offVersion         = 0x000
	offGuestSVN        = 0x004
	offPolicy          = 0x008
	offFamilyID        = 0x010
	offImageID         = 0x020
	offVMPL            = 0x030
	offSignatureAlgo   = 0x034
	offCurrentTCB      = 0x038
	offPlatformInfo    = 0x040
	offKeyInfo         = 0x048
	offReserved4C      = 0x04c
	offReportData      = 0x050
	offMeasurement     = 0x090
	offHostData        = 0x0c0
	offIDKeyDigest     = 0x0e0
	offAuthorKeyDigest = 0x110
	offReportID        = 0x140
	offReportIDMA      = 0x160
	offReportedTCB     = 0x180
	offCPUID           = 0x188
	offReserved18B     = 0x18b
	offChipID          = 0x1a0
	offCommittedTCB    = 0x1e0
	offCurrentBuild    = 0x1e8 // build, minor, major: three bytes
	offReserved1EB     = 0x1eb
	offCommittedBuild  = 0x1ec // the same
	offReserved1EF     = 0x1ef
	offLaunchTCB       = 0x1f0
	offLaunchMit       = 0x1f8
	offReserved208     = 0x208
	offSignature       = 0x2a0
	offSignatureEnd    = offSignature + 2*72 // R and S, 72 bytes each
)

const (
	minVersion      = 2 // the first published ABI
	cpuidVersion    = 3 // carries the processor's family, model and stepping
	mitigateVersion = 5 // carries the mitigation vectors
	maxVersion      = 5

	algoECDSAP384SHA384 = 1
	keyInfoAuthorKey    = 1 << 0
	keyInfoMaskChipKey  = 1 << 1
	keyInfoKeyShift     = 2
	keyInfoKeyMask      = 7
	keyInfoReservedLo   = 5
	signedByNone        = 7
	maxVMPL             = 3
)

// fields is the content of a report, none of it verified.
type fields struct {
	version, guestSVN, vmpl              uint32
	policy                               Policy
	platformInfo                         PlatformInfo
	authorKey, maskChipKey               bool
	key                                  keyKind
	familyID, imageID                    [16]byte
	reportData, chipID                   [64]byte
	measurement                          [48]byte
	idKeyDigest, authorKeyDigest         [48]byte
	hostData, reportID, reportIDMA       [32]byte
	reported, committed, current, launch tcbBytes
	launchMitigations, mitigations       uint64
	firmware, committedFirmware          Firmware
	cpu                                  CPU // zero below version 3
}

// parse reads a report and refuses everything that the ABI does not allow in one, signed or not.
func parse(b []byte) (*fields, error) {
	if len(b) != ReportSize {
		return nil, malformed(fmt.Sprintf("a report of %d bytes", ReportSize), fmt.Sprintf("%d bytes", len(b)))
	}
	le := binary.LittleEndian
	f := &fields{
		version:      le.Uint32(b[offVersion:]),
		guestSVN:     le.Uint32(b[offGuestSVN:]),
		policy:       Policy(le.Uint64(b[offPolicy:])),
		vmpl:         le.Uint32(b[offVMPL:]),
		platformInfo: PlatformInfo(le.Uint64(b[offPlatformInfo:])),
	}
	if err := f.checkHeader(le.Uint32(b[offSignatureAlgo:])); err != nil {
		return nil, err
	}
	if err := f.readKeyInfo(le.Uint32(b[offKeyInfo:])); err != nil {
		return nil, err
	}
	if err := checkReserved(b, f.version); err != nil {
		return nil, err
	}
	f.copyIdentities(b)
	f.copyVersions(b)
	return f, nil
}

func (f *fields) checkHeader(algo uint32) error {
	switch {
	case f.version < minVersion || f.version > maxVersion:
		return malformed("a report of version 2 to 5", fmt.Sprintf("version %d", f.version))
	case algo != algoECDSAP384SHA384:
		return malformed("signature algorithm 1 (ECDSA P-384 with SHA-384)", fmt.Sprintf("algorithm %d", algo))
	case f.policy&policyReserved1 == 0 || f.policy>>policyReservedLo != 0:
		return malformed("a guest policy with bit 17 set and bits 26 to 63 clear", fmt.Sprintf("policy %#x", uint64(f.policy)))
	case f.platformInfo>>platformInfoKnownBits != 0:
		return malformed("platform information with bits 8 to 63 clear", fmt.Sprintf("%#x", uint64(f.platformInfo)))
	case f.vmpl > maxVMPL: // 0xffffffff is a report that the host asked for, not the guest
		return malformed("a report that the guest asked for at VMPL 0 to 3", fmt.Sprintf("VMPL %#x", f.vmpl))
	}
	return nil
}

func (f *fields) readKeyInfo(info uint32) error {
	kind := info >> keyInfoKeyShift & keyInfoKeyMask
	switch {
	case info>>keyInfoReservedLo != 0:
		return malformed("key information with bits 5 to 31 clear", fmt.Sprintf("%#x", info))
	case kind == signedByNone:
		return &refusal.Refusal{
			Link: linkReport, Code: refusal.Signature, Want: "a report signed by a VCEK or VLEK",
			Got: "a report that nobody signed (SIGNING_KEY 7)", Next: nextOtherHost,
		}
	case kind > uint32(vlek):
		return malformed("signing key 0 (VCEK) or 1 (VLEK)", fmt.Sprintf("%d", kind))
	}
	f.authorKey, f.maskChipKey = info&keyInfoAuthorKey != 0, info&keyInfoMaskChipKey != 0
	f.key = keyKind(kind)
	return nil
}

// checkReserved demands zero wherever the ABI demands zero, the rest of the signature field included.
func checkReserved(b []byte, version uint32) error {
	cpuid, mit := offReserved18B, offReserved208
	if version < cpuidVersion {
		cpuid = offCPUID
	}
	if version < mitigateVersion {
		mit = offLaunchMit
	}
	for _, r := range [...]struct{ from, to int }{
		{offReserved4C, offReportData},
		{cpuid, offChipID},
		{offReserved1EB, offReserved1EB + 1},
		{offReserved1EF, offLaunchTCB},
		{mit, offSignature},
		{offSignatureEnd, ReportSize},
	} {
		if !allZero(b[r.from:r.to]) {
			return malformed(fmt.Sprintf("zeros in reserved bytes %#x to %#x", r.from, r.to), "other bytes")
		}
	}
	return nil
}

func (f *fields) copyIdentities(b []byte) {
	copy(f.familyID[:], b[offFamilyID:])
	copy(f.imageID[:], b[offImageID:])
	copy(f.reportData[:], b[offReportData:])
	copy(f.measurement[:], b[offMeasurement:])
	copy(f.hostData[:], b[offHostData:])
	copy(f.idKeyDigest[:], b[offIDKeyDigest:])
	copy(f.authorKeyDigest[:], b[offAuthorKeyDigest:])
	copy(f.reportID[:], b[offReportID:])
	copy(f.reportIDMA[:], b[offReportIDMA:])
	copy(f.chipID[:], b[offChipID:])
}

func (f *fields) copyVersions(b []byte) {
	copy(f.current[:], b[offCurrentTCB:])
	copy(f.reported[:], b[offReportedTCB:])
	copy(f.committed[:], b[offCommittedTCB:])
	copy(f.launch[:], b[offLaunchTCB:])
	f.firmware = Firmware{Build: b[offCurrentBuild], Minor: b[offCurrentBuild+1], Major: b[offCurrentBuild+2]}
	f.committedFirmware = Firmware{Build: b[offCommittedBuild], Minor: b[offCommittedBuild+1], Major: b[offCommittedBuild+2]}
	if f.version >= cpuidVersion {
		f.cpu = CPU{Family: b[offCPUID], Model: b[offCPUID+1], Stepping: b[offCPUID+2]}
	}
	if f.version >= mitigateVersion {
		f.launchMitigations = binary.LittleEndian.Uint64(b[offLaunchMit:])
		f.mitigations = binary.LittleEndian.Uint64(b[offLaunchMit+8:])
	}
}
