// SPDX-License-Identifier: Apache-2.0

package snp

import "github.com/kettle/attest/attest/refusal"

// The links of the chain that this package can find broken.
const (
	linkReport       = "quote"
	linkEndorsements = "endorsements"
	linkPlatform     = "platform"
	linkRoot         = "root"
)

const (
	nextFreshReport  = "take a new report on the machine and keep its bytes unchanged"
	nextRightLeaf    = "get the certificate of this chip at the reported TCB from AMD's key distribution service or the provider"
	nextUpdate       = "run on a host with current firmware and microcode"
	nextOtherHost    = "run the image on another host, or choose a lower floor in writing"
	nextRelaunch     = "launch the virtual machine with the right guest policy"
	nextGenuineRoots = "verify against AMD's roots, or name the private root with --root if the evidence is a simulator's"
)

func malformed(want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: linkReport, Code: refusal.Malformed, Want: want, Got: got, Next: nextFreshReport}
}

func malformedLeaf(want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: linkEndorsements, Code: refusal.Malformed, Want: want, Got: got, Next: nextRightLeaf}
}

func brokenChain(want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: linkEndorsements, Code: refusal.Chain, Want: want, Got: got, Next: nextGenuineRoots}
}

func mismatch(want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: linkEndorsements, Code: refusal.EndorsementsMismatch, Want: want, Got: got, Next: nextRightLeaf}
}
