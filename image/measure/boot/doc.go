// SPDX-License-Identifier: Apache-2.0

// Package boot predicts what firmware, systemd-stub and the Linux kernel measure while they boot an image: the PCRs of a TPM
// and the RTMRs of a trust domain.
//
// A boot is modelled as the [Log] of its events in their order, and a register is the fold of its events. Exactly these
// boots are modelled, all with edk2's OVMF as the firmware and the kernel's own EFI stub as the last step:
//
//   - [Direct]: QEMU hands kernel, initrd and command line to OVMF (-kernel, -initrd, -append).
//   - [UKI] from [Disk]: OVMF's first boot option starts a unified kernel image that systemd-stub heads, without another boot
//     loader before it and without load options.
//   - [UKI] from [Handed]: the same image, handed to OVMF by QEMU's -kernel, without -initrd and -append.
//
// The package guarantees that it predicts or refuses: a stub, a section or a kernel whose measurements it does not know is an
// [UnsupportedError], never a guess. It does not predict what a host adds: a command line in the load options, credentials,
// system extensions and addons beside a UKI, a failed boot option before the right one. Each of these changes a register, so
// that such a boot does not match the prediction. Nor does it predict RTMR0 and PCRs 0 to 3 and 5 to 7, which depend on the
// shape of the machine; those are judged by their event log.
//
// RTMR1 and RTMR2 are as of edk2-stable202411; firmware before it put one separator into RTMR0. The kernel measures command
// line and initrd into PCR 9 as of Linux 5.17 and into RTMR2 as of Linux 6.9; systemd-stub measures into RTMR2 as of version
// 256.
//
// Sources: TCG PC Client Platform Firmware Profile 1.06, section 3.3; UEFI 2.10, section 38.4.1 (PCRs and RTMRs); "TPM2 PCR
// Measurements Made by systemd"; UAPI.5 "Unified Kernel Image"; Linux drivers/firmware/efi/libstub/efi-stub-helper.c; edk2
// SecurityPkg/Library/DxeTpm2MeasureBootLib and OvmfPkg/Tcg/TdTcg2Dxe; QEMU hw/i386/x86-common.c.
package boot
