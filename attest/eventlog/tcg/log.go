// SPDX-License-Identifier: Apache-2.0

package tcg

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// Kind says which registers a log belongs to, and in which format it came.
type Kind uint8

// The kinds of logs.
const (
	TPM    Kind = iota + 1 // a TPM's log; registers are PCR 0 to 23
	CC                     // a confidential VM's log; registers are RTMR 0 to 3, SHA-384
	Dstack                 // dstack's JSON; registers are RTMR 0 to 3, SHA-384
)

const (
	lastPCR    = 23
	lastRTMR   = 3
	noRegister = -1 // measurement register 0 of UEFI 2.10 is the MRTD, which nothing extends
)

// String gives "tpm", "ccel" or "dstack".
func (k Kind) String() string {
	switch k {
	case TPM:
		return "tpm"
	case CC:
		return "ccel"
	case Dstack:
		return "dstack"
	}
	return "unknown"
}

// Register gives a register's name for people, for example "PCR 7" or "RTMR 0".
func (k Kind) Register(n int) string {
	if k == TPM {
		return fmt.Sprintf("PCR %d", n)
	}
	return fmt.Sprintf("RTMR %d", n)
}

func (k Kind) last() int {
	if k == TPM {
		return lastPCR
	}
	return lastRTMR
}

// header gives the highest index that the Spec ID event may name.
func (k Kind) header() uint32 {
	if k == TPM {
		return 0
	}
	return 1
}

// register maps the index in the log to a PCR or RTMR.
func (k Kind) register(t Type, index uint32, number int) (int, error) {
	lowest, highest := uint32(0), uint32(lastPCR)
	if k == CC {
		highest = lastRTMR + 1
		if t != NoAction {
			lowest = 1
		}
	}
	if index < lowest || index > highest {
		return 0, malformed(at(number, "register index %d to %d", lowest, highest), fmt.Sprint(index))
	}
	if k == CC {
		return int(index) - 1, nil
	}
	return int(index), nil
}

// event is one event as the log has it. Its slices point into the bytes of the log.
type event struct {
	number   int
	register int
	typ      Type
	digests  []byte // TPML_DIGEST_VALUES without the count: algorithm and digest, each declared algorithm once
	data     []byte
	name     string   // dstack's name for it, else empty
	runtime  *runtime // dstack's own events only
}

func (e event) extends() bool { return e.typ != NoAction }

// digest gives the digest of one algorithm, without a copy, or nil.
func (e *event) digest(a Algorithm) []byte {
	for d := e.digests; len(d) > 2; {
		id := Algorithm(binary.LittleEndian.Uint16(d))
		end := 2 + id.Size()
		if id == a {
			return d[2:end:end]
		}
		d = d[end:]
	}
	return nil
}

// Log is a log of the right form. What it says is proven by nothing yet; [Log.Match] compares it with registers.
// It keeps the bytes that it was parsed from, which must not change while it is used. It is immutable, so safe for
// concurrent use.
type Log struct {
	kind     Kind
	algs     []Algorithm
	events   []event
	size     int
	locality byte
}

// Event is one event without its data, for people who look for the place where a log and a register part.
type Event struct {
	Number   int    // the place in the log; the Spec ID event is 0
	Register int    // PCR or RTMR, -1 for an event that names the MRTD
	Type     Type   // the log's word
	Extends  bool   // false for EV_NO_ACTION
	Digest   []byte // in the algorithm asked for, nil if the log has none
}

// RTMRs gives the four run-time measurement registers of a quote the form that [Log.Match] takes.
func RTMRs(values [4][48]byte) map[int][]byte {
	out := map[int][]byte{}
	for i, v := range values {
		out[i] = bytes.Clone(v[:])
	}
	return out
}

// Kind says which registers the log belongs to.
func (l *Log) Kind() Kind { return l.kind }

// Algorithms gives the algorithms of the log's digests, in its order.
func (l *Log) Algorithms() []Algorithm { return slices.Clone(l.algs) }

// Events gives every event with its digest in algorithm a. Nothing in it is proven; see [Log.Match].
func (l *Log) Events(a Algorithm) []Event {
	out := make([]Event, len(l.events))
	for i := range l.events {
		out[i] = l.events[i].public(a)
	}
	return out
}

func (e *event) public(a Algorithm) Event {
	return Event{
		Number: e.number, Register: e.register, Type: e.typ, Extends: e.extends(), Digest: bytes.Clone(e.digest(a)),
	}
}

// Registers gives the registers that the log extends, ascending. Which registers to compare is for a policy to say,
// not for the log: a log from which all events of a register were taken does not name it here.
func (l *Log) Registers() []int {
	var out []int
	for i := range l.events {
		if e := &l.events[i]; e.extends() && !slices.Contains(out, e.register) {
			out = append(out, e.register)
		}
	}
	slices.Sort(out)
	return out
}

// Replay gives the value that each register of [Log.Registers] has after all events, in algorithm a. It refuses an
// algorithm that the log does not have (missing), or that is not of the SHA-2 family.
func (l *Log) Replay(a Algorithm) (map[int][]byte, error) {
	if !a.Replays() || !slices.Contains(l.algs, a) {
		return nil, missing(fmt.Sprintf("digests of %s", a), fmt.Sprint(l.algs), nextBank)
	}
	h := a.hash()
	out := map[int][]byte{}
	for i := range l.events {
		e := &l.events[i]
		if !e.extends() {
			continue
		}
		value, begun := out[e.register]
		if !begun {
			value = l.reset(a, e.register)
			out[e.register] = value
		}
		h.Reset()
		h.Write(value)
		h.Write(e.digest(a))
		h.Sum(value[:0])
	}
	return out, nil
}

// reset gives the value from which the events of a register begin. PCR 0 begins with the locality of the start. PCRs
// 17 to 22 are set to zeros by the dynamic launch that then extends them (PFP, section 3.3.4, table 1).
func (l *Log) reset(a Algorithm, register int) []byte {
	value := make([]byte, a.Size())
	if l.kind == TPM && register == 0 {
		value[len(value)-1] = l.locality
	}
	return value
}

// untouched gives the value of a register that nothing extended since the machine started: ones for the PCRs of a
// dynamic launch that never happened, else zeros.
func (l *Log) untouched(a Algorithm, register int) []byte {
	value := l.reset(a, register)
	if l.kind == TPM && register >= 17 && register <= 22 {
		for i := range value {
			value[i] = 0xff
		}
	}
	return value
}
