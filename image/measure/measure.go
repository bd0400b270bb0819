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
package measure

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"

	"github.com/kettle/attest/image"
)

const simDomain = "kettle.sim.launch/v1"

// Launch holds the SHA-256 digests of what a direct boot starts.
type Launch struct {
	Firmware    image.SHA256
	Kernel      image.SHA256
	Initrd      image.SHA256
	CommandLine image.SHA256
}

// Sim gives the simulator's launch digest, 48 bytes, as described in the package comment.
func Sim(l Launch) [48]byte {
	h := sha512.New384()
	field(h, []byte(simDomain))
	for _, part := range []struct {
		label  string
		digest image.SHA256
	}{
		{"firmware", l.Firmware},
		{"kernel", l.Kernel},
		{"initrd", l.Initrd},
		{"command-line", l.CommandLine},
	} {
		field(h, []byte(part.label))
		field(h, part.digest[:])
	}
	return [48]byte(h.Sum(nil))
}

// Manifest gives the digests that a launch of the image described by m has.
func Manifest(m *image.Manifest) Launch {
	return Launch{
		Firmware:    m.Firmware.SHA256,
		Kernel:      m.Kernel.SHA256,
		Initrd:      m.Initrd.SHA256,
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
