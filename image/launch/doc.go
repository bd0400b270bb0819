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
package launch
