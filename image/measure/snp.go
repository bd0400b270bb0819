// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/measure/ovmf"
)

// Digest is a SHA-384 digest: an SNP launch digest, or the value of a TDX register.
type Digest [48]byte

// VMM says whose virtual machine monitor launches an SNP guest. They differ in the registers that its processors start
// with and in the order of the pages, and so in the launch digest.
type VMM string

// The virtual machine monitors.
const (
	QEMU  VMM = "qemu"   // QEMU with KVM
	EC2   VMM = "ec2"    // Amazon EC2
	EC2V1 VMM = "ec2-v1" // Amazon EC2 as it was first: RDX is 0
	GCE   VMM = "gce"    // Google Compute Engine
)

// VMMs lists the virtual machine monitors.
func VMMs() []VMM { return []VMM{QEMU, EC2, EC2V1, GCE} }

// MaxVCPUs bounds the processors of a guest; it is the most that QEMU's q35 machine has.
const MaxVCPUs = 4096

// SNPActive is the guest feature that every SNP guest has: bit 0 of SEV_FEATURES (AMD64 Architecture Programmer's Manual,
// volume 2, table B-4).
const SNPActive = 1 << 0

// SNPFirmware is what a launch takes from the firmware. A publisher can give it instead of the file.
type SNPFirmware struct {
	Pages    Digest   // launch digest over the pages of the file alone
	Metadata ovmf.SEV // the sections outside the file
}

// KernelHashes are the digests that QEMU puts into guest memory for a direct boot (`kernel-hashes=on`).
type KernelHashes struct {
	Kernel      image.SHA256 // SHA-256 of the kernel file
	Initrd      image.SHA256 // SHA-256 of the initrd file; of nothing if there is none
	CommandLine image.SHA256 // see [KernelCommandLine]
}

// SNPLaunch is everything that an SNP launch digest depends on.
type SNPLaunch struct {
	Firmware      SNPFirmware
	Direct        *KernelHashes // nil: QEMU boots from a disk, or does not measure what it boots
	VMM           VMM
	VCPUs         int    // 1 to [MaxVCPUs]
	CPU           CPU    // required with [QEMU]; EC2's does not matter, nor does GCE's but for Genoa
	GuestFeatures uint64 // SEV_FEATURES of the guest; includes [SNPActive]
}

// KernelCommandLine gives the SHA-256 that the table of kernel hashes has for a command line: with the NUL behind it. It
// differs from [CommandLine], which has none.
func KernelCommandLine(line string) image.SHA256 { return sha256.Sum256(append([]byte(line), 0)) }

// NewSNPFirmware measures the pages of a firmware file, which is the larger part of the work.
func NewSNPFirmware(f *ovmf.Firmware) (SNPFirmware, error) {
	metadata, err := f.SEV()
	if err != nil {
		return SNPFirmware{}, err
	}
	var m launchMeasurement
	m.normal(f.GPA(), f.Data())
	return SNPFirmware{Pages: m.digest, Metadata: metadata}, nil
}

// SNP gives the launch digest: the MEASUREMENT of the attestation reports of such a guest (SEV-SNP Firmware ABI, sections
// 8.17 and 8.18: SNP_LAUNCH_UPDATE, SNP_LAUNCH_FINISH).
func SNP(l SNPLaunch) (Digest, error) {
	if err := l.validate(); err != nil {
		return Digest{}, fmt.Errorf("predicting an SNP launch digest: %w", err)
	}
	m := launchMeasurement{digest: l.Firmware.Pages}
	m.sections(l)
	boot := sha512.Sum384(vmsa(l, resetVector))
	m.page(pageVMSA, l.vmsaGPA(), boot)
	if l.VCPUs > 1 {
		other := sha512.Sum384(vmsa(l, l.Firmware.Metadata.ResetEIP))
		for range l.VCPUs - 1 {
			m.page(pageVMSA, l.vmsaGPA(), other)
		}
	}
	return m.digest, nil
}

func (l SNPLaunch) validate() error {
	if l.Firmware.Pages == (Digest{}) {
		return errors.New("the firmware is not measured")
	}
	if err := l.Firmware.Metadata.Validate(); err != nil {
		return err
	}
	switch {
	case l.Direct != nil && !l.Firmware.Metadata.KernelHashes():
		return &UnsupportedError{"the firmware has no table of kernel hashes: it does not measure kernel, initrd and command line"}
	case l.Direct != nil && (l.Direct.Kernel == image.SHA256{} || l.Direct.Initrd == image.SHA256{} || l.Direct.CommandLine == image.SHA256{}):
		return errors.New("a digest of kernel, initrd or command line is absent")
	case !slices.Contains(VMMs(), l.VMM):
		return fmt.Errorf("want a VMM of %v, got %.20q", VMMs(), string(l.VMM))
	case l.VCPUs < 1 || l.VCPUs > MaxVCPUs:
		return fmt.Errorf("want 1 to %d processors, got %d", MaxVCPUs, l.VCPUs)
	case l.VMM == QEMU && l.CPU.Signature == 0:
		return errors.New("the type of the processors is absent")
	case l.GuestFeatures&SNPActive == 0:
		return fmt.Errorf("guest features %#x without bit 0: that is no SNP guest", l.GuestFeatures)
	}
	return nil
}

// The types of pages in PAGE_INFO (SEV-SNP Firmware ABI, table 67).
const (
	pageNormal     = 1
	pageVMSA       = 2
	pageZero       = 3
	pageUnmeasured = 4
	pageSecrets    = 5
	pageCPUID      = 6
)

