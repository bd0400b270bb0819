// SPDX-License-Identifier: Apache-2.0

package vtpm

import (
	"fmt"

	"github.com/kettle/attest/attest/refusal"
)

// The links of the chain that this package can find broken.
const (
	linkQuote     = "tpm-quote"
	linkHCL       = "hcl-report"
	linkAK        = "attestation-key"
	linkEK        = "endorsement-key"
	linkPlatform  = "platform"
	linkRegisters = "measurement"
)

const (
	nextFreshQuote = "take a new quote on the machine and keep its bytes unchanged"
	nextFreshHCL   = "read the report again from the TPM (NV index 0x01400001) and keep its bytes unchanged"
	nextTrustAK    = "bring what vouches for the key: a paravisor's report with its hardware report, the provider's " +
		"certificate with its root, or a completed activation"
	nextRoots     = "name the roots of the provider or manufacturer, and bring the certificates in between"
	nextTime      = "give the proved time of the evidence"
	nextReactive  = "make a new challenge and answer it on the TPM that holds both keys"
	nextRelaunch  = "launch the virtual machine with the right configuration"
	nextQuotePCRs = "quote every register that the policy names, over the SHA-256 bank"
	nextImage     = "run the image whose values these are, or name its values in the policy"
)

const maxPrinted = 64 // bytes of foreign text in a message

// quoted makes foreign text safe to print.
func quoted(s string) string {
	if len(s) > maxPrinted {
		return fmt.Sprintf("%q and %d bytes more", s[:maxPrinted], len(s)-maxPrinted)
	}
	return fmt.Sprintf("%q", s)
}

func malformed(want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: linkQuote, Code: refusal.Malformed, Want: want, Got: got, Next: nextFreshQuote}
}

func malformedHCL(want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: linkHCL, Code: refusal.Malformed, Want: want, Got: got, Next: nextFreshHCL}
}

func brokenChain(link, want, got string) *refusal.Refusal {
	next := nextRoots
	if link == linkAK {
		next = nextTrustAK
	}
	return &refusal.Refusal{Link: link, Code: refusal.Chain, Want: want, Got: got, Next: next}
}
