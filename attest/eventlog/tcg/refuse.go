// SPDX-License-Identifier: Apache-2.0

package tcg

import (
	"fmt"

	"github.com/kettle/attest/attest/refusal"
)

// link is the link of the chain that this package can find broken.
const link = "event-log"

const (
	nextWhole   = "take the log again from the kernel and keep its bytes unchanged"
	nextSame    = "take the log and the quote on the same machine in the same boot, and let nothing extend the registers between them"
	nextBank    = "enable a SHA-256 or SHA-384 bank in the firmware and boot again"
	nextQuote   = "name the registers that a verified quote covers"
	nextHealthy = "find out why the firmware could not finish its measurements, and boot again"
)

func malformed(want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: link, Code: refusal.Malformed, Want: want, Got: got, Next: nextWhole}
}

func mismatch(want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: link, Code: refusal.EventLogMismatch, Want: want, Got: got, Next: nextSame}
}

func missing(want, got, next string) *refusal.Refusal {
	return &refusal.Refusal{Link: link, Code: refusal.Missing, Want: want, Got: got, Next: next}
}

// at says in which event of the log something was found; the Spec ID event is number 0.
func at(event int, format string, args ...any) string {
	return fmt.Sprintf("event %d: ", event) + fmt.Sprintf(format, args...)
}
