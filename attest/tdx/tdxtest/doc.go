// SPDX-License-Identifier: Apache-2.0

// Package tdxtest plays Intel and a TDX platform for tests: a PKI in the shape of Intel's, a quoting enclave that signs
// whatever body a test writes down, and a provisioning service that signs whatever collateral it is told to.
//
// It guarantees that what it makes is well-formed until a test changes it, that equal inputs give equal bytes, and that
// it is fast: keys come from labels, not from a generator. It trusts its callers and panics on what cannot be, since
// only tests link it. Nothing it signs leads to a root of Intel's. It builds bytes without the package that reads them,
// so that one fault cannot hide in both.
package tdxtest
