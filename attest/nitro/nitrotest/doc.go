// SPDX-License-Identifier: Apache-2.0

// Package nitrotest plays AWS's Nitro system for tests: a PKI in the shape of AWS's and a signer of whatever attestation
// document a test writes down.
//
// It guarantees that what it makes is well-formed until a test changes it, that equal inputs give equal bytes, and that
// it is fast: keys come from labels, not from a generator. It trusts its callers and panics on what cannot be, since
// only tests link it. Nothing it signs leads to a root of AWS's. It builds bytes without the package that reads them and
// without a library for CBOR, so that one fault cannot hide in both.
package nitrotest
