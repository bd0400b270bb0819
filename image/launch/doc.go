// SPDX-License-Identifier: Apache-2.0

// Package launch starts a VM under QEMU and plays the secure processor outside of it.
//
// What it guarantees: firmware, kernel and initrd are copied into a private folder first, the launch digest is computed
// over exactly those copies and the command line (see package image/measure), and QEMU is started from the same copies.
// The guest can ask the simulated processor for quotes and extend its register; it cannot choose its measurement. When
// [VM.Wait] has returned, no process and no file of the launch is left except the console, if one was asked for.
//
// What it trusts: this machine, its QEMU and the option ROMs inside QEMU. The firmware is qboot or SeaBIOS: the
// production firmware measures kernel, initrd and command line only inside a real SNP guest and cannot boot a kernel
// directly under TCG, and qboot starts several times faster. That is why a launch here proves nothing to others: its
// quotes end in a root that policies refuse unless it is named.
//
// The root image is not measured here: its digest is on the measured command line and the guest compares.
//
// With [Config.UKI] firmware of UEFI boots the unified kernel image from the disk. Then firmware, its variables and the whole disk
// are copied, and the simulated processor measures the program in the copy's EFI system partition, by package esp, which is what
// firmware starts unless its variables, or another disk, say otherwise. swtpm plays a TPM, with a state that is made for this VM
// and goes away with it; the registers that firmware, stub and kernel extend are as package boot predicts. Such a TPM proves
// nothing: who launches can reset and extend it as they like.
//
// With [Config.Hardware] the platform measures the same copies itself, and nothing is simulated. No test of this package has ever
// run there.
package launch
