// SPDX-License-Identifier: Apache-2.0

// Package sim is a simulated secure processor, for developing, testing and trying Kettle without TEE hardware.
//
// It runs outside the guest, in the launcher, which measures what it really starts and hands the digest to
// [Authority.NewProcessor]. The guest can choose two things only: the 64 bytes of report data, and digests that extend
// a run-time register which nothing resets. Measurement, guest policy, VMPL, TCB, chip and report identifier are fixed
// when the processor is made. Reports are genuine in format (SEV-SNP, 1184 bytes, version 3, a Milan processor) and
// are signed by a VCEK under a throw-away ARK and ASK. A verifier knows them by that root alone and has to name it;
// against AMD's roots every one of them is refused.
//
// The register stands in HOST_DATA, which a genuine processor fixes at launch. Only under a simulator's root is
// HOST_DATA to be read as a register.
//
// The package proves nothing to anybody outside a test: whoever can read the authority's key, or run the launcher, can
// sign any report. It writes its own bytes and shares no code with the verifier in attest/snp.
package sim