// The addresses that stand for each VMSA page. KVM gives the highest page of 48 bits; Google's hypervisor the highest one
// that the processor can address, which on Genoa has 52 bits.
const (
	vmsaGPA      = 0xfffffffff000
	vmsaGPAGenoa = 0xffffffffff000
)

func (l SNPLaunch) vmsaGPA() uint64 {
	if l.VMM == GCE && l.CPU.Signature>>4 == CPUSignature(25, 17, 0)>>4 {
		return vmsaGPAGenoa
	}
	return vmsaGPA
}

// launchMeasurement is the running digest of the secure processor.
type launchMeasurement struct{ digest Digest }

// page extends the digest by one PAGE_INFO structure (SEV-SNP Firmware ABI, section 8.17.2).
func (m *launchMeasurement) page(kind byte, gpa uint64, contents Digest) {
	const size = 0x70
	var info [size]byte
	copy(info[0x00:], m.digest[:])
	copy(info[0x30:], contents[:])
	binary.LittleEndian.PutUint16(info[0x60:], size)
	info[0x62] = kind // 0x63 is_imi and 0x64 to 0x66, the permissions of the other privilege levels, are 0
	binary.LittleEndian.PutUint64(info[0x68:], gpa)
	m.digest = sha512.Sum384(info[:])
}

// normal extends the digest by whole pages of data. Most pages of a firmware file are padding, equal to the one before, so
// that their digest is known.
func (m *launchMeasurement) normal(gpa uint64, data []byte) {
	var before []byte
	var contents Digest
	for offset := 0; offset < len(data); offset += ovmf.PageSize {
		page := data[offset : offset+ovmf.PageSize]
		if !bytes.Equal(page, before) {
			contents = sha512.Sum384(page)
		}
		before = page
		m.page(pageNormal, gpa+uint64(offset), contents)
	}
}

// blank extends the digest by a section of pages whose contents are not hashed.
func (m *launchMeasurement) blank(kind byte, s ovmf.Section) {
	for offset := uint64(0); offset < uint64(s.Size); offset += ovmf.PageSize {
		m.page(kind, uint64(s.GPA)+offset, Digest{})
	}
}

// sections extends the digest by the sections of the metadata. EC2 keeps the CPUID page for last.
func (m *launchMeasurement) sections(l SNPLaunch) {
	var last []ovmf.Section
	for _, s := range l.Firmware.Metadata.Sections {
		switch s.Type {
		case ovmf.SectionSecureMemory:
			kind := byte(pageZero)
			if l.VMM == GCE {
				kind = pageUnmeasured
			}
			m.blank(kind, s)
		case ovmf.SectionSVSMCAA:
			m.blank(pageZero, s)
		case ovmf.SectionSecrets:
			m.blank(pageSecrets, s)
		case ovmf.SectionCPUID:
			if l.VMM == EC2 || l.VMM == EC2V1 {
				last = append(last, s)
				continue
			}
			m.blank(pageCPUID, s)
		case ovmf.SectionKernelHashes:
			if l.Direct == nil {
				m.blank(pageZero, s)
				continue
			}
			m.normal(uint64(s.GPA), l.Direct.page(l.Firmware.Metadata.HashTable-s.GPA))
		}
	}
	for _, s := range last {
		m.blank(pageCPUID, s)
	}
}

// The GUIDs of the table of kernel hashes (QEMU target/i386/sev.c, edk2 OvmfPkg/AmdSev/BlobVerifierLibSevHashes).
const (
	guidHashes      = "\x06\xd6\x38\x94\x22\x4f\xc9\x4c\xb4\x79\xa7\x93\xd4\x11\xfd\x21" // 9438d606-4f22-4cc9-b479-a793d411fd21
	guidKernel      = "\x37\x94\xe7\x4d\xd2\xab\x7f\x42\xb8\x35\xd5\xb1\x72\xd2\x04\x5b" // 4de79437-abd2-427f-b835-d5b172d2045b
	guidInitrd      = "\x31\xf7\xba\x44\x2f\x3a\xd7\x4b\x9a\xf1\x41\xe2\x91\x69\x78\x1d" // 44baf731-3a2f-4bd7-9af1-41e29169781d
	guidCommandLine = "\xd8\x2d\xd0\x97\x20\xbd\x94\x4c\xaa\x78\xe7\x71\x4d\x36\xab\x2a" // 97d02dd8-bd20-4c94-aa78-e7714d36ab2a
)

// page gives the page with the table at offset; the rest of it is zero. The table is its GUID, its length, and an entry of
// GUID, length and digest for each of the three.
func (k KernelHashes) page(offset uint32) []byte {
	const entry, table = 16 + 2 + 32, 16 + 2 + 3*(16+2+32)
	page := make([]byte, ovmf.PageSize)
	b := append(page[:offset], guidHashes...)
	b = binary.LittleEndian.AppendUint16(b, table)
	for _, e := range []struct {
		guid   string
		digest image.SHA256
	}{{guidCommandLine, k.CommandLine}, {guidInitrd, k.Initrd}, {guidKernel, k.Kernel}} {
		b = append(b, e.guid...)
		b = binary.LittleEndian.AppendUint16(b, entry)
		b = append(b, e.digest[:]...)
	}
	return page
}

// UnsupportedError says that a launch is possible but that this package cannot predict it, or that the firmware does not
// measure what is asked for.
type UnsupportedError struct{ Reason string }

// Error gives the reason.
func (e *UnsupportedError) Error() string { return e.Reason }

// Unsupported tells this error from a fault of an input.
func (e *UnsupportedError) Unsupported() bool { return true }
