// SPDX-License-Identifier: Apache-2.0

package tcg

import (
	"bytes"
	"encoding/binary"
)

// Proof says how an event's digest follows from what the log holds. Only digests are in a register, so an event
// without a proof is known by its digest alone.
type Proof uint8

// The proofs.
const (
	DigestOnly   Proof = iota // the data only describes what was measured
	WholeData                 // the digest is of the event's data
	VariableOnly              // of a variable's value; its name is not covered
	WithoutNUL                // of a string without the NUL after it
	AfterLabel                // of what follows a boot loader's label, for example "kernel_cmdline: "; the label is not covered
	CutString                 // of a UTF-16 string with its whole NUL, which the data lacks the last byte of
	TaggedData                // of the data inside an EV_EVENT_TAG; its tag is not covered
	SectionName               // of the name of a section of a unified kernel image in ASCII, which the data has in UTF-16
	RuntimeEvent              // of dstack's joined type, name and payload
)

// String says what was hashed.
func (p Proof) String() string {
	switch p {
	case DigestOnly:
		return "digest only"
	case WholeData:
		return "whole data"
	case VariableOnly:
		return "variable's value"
	case WithoutNUL:
		return "string without NUL"
	case AfterLabel:
		return "string after label"
	case CutString:
		return "string with the byte that the log lacks"
	case TaggedData:
		return "tagged data"
	case SectionName:
		return "section name"
	case RuntimeEvent:
		return "runtime event"
	}
	return "unknown"
}

// candidate is one convention of what the digest of an event may be taken over.
type candidate struct {
	proof   Proof
	content []byte
}

// prove looks for the convention by which the digest follows. That whichever convention fits is taken is safe: a
// content is shown only if its digest is the one in the register.
func (e *event) prove(a Algorithm, digest []byte) (Proof, []byte) {
	if e.runtime != nil {
		return RuntimeEvent, e.runtime.preimage
	}
	for _, c := range e.candidates() {
		if bytes.Equal(a.sum(c.content), digest) {
			return c.proof, c.content
		}
	}
	return DigestOnly, nil
}

func (e *event) candidates() []candidate {
	out := []candidate{{WholeData, e.data}}
	text, ended := bytes.CutSuffix(e.data, []byte{0})
	switch e.typ {
	case VariableBoot, VariableBoot2, VariableDriverConfig, VariableAuthority:
		if v, ok := parseVariable(e.data); ok {
			out = append(out, candidate{VariableOnly, v.Value})
		}
	case Action, EFIAction, SCRTMVersion, PostCode:
		if ended {
			out = append(out, candidate{WithoutNUL, text})
		}
	case IPL:
		out = append(out, e.loader()...)
	case EventTag:
		if tagged, ok := tagData(e.data); ok {
			out = append(out, candidate{TaggedData, tagged})
		}
	}
	return out
}

// loader gives the conventions of boot loaders. GRUB hashes a command, with or without the NUL, and logs it after a
// label; an older systemd-boot logged one byte less of the command line than it hashed; systemd-stub hashes
// the name of a section as ASCII with NUL and logs it as UTF-16.
func (e *event) loader() []candidate {
	var out []candidate
	text, ended := bytes.CutSuffix(e.data, []byte{0})
	if ended {
		out = append(out, candidate{WithoutNUL, text})
	}
	if _, rest, ok := label(text); ok {
		out = append(out, candidate{AfterLabel, rest})
		if ended {
			out = append(out, candidate{AfterLabel, e.data[len(text)-len(rest):]})
		}
	}
	// UTF-16 of a command line has zeros in it, and not only at its end.
	if len(e.data)%2 == 1 && bytes.IndexByte(text, 0) >= 0 {
		if whole := append(bytes.Clone(e.data), 0); isString16(whole) {
			out = append(out, candidate{CutString, whole})
		}
	}
	if name, ok := sectionName(e.data); ok {
		out = append(out, candidate{SectionName, append([]byte(name), 0)})
	}
	return out
}

// The labels of GRUB (grub-core/commands/tpm.c), and of Red Hat's GRUB 2.02.
const (
	labelCommand   = "grub_cmd: "
	labelKernel    = "kernel_cmdline: "
	labelModule    = "module_cmdline: "
	labelOldShell  = "grub_cmd "
	labelOldKernel = "grub_kernel_cmdline "
)

// label cuts GRUB's label from what was measured.
func label(data []byte) (string, []byte, bool) {
	for _, l := range []string{labelCommand, labelKernel, labelModule, labelOldShell, labelOldKernel} {
		if rest, ok := bytes.CutPrefix(data, []byte(l)); ok {
			return l, rest, true
		}
	}
	return "", nil, false
}

// tagData gives the data of a TCG_PCClientTaggedEvent that is alone in its event: tag, length, data.
func tagData(b []byte) ([]byte, bool) {
	if len(b) < 8 || uint64(binary.LittleEndian.Uint32(b[4:])) != uint64(len(b[8:])) {
		return nil, false
	}
	return b[8:], true
}
