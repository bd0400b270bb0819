// SPDX-License-Identifier: Apache-2.0

package nitro

import (
	"fmt"

	"github.com/kettle/attest/attest/refusal"
)

// The links of the chain that this package can find broken.
const (
	linkQuote        = "quote"
	linkEndorsements = "endorsements"
	linkPlatform     = "platform"
	linkRoot         = "root"
)

const (
	nextFreshDocument = "take a new attestation document on the machine and keep its bytes unchanged"
	nextGenuineRoots  = "verify against AWS's root, or name the private root with --root if the evidence is a simulator's"
	nextTime          = "give the proved time of the evidence"
	nextExpired       = "verify at the proved time of the evidence, which has to lie within the three hours that the signing " +
		"certificate lives, or take a new document"
	nextNotDebug   = "run the enclave without debug mode"
	nextMeasured   = "launch the instance with UEFI boot and NitroTPM from an attestable AMI"
	nextNameFloor  = "choose one in the policy"
	nextVerifyDocs = "verify a document first"
)

func malformed(want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: linkQuote, Code: refusal.Malformed, Want: want, Got: got, Next: nextFreshDocument}
}

func unsigned(want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: linkQuote, Code: refusal.Signature, Want: want, Got: got, Next: nextFreshDocument}
}

func brokenChain(want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: linkEndorsements, Code: refusal.Chain, Want: want, Got: got, Next: nextGenuineRoots}
}

func platformRefusal(code refusal.Code, want, got, next string) *refusal.Refusal {
	return &refusal.Refusal{Link: linkPlatform, Code: code, Want: want, Got: got, Next: next}
}

func noTime() *refusal.Refusal {
	return &refusal.Refusal{
		Link: linkEndorsements, Code: refusal.Missing, Want: "a time to judge the certificates at", Got: "none", Next: nextTime,
	}
}

// printable makes a string of foreign origin safe to print.
func printable(s string) string {
	const limit = 80
	if len(s) > limit {
		s = s[:limit]
	}
	return fmt.Sprintf("%q", s)
}
