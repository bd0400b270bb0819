// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// AuditSchema is the schema of a line of the audit log.
const AuditSchema = "kettle.admission-audit/v1"

// Decision is a word of the audit log.
type Decision string

// The decisions.
const (
	Admitted  Decision = "admitted"  // recorded in the ledger; the answer is being sent
	Delivered Decision = "delivered" // the answer was handed to the network whole
	Lost      Decision = "lost"      // recorded in the ledger, and the answer was not sent: the machine is lost for good
	Refused   Decision = "refused"   // for good
	Deferred  Decision = "deferred"  // nothing was decided: the environment may ask again
)

// Event is a line of the audit log. It holds no secret.
type Event struct {
	Schema      string              `json:"schema"`
	At          time.Time           `json:"at"`
	Decision    Decision            `json:"decision"`
	From        string              `json:"from"`                    // network address of whoever asked
	Environment binding.Digest      `json:"environmentKey,omitzero"` // a claim, unless Instance is there
	Instance    *statement.Instance `json:"instance,omitempty"`      // from a genuine quote
	Measurement string              `json:"measurement,omitempty"`   // the same
	Image       []statement.Subject `json:"image,omitempty"`         // whose reference values the quote meets
	Policy      binding.Digest      `json:"policy,omitzero"`         // SHA-256 of the policy file that decided
	Summary     binding.Digest      `json:"vsaEnv,omitzero"`         // SHA-256 of the VSA-ENV line
	Reasons     []Reason            `json:"reasons,omitempty"`       // of a refusal, gravest first
	Fault       string              `json:"fault,omitempty"`         // of what was deferred or lost
	Suppressed  int                 `json:"suppressed,omitempty"`    // refusals without a genuine quote that have no line of their own
}

// Reason is a refusal in the audit log.
type Reason struct {
	Link string       `json:"link"`
	Code refusal.Code `json:"code"`
	Want string       `json:"want"`
	Got  string       `json:"got,omitempty"`
}

// How many lines a second may be about requests without a genuine quote: anybody can send those, and disks are finite.
const (
	junkRate  = 10
	junkBurst = 200
)

// Audit is the log of decisions: JSON Lines, only ever appended to. It is safe for concurrent use, also by several
// processes on one host.
type Audit struct {
	file *os.File
	junk *rate.Limiter

	mu         sync.Mutex
	suppressed int // mu
}

// OpenAudit opens the log for appending; it is made if need be, for its owner only.
func OpenAudit(path string) (*Audit, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600) //nolint:gosec // the operator's own.
	if err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("no regular file")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the audit log: %w", err), f.Close())
	}
	return &Audit{file: f, junk: rate.NewLimiter(junkRate, junkBurst)}, nil
}

// Write appends one line. With durable it is on the disk when Write returns. Lines about requests without a genuine
// quote may be left out when there are too many; the next line says how many were.
func (a *Audit) Write(e Event, durable bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !durable && e.Instance == nil && !a.junk.AllowN(e.At, 1) {
		a.suppressed++
		return nil
	}
	e.Schema, e.At, e.Suppressed = AuditSchema, e.At.UTC(), a.suppressed
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encoding a line of the audit log: %w", err)
	}
	if _, err := a.file.Write(append(line, '\n')); err != nil { // one write: lines of several processes do not mix
		return fmt.Errorf("writing the audit log: %w", err)
	}
	a.suppressed = 0
	if !durable {
		return nil
	}
	if err := a.file.Sync(); err != nil {
		return fmt.Errorf("writing the audit log: %w", err)
	}
	return nil
}

// Close closes the log.
func (a *Audit) Close() error { return a.file.Close() }

// reasons gives what the audit log says of an error's refusals.
func reasons(err error) []Reason {
	var out []Reason
	for _, r := range refusal.All(err) {
		out = append(out, Reason{r.Link, r.Code, clip(r.Want), clip(r.Got)})
	}
	return out
}

// maxReason bounds one text of a reason, in bytes.
const maxReason = 512

func clip(s string) string {
	if len(s) <= maxReason {
		return s
	}
	return s[:maxReason] + "…"
}
