// SPDX-License-Identifier: Apache-2.0

// Package snp verifies AMD SEV-SNP attestation reports.
//
// It guarantees that a [Report] exists only after every check below passed: the report has exactly the layout of the
// SEV-SNP firmware ABI with nothing in its reserved places; its endorsement key certificate leads to one of the roots
// that the caller named and to no other; leaf, intermediate and root were valid at the time the caller named; the
// certificate speaks for this very chip and this very TCB; and the certificate's key signed the report. Whether the
// platform so described is good enough is the second question, answered by [Report.Meets] for a [floor.Floor] that has to be
// chosen in words. What the report says (measurement, report data) is for the caller to compare.
//
// It trusts the caller's roots and time, the Go standard library and, for the signature and as a second reader of
// every chain it knows, go-sev-guest with explicit roots, no fetching and an explicit time. It is pure: no network, no
// clock, no state between calls. Certificates that travel with evidence are never roots and never intermediates.
//
// It does not check revocation (AMD publishes lists for ASK, ASVK and VLEK; nothing here fetches or reads them), does
// not say who runs the machine, and cannot see attacks that leave no trace in a report: memory interposers, and on
// Milan keys extracted in software, which is why [floor.Strict] refuses genuine Milan reports.
//
// Sources: AMD 56860 "SEV Secure Nested Paging Firmware ABI Specification" revision 1.58 (called ABI below) and AMD
// 57230 "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification" (called KDS below).
package snp
