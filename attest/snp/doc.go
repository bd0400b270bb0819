// SPDX-License-Identifier: Apache-2.0

// Package snp verifies AMD SEV-SNP attestation reports.
//
// It guarantees that a [Report] exists only after every check below passed: the report has exactly the layout of the
// SEV-SNP firmware ABI with nothing in its reserved places; its endorsement key certificate leads to one of the roots
// that the caller named and to no other; leaf, intermediate and root were valid at the time the caller named; the
// certificate speaks for this very chip and this very TCB; and the certificate's key signed the report. Whether the
// platform so described is good enough is the second question, answered by [Report.Judge] for a [floor.Floor] that has to
// be chosen in words, by a dated table of TCB floors that the judge may raise. Whether AMD has revoked the chain is the
// third, answered by [Report.NotRevoked] for a list that the caller brings. What the report says (measurement, report
// data) is for the caller to compare, and what no report says is listed by [Report.Unproven].
//
// It trusts the caller's roots and time, the Go standard library, and the bytes of AMD's certificates as go-sev-guest
// embeds them, which its tests pin by fingerprint. It is pure: no network, no clock, no state between calls. Certificates
// that travel with evidence, the host's table of them included ([ParseCertTable]), are never roots and never
// intermediates.
//
// It does not say who runs the machine, does not know whether a list of revocations was asked for, and cannot see attacks
// that leave no trace in a report: memory interposers, and on Milan keys extracted in software, which is why
// [floor.Strict] refuses genuine Milan reports unless the chip or provider is written down.
//
// Sources: AMD 56860 "SEV Secure Nested Paging Firmware ABI Specification" revision 1.58 (called ABI below), AMD
// 57230 "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification" (called KDS below) and AMD
// 56421 "SEV-ES Guest-Hypervisor Communication Block Standardization".
package snp
