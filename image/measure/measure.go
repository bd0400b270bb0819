// SPDX-License-Identifier: Apache-2.0

// Package measure predicts what a launch of an image measures.
//
// Its functions are pure: the same bytes give the same digest anywhere, so that a launcher and a verifier who have
// never met agree. It trusts nobody; it says what would be measured, never that something was.
//
// [SNP] predicts the launch digest of an SEV-SNP guest, [MRTD] the initial measurement of a trust domain, [Sim] that of the
// simulator. What is measured later, while firmware boots a kernel, is package boot's; firmware files are read by package ovmf.
// Not modelled: an SVSM, IGVM files, and paravisors, whose makers publish their own digests.
//
// # The simulator's launch digest
//
// The simulated secure processor measures a direct boot as SHA-384 over these bytes, in this order:
//
//	u32(20) "kettle.sim.launch/v1"
//	u32(8)  "firmware"     u32(32) SHA-256(firmware file)
//	u32(6)  "kernel"       u32(32) SHA-256(kernel file)
//	u32(6)  "initrd"       u32(32) SHA-256(initrd file)
//	u32(12) "command-line" u32(32) SHA-256(command line, exactly as handed to the kernel, no NUL)
//
// u32 is four bytes, big-endian: the length of the label or digest that follows. Lengths make the encoding injective,
// the first label separates it from every other use of SHA-384. As the inner digests are SHA-256, an image's manifest
// alone is enough to predict it. It changes with any byte of the four and with nothing else; in particular the root file
// system enters through its digest on the command line. A change of this encoding is a v2.
//
// It measures the boot of a unified kernel image ([SimUKI]) as SHA-384 over these:
//
//	u32(24) "kettle.sim.launch.uki/v1"
//	u32(8)  "firmware"  u32(32) SHA-256(firmware file, its code alone)
//	u32(9)  "variables" u32(32) SHA-256(file of the firmware's variables as the machine finds it)
//	u32(3)  "uki"       u32(32) SHA-256(\EFI\BOOT\BOOTX64.EFI in the disk's EFI system partition)
package measure

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"

	"github.com/kettle/attest/image"
)

const (
	simDomain    = "kettle.sim.launch/v1"
	simUKIDomain = "kettle.sim.launch.uki/v1"
)

// Launch holds the SHA-256 digests of what a direct boot starts.
type Launch struct {
	Firmware    image.SHA256
	Kernel      image.SHA256
	Initrd      image.SHA256
	CommandLine image.SHA256
}

// Sim gives the simulator's launch digest, 48 bytes, as described in the package comment.
func Sim(l Launch) [48]byte {
	return sim(simDomain, []part{{"firmware", l.Firmware}, {"kernel", l.Kernel}, {"initrd", l.Initrd}, {"command-line", l.CommandLine}})
}

// UKILaunch holds the SHA-256 digests of what the boot of a unified kernel image starts.
type UKILaunch struct {
	Firmware  image.SHA256 // the firmware's code
	Variables image.SHA256 // the firmware's variables, as the machine finds them
	UKI       image.SHA256 // the file in the disk's EFI system partition, with a signature if it has one
}

// SimUKI gives the simulator's launch digest of such a boot, 48 bytes. It is never that of a direct one.
func SimUKI(l UKILaunch) [48]byte {
	return sim(simUKIDomain, []part{{"firmware", l.Firmware}, {"variables", l.Variables}, {"uki", l.UKI}})
}

// part is one digest with its label.
type part struct {
	label  string
	digest image.SHA256
}

func sim(domain string, parts []part) [48]byte {
	h := sha512.New384()
	field(h, []byte(domain))
	for _, p := range parts {
		field(h, []byte(p.label))
		field(h, p.digest[:])
	}
	return [48]byte(h.Sum(nil))
}

// Manifest gives the digests that a launch of the image described by m has.
func Manifest(m *image.Manifest) Launch {
	return Launch{
		Firmware:    m.Files.Firmware.SHA256,
		Kernel:      m.Files.Kernel.SHA256,
		Initrd:      m.Files.Initrd.SHA256,
		CommandLine: CommandLine(m.CommandLine),
	}
}

// CommandLine gives the SHA-256 of the exact bytes of a kernel command line.
func CommandLine(line string) image.SHA256 { return sha256.Sum256([]byte(line)) }

func field(h hash.Hash, data []byte) {
	var length [4]byte
	binary.BigEndian.PutUint32(length[:], uint32(len(data))) //nolint:gosec // labels and digests are at most 32 bytes.
	h.Write(length[:])
	h.Write(data)
}
