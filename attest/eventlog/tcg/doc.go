// SPDX-License-Identifier: Apache-2.0

// Package tcg reads the event logs that firmware and boot loaders write beside measurement registers, and replays them.
//
// Three formats: the log of a TPM ([ParseTPM], registers are PCRs), the log of a confidential VM ([ParseCC], registers
// are RTMRs) and the JSON log of dstack ([ParseDstack], registers are RTMRs).
//
// It guarantees that a [Log] has exactly the layout of its format, with nothing left over and nothing repeated, and
// that an [Account] exists only after every register named by the caller has exactly the value that the log gives it.
// An Account shows an event's data only where the digest in the register follows from that data; else the digest is
// all there is to show. Events of registers that were not compared are not in it at all.
//
// It trusts the register values that the caller gives, which therefore come out of a verified quote, and the hash
// functions. It trusts nothing in the log. A register covers digests and their order in that one register, nothing
// else: not the type of an event, not its description, not its order against events of other registers, and not who
// extended it. Whoever runs after the firmware can extend a register too and write a fitting log, so facts that only
// the firmware may state (Secure Boot, its keys) are read before the separator alone and by digest, not by label.
//
// It does not know which values are good: digests and facts are for the caller to compare. It is pure: no network, no
// clock, no state between calls. Memory is bounded by the input, which is at most [MaxSize].
//
// Sources: TCG PC Client Platform Firmware Profile Specification 1.06 (called PFP below), UEFI 2.10 section 38
// "Confidential Computing", ACPI 6.5 section 5.2.34 "CC Event Log", TCG Algorithm Registry 1.34.
package tcg
