// SPDX-License-Identifier: Apache-2.0

// Package idblock makes and checks the identity block of an SEV-SNP guest: a launch digest and a guest policy that the
// operator has signed. The host hands it to AMD's firmware at the end of the launch, and the firmware refuses to start a guest
// whose digest or policy is another one. Reports then carry the digest of the key that signed.
//
// It guarantees that what [Sign] gives is what the firmware checks, byte for byte, and that the same block and keys in memory
// give the same signature. [Verify] accepts that and nothing else: reserved bytes, other algorithms and other curves are
// refused. It is pure: no file, no clock, no network.
//
// It trusts the keys' owner, and the launch digest that it is given: that one belongs to an image is predicted by
// [github.com/kettle/attest/image/measure]. An identity block protects the operator's name, not the guest: a host may launch
// without one, so a verifier has to demand the key's digest in the report.
//
// Source: AMD "SEV Secure Nested Paging Firmware ABI Specification" (56860) 1.58, tables "Structure of the ID Block", "ID
// Authentication Information Structure", "Format for an ECDSA Public Key" and "Format for an ECDSA Signature", and
// section "SNP_LAUNCH_FINISH".
package idblock

import (
	"encoding/binary"
	"fmt"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
)

const (
	// Size is the size of an identity block in bytes.
	Size = 96

	version = 1 // of the block's format

	offFamily  = 0x30
	offImage   = 0x40
	offVersion = 0x50
	offSVN     = 0x54
	offPolicy  = 0x58

	policyReservedOne = 1 << 17 // has to be set
	policyReservedLo  = 26      // bits from here on have no meaning yet

	link = "identity block"
)

// Block is what an identity block says. Launch digest and policy are compared by the firmware; the rest goes into reports.
type Block struct {
	LaunchDigest [48]byte
	FamilyID     [16]byte // the operator's; no meaning to the firmware
	ImageID      [16]byte // the operator's; no meaning to the firmware
	GuestSVN     uint32   // the operator's version of the image, for example to tell an older image
	Policy       snp.Policy
}

// Bytes gives the block as the firmware reads it.
func (b Block) Bytes() [Size]byte {
	var out [Size]byte
	le := binary.LittleEndian
	copy(out[:], b.LaunchDigest[:])
	copy(out[offFamily:], b.FamilyID[:])
	copy(out[offImage:], b.ImageID[:])
	le.PutUint32(out[offVersion:], version)
	le.PutUint32(out[offSVN:], b.GuestSVN)
	le.PutUint64(out[offPolicy:], uint64(b.Policy))
	return out
}

// validate checks what no block of ours may say: no digest, a policy that is not one, a guest that the host may debug or hand
// to a migration agent.
func (b Block) validate() *refusal.Refusal {
	p := b.Policy
	switch {
	case b.LaunchDigest == [48]byte{}:
		return refuse(refusal.Malformed, "a launch digest", "zeros")
	case p&policyReservedOne == 0 || p>>policyReservedLo != 0:
		return refuse(refusal.Malformed, "a guest policy with bit 17 and none above 25", fmt.Sprintf("%#x", uint64(p)))
	case p.Debug():
		return refuse(refusal.Debug, "a guest policy without debugging", fmt.Sprintf("%#x", uint64(p)))
	case p.MigrationAgent():
		return refuse(refusal.Policy, "a guest policy without a migration agent", fmt.Sprintf("%#x", uint64(p)))
	}
	return nil
}

// parse reads a block and validates it.
func parse(data []byte) (Block, *refusal.Refusal) {
	if len(data) != Size {
		return Block{}, refuse(refusal.Malformed, fmt.Sprintf("%d bytes", Size), fmt.Sprintf("%d", len(data)))
	}
	le := binary.LittleEndian
	if got := le.Uint32(data[offVersion:]); got != version {
		return Block{}, refuse(refusal.Malformed, "version 1", fmt.Sprintf("%d", got))
	}
	b := Block{GuestSVN: le.Uint32(data[offSVN:]), Policy: snp.Policy(le.Uint64(data[offPolicy:]))}
	copy(b.LaunchDigest[:], data)
	copy(b.FamilyID[:], data[offFamily:])
	copy(b.ImageID[:], data[offImage:])
	return b, b.validate()
}

func refuse(code refusal.Code, want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: link, Code: code, Want: want, Got: got, Next: "sign the image's launch digest again"}
}
