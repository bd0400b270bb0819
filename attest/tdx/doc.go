// SPDX-License-Identifier: Apache-2.0

// Package tdx verifies Intel TDX quotes.
//
// It guarantees that a [Quote] exists only after every check of [Verify] passed: the quote has exactly the layout of
// version 4 or 5 with nothing in its reserved places; its PCK certificate leads to one of the roots that the caller
// named and to no other, through certificates that have Intel's names, keys and constraints and were valid at the time
// that the caller named; the key of that certificate signed the report of Intel's TD quoting enclave; that report binds
// the attestation key; and the attestation key signed the quote. Whether the platform so described is good enough is
// the second question, answered by [Quote.Meets] for a [floor.Floor] that has to be chosen in words, with [Collateral]
// that Intel signed: TCB info, QE identity and revocation lists. What the quote says (measurements, report data) is for
// the caller to compare.
//
// It trusts the caller's roots and time and the Go standard library. It is pure: no network, no clock, no state between
// calls. Certificates that travel with a quote or with collateral are never roots; the root among them has to be, byte
// for byte, one that the caller named.
//
// It cannot see attacks that leave no trace in a quote: memory interposers (TEE.fail, Battering RAM, WireTap) read the
// keys of a quoting enclave and forge what this package calls genuine. A quote names no instance of a TD: two TDs of one
// image on one platform differ only in what they were asked to sign and in their run-time registers.
//
// go-tdx-guest is not used here: it panics on hostile quotes, judges a TDX 1.5 platform by its module alone and reads
// collateral without regard to case. It stays an oracle of the tests, each divergence named.
//
// Sources: Intel "TDX DCAP Quoting Library API" appendix 3 (called QUOTE below), "SGX PCK Certificate and Certificate
// Revocation List Profile Specification" (PCK), "SGX and TDX Provisioning Certification Service API" version 4 (PCS),
// "TDX Module Base Architecture Specification" (MODULE) and the algorithm of Intel's Quote Verification Library (QVL).
package tdx
