// SPDX-License-Identifier: Apache-2.0

// Package vtpm verifies quotes of TPM 2.0 and the report by which Azure's paravisor vouches for the TPM that it holds.
//
// It guarantees that a [Quote] exists only after every check passed: the bytes are exactly one TPMS_ATTEST of type
// quote, made inside a TPM; an attestation key that is trusted for a reason signed them; they select registers of the
// SHA-256 bank and at least one; and the register values given hash to the quoted digest. Only values that were quoted can
// be read from it. An attestation key ([AK]) exists for one of three reasons alone: a paravisor's report that a hardware
// report binds ([HCL.Bind]), a provider's certificate to roots that the caller named ([CertifiedAK]), or an endorsement
// key with a manufacturer's certificate that activated a credential for it ([Activation.Complete]). A public key by
// itself is no reason: without one of the three the verdict is "chain".
//
// It trusts the caller's roots and time, the caller's word that report data given to [HCL.Bind] comes from a verified
// hardware report, and the Go standard library. It is pure: no network, no clock, no device, no state between calls;
// randomness for challenges is the caller's.
//
// It does not say who holds the TPM: a TPM proves as much as what keeps it, which is the paravisor on Azure, the provider's
// host elsewhere, and nothing where the launcher runs it. It does not judge register values ([Quote.Match] compares
// them with the caller's), event logs, whether extra data answers a challenge, or revocation of certificates.
//
// Sources: TCG "Trusted Platform Module Library" family 2.0 level 00 revision 01.59, parts 1 and 2 (called TPM1 and
// TPM2 below); TCG "EK Credential Profile for TPM Family 2.0" version 2.5 (called EK below); and for the paravisor's
// report the definitions in OpenHCL, igvm_attest/get.rs (called HCL below).
package vtpm
