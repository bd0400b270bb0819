// SPDX-License-Identifier: Apache-2.0

package tcg

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/kettle/attest/attest/refusal"
)

// Account is what a log says about registers that have the values which it gives them. It exists only after
// [Log.Match], and holds nothing of the registers that were not compared. It is immutable.
type Account struct {
	kind    Kind
	alg     Algorithm
	covered []int
	events  []Proven
	facts   Facts
}

// Proven is an event whose digest is in a register.
type Proven struct {
	Event
	// Proof says how the digest follows from Content.
	Proof Proof
	// Content is what was measured, nil if the log does not hold it or holds something else.
	Content []byte
	// BeforeSeparator is true for what the register took in before its first separator, so by the firmware. Registers
	// without a separator have no such events.
	BeforeSeparator bool

	source *event // with the data that nothing proves
}

// Match compares registers with the log. The keys are PCR or RTMR numbers, the values those of a verified quote in
// algorithm a (SHA-384 for RTMRs). Every register named must have the value that the log gives it; for one that the
// log never extends that is the value from before the first extension. At least one must be extended by the log.
//
// Refusals: missing (no registers, or no digests in a), malformed (no such register, or a value of the wrong length),
// event-log-mismatch (one for each register that differs, the lowest first), measurement (the firmware logged that it
// could not measure).
func (l *Log) Match(a Algorithm, registers map[int][]byte) (*Account, error) {
	if len(registers) == 0 {
		return nil, missing("registers to compare the log with", "none", nextQuote)
	}
	replayed, err := l.Replay(a)
	if err != nil {
		return nil, err
	}
	order := slices.Sorted(maps.Keys(registers))
	var faults []error
	covered := false
	for _, r := range order {
		covered = covered || replayed[r] != nil
		if err := l.compare(a, r, registers[r], replayed[r]); err != nil {
			faults = append(faults, err)
		}
	}
	if !covered {
		faults = append(faults, mismatch("an event of a register that is compared", fmt.Sprintf("events of registers %v only", l.Registers())))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return l.account(a, order)
}

func (l *Log) compare(a Algorithm, register int, quoted, value []byte) error {
	extended := value != nil
	if !extended {
		value = l.untouched(a, register)
	}
	name := l.kind.Register(register)
	if register < 0 || register > l.kind.last() {
		return &refusal.Refusal{
			Link: link, Code: refusal.Malformed, Want: "registers from " + l.kind.Register(0) + " to " + l.kind.Register(l.kind.last()),
			Got: name, Next: nextQuote,
		}
	}
	if len(quoted) != len(value) {
		return &refusal.Refusal{
			Link: link, Code: refusal.Malformed, Want: fmt.Sprintf("%s of %d bytes", name, len(value)),
			Got: fmt.Sprintf("%d bytes", len(quoted)), Next: nextQuote,
		}
	}
	if bytes.Equal(quoted, value) {
		return nil
	}
	got := fmt.Sprintf("%x after all events of the log", value)
	if !extended {
		got = "no event of it in the log"
	} else if number, early := l.reaches(a, register, quoted); early {
		got += fmt.Sprintf("; the quoted value is the one before event %d", number)
	}
	return mismatch(fmt.Sprintf("%s %x, as quoted", name, quoted), got)
}

// reaches finds the event of a register before which it has the value: the log then goes on where the quote ends, so
// the quote is the older of the two.
func (l *Log) reaches(a Algorithm, register int, value []byte) (int, bool) {
	current := l.reset(a, register)
	for i := range l.events {
		e := &l.events[i]
		if !e.extends() || e.register != register {
			continue
		}
		if bytes.Equal(current, value) {
			return e.number, true
		}
		current = a.sum(current, e.digest(a))
	}
	return 0, false
}

// account looks into the events of compared registers.
func (l *Log) account(a Algorithm, order []int) (*Account, error) {
	known := newConstants(a)
	first, err := l.separators(a, order, &known)
	if err != nil {
		return nil, err
	}
	out := &Account{kind: l.kind, alg: a, covered: order}
	for i := range l.events {
		e := &l.events[i]
		if !e.extends() || !slices.Contains(order, e.register) {
			continue
		}
		end, separated := first[e.register]
		p := Proven{Event: e.public(a), BeforeSeparator: separated && e.number < end, source: e}
		p.Proof, p.Content = e.prove(a, e.digest(a))
		out.events = append(out.events, p)
	}
	out.facts = l.facts(out.events, &known)
	out.facts.Separators = first
	return out, nil
}

// separators finds the first separator of each register, and refuses one that stands for an error: the firmware could
// not measure what it started (PFP, section 10.4.1, EV_SEPARATOR). An error's digest under another label is no
// separator, so its register has none, and nothing in it counts as the firmware's.
func (l *Log) separators(a Algorithm, order []int, known *constants) (map[int]int, error) {
	first := map[int]int{}
	for i := range l.events {
		e := &l.events[i]
		if !e.extends() || !slices.Contains(order, e.register) {
			continue
		}
		digest := e.digest(a)
		if e.typ == Separator && bytes.Equal(digest, known.separatorError) {
			return nil, &refusal.Refusal{
				Link: link, Code: refusal.Measurement, Want: "measurements that ended without an error",
				Got: at(e.number, "the separator of an error in %s", l.kind.Register(e.register)), Next: nextHealthy,
			}
		}
		if _, ended := first[e.register]; !ended && known.separator(digest) {
			first[e.register] = e.number
		}
	}
	return first, nil
}

// Kind says which registers the account is about.
func (a *Account) Kind() Kind { return a.kind }

// Algorithm gives the algorithm of the digests.
func (a *Account) Algorithm() Algorithm { return a.alg }

// Covered gives the registers that were compared, ascending, those without events included.
func (a *Account) Covered() []int { return slices.Clone(a.covered) }

// Events gives the events of the compared registers in the log's order, which between registers is the log's word.
func (a *Account) Events() []Proven {
	out := slices.Clone(a.events)
	for i := range out {
		out[i].Digest, out[i].Content = bytes.Clone(out[i].Digest), bytes.Clone(out[i].Content)
	}
	return out
}

// Facts gives what the events say, in words. Its slices belong to the account and must not be changed.
func (a *Account) Facts() Facts { return a.facts }
