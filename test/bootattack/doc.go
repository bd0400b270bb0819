// SPDX-License-Identifier: Apache-2.0

// Package bootattack boots a real image as its host would who wants something else of it than its maker.
//
// Its tests build one image with the stand-ins of package stage, sign it, and start it in a VM in whose arguments, files,
// disks, firmware variables and clock one thing was changed. Each demands what the guest then said: nothing at all, one
// sentence and power-off, or exactly what it says unharmed. No switch of the product takes part: what no launcher would ask
// for is added by a program that stands in QEMU's place in PATH.
//
// It has no code of its own outside of its tests. Attacks on what is read from a disk's blocks later are package runner/boot's,
// those on statements and signers alone are attest/reference's and runner/selfverify's: they need no machine.
package bootattack
