// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"errors"
	"fmt"

	"github.com/kettle/attest/attest/refusal"
)

// The links of the chain, in the order in which they are checked.
const (
	linkArtifact    = "artifact"
	linkProvenance  = "provenance"
	linkSignature   = "signature"
	linkResponse    = "response"
	linkQuote       = "quote"
	linkBinding     = "binding"
	linkImage       = "image"
	linkMeasurement = "measurement"
	linkEventLog    = "event-log"
	linkDispatch    = "dispatch"
	linkBoot        = "boot"
	linkAdmission   = "admission"
	linkToken       = "token"
	linkIdentity    = "identity"
)

// Status says how far the check of a link came.
type Status string

// The statuses of a link.
const (
	OK          Status = "ok"
	Failed      Status = "failed"
	NotReached  Status = "not-reached"  // an earlier link failed
	NotRequired Status = "not-required" // there is nothing to check, and the policy says in words that this is accepted
)

// Link is one link of the chain as it was found.
type Link struct {
	Name   string `json:"link"`
	Status Status `json:"status"`
	Value  string `json:"value,omitempty"`  // what the link says, when it holds
	Source string `json:"source,omitempty"` // where that comes from
}

// Trace is every link of the chain, in order.
type Trace []Link

// Unreached gives every link before any of them was checked.
func Unreached() Trace { return newTrace() }

func newTrace() Trace {
	t := Trace{}
	for _, name := range []string{
		linkArtifact, linkProvenance, linkSignature, linkResponse, linkQuote, linkBinding, linkImage, linkMeasurement, linkEventLog,
		linkDispatch, linkBoot, linkAdmission, linkToken, linkIdentity,
	} {
		t = append(t, Link{Name: name, Status: NotReached})
	}
	return t
}

// held counts the links that hold.
func (t Trace) held() int {
	n := 0
	for _, l := range t {
		if l.Status == OK || l.Status == NotRequired {
			n++
		}
	}
	return n
}

func (t Trace) fail(name string) { t.set(Link{Name: name, Status: Failed}) }

func (t Trace) set(l Link) {
	for i := range t {
		if t[i].Name == l.Name {
			t[i] = l
		}
	}
}

// relink names the link of the chain in every refusal of err: packages below know only their own part. The prefix says
// which statement or quote is meant, where the link has several.
func relink(name, prefix string, err error) error {
	all := refusal.All(err)
	if len(all) == 0 {
		return fmt.Errorf("checking %s: %w", name, err)
	}
	errs := make([]error, len(all))
	for i, r := range all {
		moved := *r
		moved.Link, moved.Want = name, prefix+r.Want
		errs[i] = &moved
	}
	return errors.Join(errs...)
}

// refuse makes a refusal of the chain itself; its link is set by the step that returns it.
func refuse(code refusal.Code, want, got, next string) *refusal.Refusal {
	return &refusal.Refusal{Code: code, Want: want, Got: got, Next: next}
}

// The advice that fits most broken links.
const (
	nextAltered = "the bundle was altered or mixed from several builds; take it again from where the runner stored it"
	nextWhole   = "take the whole bundle file that the runner wrote; parts of it are missing"
)

// claim is one value that has to be equal in two places.
type claim struct{ name, want, got string }

// agree joins a refusal for each claim that differs.
func agree(code refusal.Code, claims ...claim) error {
	var errs []error
	for _, c := range claims {
		if c.want != c.got {
			errs = append(errs, refuse(code, fmt.Sprintf("%s %q", c.name, c.want), fmt.Sprintf("%q", clip(c.got)), nextAltered))
		}
	}
	return errors.Join(errs...)
}

// clip bounds a foreign string before it is printed.
func clip(s string) string {
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}
