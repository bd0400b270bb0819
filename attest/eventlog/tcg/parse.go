// SPDX-License-Identifier: Apache-2.0

package tcg

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// MaxSize bounds a log in bytes, and MaxEvents its events.
const (
	MaxSize   = 16 << 20
	MaxEvents = 1 << 16
)

const (
	eventFixed      = 4 + 4 + 4 // TCG_PCR_EVENT2: register, type, count of digests
	localityName    = "StartupLocality\x00"
	localityRegular = 0 // PCR 0 begins with zeros
	localityThree   = 3 // TPM2_Startup at locality 3
	localityHCRTM   = 4 // a hardware root of trust measured first
)

// ParseTPM reads the log of a TPM as Linux shows it in /sys/kernel/security/tpm0/binary_bios_measurements: a Spec ID
// event and TCG_PCR_EVENT2 structures to the very last byte (PFP, section 10.2). A log with SHA-1 digests only is
// refused. Errors are refusals with code malformed.
func ParseTPM(b []byte) (*Log, error) { return parse(b, TPM) }

// ParseCC reads the log of a confidential VM as Linux shows it in /sys/firmware/acpi/tables/data/CCEL: the format of a
// TPM's log with register indexes one above the RTMR's, filled with 0xFF or zeros to the size of its area
// (UEFI 2.10, section 38.2.4). Errors are refusals with code malformed.
func ParseCC(b []byte) (*Log, error) { return parse(b, CC) }

// ParseRTMR reads a log of run-time measurement registers, [ParseDstack] if it is JSON and [ParseCC] if not.
func ParseRTMR(b []byte) (*Log, error) {
	if text := bytes.TrimLeft(b, " \t\r\n"); len(text) > 0 && (text[0] == '[' || text[0] == '{') {
		return ParseDstack(b)
	}
	return ParseCC(b)
}

func parse(b []byte, k Kind) (*Log, error) {
	if err := bounded(b); err != nil {
		return nil, err
	}
	c := &cursor{rest: b}
	algs, err := c.header(k)
	if err != nil {
		return nil, err
	}
	l := &Log{kind: k, algs: algs}
	for c.event = 1; len(c.rest) > 0; c.event++ {
		if k == CC {
			end, err := c.filled()
			if err != nil {
				return nil, err
			}
			if end {
				break
			}
		}
		if err := l.add(c); err != nil {
			return nil, err
		}
	}
	l.size = len(b) - len(c.rest)
	return l.finish()
}

// Size gives how many of the parsed bytes are the log; the rest is the fill of its area. All of them, for [Dstack].
func (l *Log) Size() int { return l.size }

func bounded(b []byte) error {
	if len(b) == 0 {
		return missing("an event log", "no bytes", nextWhole)
	}
	if len(b) > MaxSize {
		return malformed(fmt.Sprintf("at most %d bytes", MaxSize), fmt.Sprint(len(b)))
	}
	return nil
}

// filled reports whether the log ends here and only the fill of its area follows. No event can begin with as many
// zeros or 0xFF as the fixed part of an event has bytes: it would have no digest, or the register 0xFFFFFFFF.
func (c *cursor) filled() (bool, error) {
	head := c.rest[:min(eventFixed, len(c.rest))]
	if head[0] != 0 && head[0] != 0xff || !filled(head, head[0]) {
		return false, nil
	}
	if !filled(c.rest, head[0]) {
		return false, malformed(at(c.event, "an event, or nothing but fill after the last one"), "other bytes after fill")
	}
	return true, nil
}

// add reads one TCG_PCR_EVENT2.
func (l *Log) add(c *cursor) error {
	h, err := c.take(eventFixed, "an event")
	if err != nil {
		return err
	}
	e := event{
		number: c.event, typ: Type(binary.LittleEndian.Uint32(h[4:])),
	}
	if e.register, err = l.kind.register(e.typ, binary.LittleEndian.Uint32(h), c.event); err != nil {
		return err
	}
	if e.digests, err = l.digests(c, binary.LittleEndian.Uint32(h[8:])); err != nil {
		return err
	}
	size, err := c.uint32("the length of an event's data")
	if err != nil {
		return err
	}
	if e.data, err = c.take(size, "an event's data"); err != nil {
		return err
	}
	return l.append(e)
}

// digests reads as many digests as algorithms were declared, each algorithm once (PFP, section 10.2.2: an event has
// a digest for every active bank). An event without a digest of some bank would be invisible to that bank's replay.
func (l *Log) digests(c *cursor, n uint32) ([]byte, error) {
	if uint64(n) != uint64(len(l.algs)) {
		return nil, malformed(at(c.event, "%d digests, as declared", len(l.algs)), fmt.Sprint(n))
	}
	begin := c.rest
	var seen [maxAlgorithms]bool
	for range n {
		id, err := c.take(2, "an algorithm")
		if err != nil {
			return nil, err
		}
		a := Algorithm(binary.LittleEndian.Uint16(id))
		i := slices.Index(l.algs, a)
		if i < 0 || seen[i] {
			return nil, malformed(at(c.event, "each of %v once", l.algs), a.String())
		}
		seen[i] = true
		if _, err := c.take(uint32(a.Size()), "a digest"); err != nil { //nolint:gosec // a hash has at most 64 bytes.
			return nil, err
		}
	}
	read := len(begin) - len(c.rest)
	return begin[:read:read], nil
}

// append adds an event after the checks that need the ones before it.
func (l *Log) append(e event) error {
	if len(l.events) >= MaxEvents {
		return malformed(fmt.Sprintf("at most %d events", MaxEvents), "more")
	}
	if e.typ == NoAction {
		if err := l.noAction(&e); err != nil {
			return err
		}
	}
	l.events = append(l.events, e)
	return nil
}

// noAction refuses the events that would change what the others mean. All others of EV_NO_ACTION say nothing: no
// register covers them.
func (l *Log) noAction(e *event) error {
	if bytes.HasPrefix(e.data, []byte(specPrefix)) {
		return malformed(at(e.number, "one Spec ID event, the first"), "another one")
	}
	if l.kind != TPM || !bytes.HasPrefix(e.data, []byte(localityName)) {
		return nil
	}
	return l.startup(e)
}

// startup reads the locality at which the TPM was started: PCR 0 begins with it (PFP, section 10.4.5.3).
func (l *Log) startup(e *event) error {
	if e.register != 0 || len(e.data) != len(localityName)+1 {
		return malformed(at(e.number, "a StartupLocality of one byte at PCR 0"),
			fmt.Sprintf("%d bytes at PCR %d", len(e.data)-len(localityName), e.register))
	}
	if slices.ContainsFunc(l.events, func(o event) bool {
		return o.register == 0 && (o.extends() || bytes.HasPrefix(o.data, []byte(localityName)))
	}) {
		return malformed(at(e.number, "one StartupLocality before PCR 0 is extended"), "another one, or a late one")
	}
	switch v := e.data[len(localityName)]; v {
	case localityRegular, localityThree, localityHCRTM:
		l.locality = v
		return nil
	default:
		return malformed(at(e.number, "StartupLocality 0, 3 or 4"), fmt.Sprint(v))
	}
}

// finish refuses a log in which nothing happened: it would match registers that nothing extended.
func (l *Log) finish() (*Log, error) {
	if !slices.ContainsFunc(l.events, event.extends) {
		return nil, missing("an event that extends a register", "none in the log", nextWhole)
	}
	return l, nil
}
