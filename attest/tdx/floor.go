// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"errors"
	"fmt"
	"time"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
)

// Guest says what runs directly on the TDX module, which decides what the attributes of the TD have to be. The zero
// value is no answer and refuses everything.
type Guest uint8

// The guests.
const (
	// Direct is an operating system that handles #VE itself.
	Direct Guest = iota + 1
	// Paravisor is a paravisor, such as Azure's, that handles #VE for the operating system above it and needs no
	// SEPT_VE_DISABLE. That it is the right paravisor is for the caller to find in MRTD.
	Paravisor
)

// Setting is what the caller knows of how the TD is set up.
type Setting struct {
	Guest Guest
	// ServiceTD is the MRSERVICETD that is demanded. Zero demands that no service TD be bound. A body of type 2
	// does not say and counts as zero: whether one is bound to it cannot be seen.
	ServiceTD [48]byte
}

// Meets reports, as nil, that the platform reaches the floor. Otherwise it joins one [refusal.Refusal] for each thing
// that falls short, the gravest first: debugging, then collateral and TCB, then attributes.
//
// Signature asks nothing more than [Verify] did. Default demands a TD that nobody can debug, migrate or watch, served by the service TD expected or none,
// and collateral that is genuine, current at the time, for this platform, of an evaluation data set that Intel had in
// force when it was issued, and that calls platform, module and QE up to date. Strict adds SEPT_VE_DISABLE for direct
// guests and evaluation data at most half a year behind.
//
// Codes: debug, tcb, policy and those of [Quote.TCB]; missing for the zero Floor or Guest, no time and an unverified quote.
func (q *Quote) Meets(f floor.Floor, s Setting, c *Collateral, at time.Time) error {
	switch {
	case q == nil || !q.verified:
		return platformRefusal(refusal.Missing, "a verified quote", "none", nextFreshQuote)
	case s.Guest != Direct && s.Guest != Paravisor:
		return platformRefusal(refusal.Missing, "what runs on the TDX module: a direct guest or a paravisor", "none", "say it")
	case at.IsZero():
		return noTime()
	}
	switch f {
	case floor.Signature:
		return nil
	case floor.Default:
		return errors.Join(q.checkDebug(), q.checkTCB(f, c, at), q.checkAttributes(s))
	case floor.Strict:
		return errors.Join(q.checkDebug(), q.checkTCB(f, c, at), q.checkAttributes(s), q.checkVE(s.Guest))
	}
	return platformRefusal(refusal.Missing, "a floor: signature, default or strict", "none", "choose one in the policy")
}

func (q *Quote) checkDebug() error {
	if !q.attributes.Debug() {
		return nil
	}
	return platformRefusal(refusal.Debug, "a TD that the host cannot debug (attribute bits 0 to 7 clear)",
		fmt.Sprintf("attributes %#x", uint64(q.attributes)), nextRelaunch)
}

func (q *Quote) checkTCB(f floor.Floor, c *Collateral, at time.Time) error {
	t, err := q.TCB(c, at)
	if err != nil {
		return err
	}
	return errors.Join(t.checkStatus(), t.checkEvaluation(f))
}

func (t TCB) checkStatus() error {
	if t.Status == UpToDate {
		return nil
	}
	next := nextUpdate
	if t.Status == TDRelaunchAdvised || t.Status == TDRelaunchAdvisedConfigurationNeeded {
		next = "launch the trust domain again: the TDX module has been updated since"
	}
	return platformRefusal(refusal.TCB, "TCB status UpToDate", t.String(), next)
}

func (t TCB) checkEvaluation(f floor.Floor) error {
	want := minimumEvaluation(t.Issued, standardMonths, standardDays)
	if f == floor.Strict {
		want = max(want, minimumEvaluation(t.Issued, strictMonths, 0))
	}
	if t.Evaluation >= want {
		return nil
	}
	return endorsements(refusal.TCB, fmt.Sprintf("collateral of %s with evaluation data number %d or higher", t.Issued.UTC().Format(time.DateOnly), want),
		fmt.Sprintf("number %d", t.Evaluation))
}

func (q *Quote) checkAttributes(s Setting) error {
	var errs []error
	if undue := q.attributes.undue(); undue != 0 {
		errs = append(errs, platformRefusal(refusal.Policy, "a TD that is not migratable, not watched by performance counters, without service rights "+
			"and without attributes that this program does not know", fmt.Sprintf("attribute bits %#x", uint64(undue)), nextRelaunch))
	}
	if q.mrServiceTD != s.ServiceTD {
		errs = append(errs, platformRefusal(refusal.Policy, fmt.Sprintf("a TD with MRSERVICETD %x (zero is none)", s.ServiceTD),
			fmt.Sprintf("%x", q.mrServiceTD), "launch the trust domain without service TDs, or expect this one in the policy"))
	}
	return errors.Join(errs...)
}

// checkVE demands SEPT_VE_DISABLE: without it the host can take a page of the guest away and inject #VE at any of its
// accesses.
func (q *Quote) checkVE(g Guest) error {
	if g == Paravisor || q.attributes.SEPTVEDisable() {
		return nil
	}
	return platformRefusal(refusal.Policy, "a TD with SEPT_VE_DISABLE (attribute bit 28)", fmt.Sprintf("attributes %#x", uint64(q.attributes)), nextRelaunch)
}
