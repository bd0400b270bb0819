// SPDX-License-Identifier: Apache-2.0

// Package snptest is a synthetic AMD for tests: keys, certificates, revocation lists, certificate tables and signed
// reports of every product line.
//
// A [Machine] signs whatever a test wants. Each negative test changes one thing that is then signed, so that only the
// check under test can refuse it. That is what tells it from the simulator in attest/sim, which is made for programs and
// fixes at birth everything that a guest must not choose; the two share no code, and neither shares any with the
// verifier. Nothing here is trusted by anybody: the keys are made anew in each test process and go nowhere. No program
// links this package.
package snptest
