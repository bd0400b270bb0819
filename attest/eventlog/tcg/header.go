// SPDX-License-Identifier: Apache-2.0

package tcg

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/kettle/attest/attest/refusal"
)

const (
	legacyHeader  = 4 + 4 + 20 + 4 // TCG_PCClientPCREvent: register, type, SHA-1 digest, length of the data
	maxAlgorithms = 8              // as many as the registry has
	specSignature = "Spec ID Event03\x00"
	specFixed     = 16 + 4 + 4 + 4 // signature, class, versions and width, count of algorithms
	specPrefix    = "Spec ID Event"
)

// cursor reads a log from its beginning and never past its end.
type cursor struct {
	rest  []byte
	event int // the number of the event being read
}

// take gives the next n bytes, without a copy.
func (c *cursor) take(n uint32, what string) ([]byte, error) {
	if uint64(n) > uint64(len(c.rest)) {
		return nil, malformed(at(c.event, "%d bytes of %s", n, what), fmt.Sprintf("%d bytes to the end of the log", len(c.rest)))
	}
	v := c.rest[:n:n]
	c.rest = c.rest[n:]
	return v, nil
}

func (c *cursor) uint32(what string) (uint32, error) {
	v, err := c.take(4, what)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(v), nil
}

// header reads the first event, the only one in the old form: it declares the algorithms of all others
// (PFP, section 10.4.5.1 "Specification ID Version Event").
func (c *cursor) header(k Kind) ([]Algorithm, error) {
	h, err := c.take(legacyHeader, "a Spec ID event")
	if err != nil {
		return nil, err
	}
	register, typ, size := binary.LittleEndian.Uint32(h), Type(binary.LittleEndian.Uint32(h[4:])), binary.LittleEndian.Uint32(h[28:])
	if typ != NoAction {
		return nil, legacy(typ)
	}
	// A TPM's log puts it at PCR 0; firmware of confidential VMs at the register which that PCR maps to.
	if last := k.header(); register > last {
		return nil, malformed(at(0, "register at most %d", last), fmt.Sprint(register))
	}
	if !zero(h[8:28]) {
		return nil, malformed(at(0, "a digest of zeros"), "another one")
	}
	spec, err := c.take(size, "a Spec ID event")
	if err != nil {
		return nil, err
	}
	return algorithms(spec)
}

// legacy refuses the log of a TPM 1.2 or of a TPM 2.0 that only has SHA-1: its first event is like all others.
func legacy(first Type) *refusal.Refusal {
	if first.pcName() == "" && first.efiName() == "" {
		return malformed("an event log, which begins with EV_NO_ACTION", fmt.Sprintf("%s first, so something else", first))
	}
	return &refusal.Refusal{
		Link: link, Code: refusal.Malformed, Want: "a crypto-agile log, which begins with EV_NO_ACTION",
		Got: fmt.Sprintf("%s first, as in a log with SHA-1 digests only", first), Next: nextBank,
	}
}

func algorithms(spec []byte) ([]Algorithm, error) {
	if len(spec) < specFixed || string(spec[:16]) != specSignature {
		return nil, &refusal.Refusal{
			Link: link, Code: refusal.Malformed, Want: at(0, "%q", specSignature),
			Got: fmt.Sprintf("%q", spec[:min(16, len(spec))]), Next: nextBank,
		}
	}
	if class := binary.LittleEndian.Uint32(spec[16:]); class > 1 {
		return nil, malformed(at(0, "platform class client (0) or server (1)"), fmt.Sprint(class))
	}
	if major := spec[21]; major != 2 {
		return nil, malformed(at(0, "version 2 of the specification"), fmt.Sprint(major))
	}
	if width := spec[23]; width != 1 && width != 2 {
		return nil, malformed(at(0, "UINTN of 4 or 8 bytes (1 or 2)"), fmt.Sprint(width))
	}
	n := binary.LittleEndian.Uint32(spec[24:])
	if n == 0 || n > maxAlgorithms {
		return nil, malformed(at(0, "1 to %d algorithms", maxAlgorithms), fmt.Sprint(n))
	}
	if rest := len(spec[specFixed:]); rest < 4*int(n)+1 {
		return nil, malformed(at(0, "%d algorithms and vendor information", n), fmt.Sprintf("%d bytes", rest))
	}
	list, vendor := spec[specFixed:specFixed+4*n], spec[specFixed+4*n:]
	if int(vendor[0]) != len(vendor)-1 {
		return nil, malformed(at(0, "%d bytes of vendor information", vendor[0]), fmt.Sprint(len(vendor)-1))
	}
	return declared(list)
}

// declared reads pairs of algorithm and digest size. The sizes decide where each event ends, so none is taken on trust.
func declared(list []byte) ([]Algorithm, error) {
	var out []Algorithm
	for ; len(list) > 0; list = list[4:] {
		a, size := Algorithm(binary.LittleEndian.Uint16(list)), int(binary.LittleEndian.Uint16(list[2:]))
		if a.Size() == 0 {
			return nil, malformed(at(0, "hash algorithms of the TCG registry"), a.String())
		}
		if size != a.Size() {
			return nil, malformed(at(0, "%d bytes for %s", a.Size(), a), fmt.Sprint(size))
		}
		if slices.Contains(out, a) {
			return nil, malformed(at(0, "each algorithm once"), a.String()+" twice")
		}
		out = append(out, a)
	}
	if !slices.ContainsFunc(out, Algorithm.Replays) {
		return nil, &refusal.Refusal{
			Link: link, Code: refusal.Malformed, Want: at(0, "SHA256, SHA384 or SHA512"),
			Got: fmt.Sprint(out), Next: nextBank,
		}
	}
	return out, nil
}

// zero reports whether b holds zeros only.
func zero(b []byte) bool { return filled(b, 0) }

// filled reports whether b holds the byte v only.
func filled(b []byte, v byte) bool { return bytes.Count(b, []byte{v}) == len(b) }
