// SPDX-License-Identifier: Apache-2.0

// Package vtpmtest makes quotes, paravisor's reports and certificates in software, for tests of package vtpm and of those
// above it.
//
// It guarantees that what it makes has the layout that real TPMs and Azure's paravisor give; the tests of package vtpm
// check that with a second reader. Nothing that it makes is evidence of anything: the keys are the caller's. It trusts
// nothing and is linked by tests only.
package vtpmtest
