// SPDX-License-Identifier: Apache-2.0

// Package nitro verifies the attestation documents of the AWS Nitro system: those of Nitro Enclaves and those of NitroTPM
// for instances of an attestable AMI.
//
// It guarantees that a [Document] exists only after every check of [Verify] passed: the bytes are exactly one
// COSE_Sign1 with the algorithm ES384; its payload has every mandatory field, no unknown and no repeated one, each of the
// type and size that AWS writes down; the certificates in it lead, in their order, to one of the roots that the caller
// named and to no other, each with a P-384 key and the constraints of its place, valid at the time that the caller
// named; and the key of the last one signed the payload, byte for byte. Whether what is so described is good enough is
// the second question, answered by [Document.Meets] for a [floor.Floor] that has to be chosen in words. What the
// document says (registers, user data, nonce, public key) is for the caller to compare.
//
// It trusts the caller's roots and time, the Go standard library, and fxamacker/cbor to read single items of CBOR,
// bounded and without indefinite lengths, tags or repeated keys. It is pure: no network, no clock, no state between
// calls. The root that travels in a document is never a root: it has to be, byte for byte, one that the caller named.
//
// A document proves what AWS's Nitro system says of an instance or enclave. It states no version of that system's own
// firmware, so there is no TCB to judge, and AWS asks that certificates be checked without revocation lists. Nothing in
// it comes from the processor: memory is as private as AWS keeps it. The signing certificate lives for about three hours;
// a document is judged at a time inside them. ECDSA lets anybody write a second signature for the same payload: the bytes
// of a document, or their hash, name nothing; what it says does.
//
// Sources: AWS "Nitro Enclaves Attestation Process", docs/attestation_process.md of aws-nitro-enclaves-nsm-api (called
// PROCESS below); AWS "Validate a NitroTPM Attestation Document" in the EC2 user guide (called TPMGUIDE); RFC 9052
// (COSE), RFC 9053 (ES384), RFC 8949 (CBOR) and RFC 5280 (certificates).
package nitro
