// SPDX-License-Identifier: Apache-2.0

package tdx

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
	nextFreshQuote   = "take a new quote on the machine and keep its bytes unchanged"
	nextCollateral   = "fetch TCB info, QE identity and revocation lists for this platform from Intel's service again"
	nextUpdate       = "run on a host with current firmware, microcode and TDX module"
	nextRelaunch     = "launch the trust domain with the right attributes"
	nextGenuineRoots = "verify against Intel's root, or name the private root with --root if the evidence is a simulator's"
	nextTime         = "give the proved time of the evidence"
)

func malformed(want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: linkQuote, Code: refusal.Malformed, Want: want, Got: got, Next: nextFreshQuote}
}

func unsigned(want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: linkQuote, Code: refusal.Signature, Want: want, Got: got, Next: nextFreshQuote}
}

func brokenChain(want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: linkEndorsements, Code: refusal.Chain, Want: want, Got: got, Next: nextGenuineRoots}
}

func endorsements(code refusal.Code, want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: linkEndorsements, Code: code, Want: want, Got: got, Next: nextCollateral}
}

func platformRefusal(code refusal.Code, want, got, next string) *refusal.Refusal {
	return &refusal.Refusal{Link: linkPlatform, Code: code, Want: want, Got: got, Next: next}
}

func noTime() *refusal.Refusal {
	return &refusal.Refusal{
		Link: linkEndorsements, Code: refusal.Missing, Want: "a time to judge the endorsements at", Got: "none", Next: nextTime,
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
