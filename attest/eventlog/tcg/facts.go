// SPDX-License-Identifier: Apache-2.0

package tcg

import (
	"bytes"
	"strings"
)

// SecureBoot is what the firmware measured as the state of Secure Boot.
type SecureBoot uint8

// The states. Only SecureBootOn is good news; SecureBootUnknown is no statement.
const (
	SecureBootUnknown SecureBoot = iota // not compared, not logged, or logged more than once
	SecureBootAbsent                    // the firmware has no such variable, so does not check
	SecureBootOff
	SecureBootOn
)

// String gives "unknown", "absent", "off" or "on".
func (s SecureBoot) String() string {
	switch s {
	case SecureBootAbsent:
		return "absent"
	case SecureBootOff:
		return "off"
	case SecureBootOn:
		return "on"
	case SecureBootUnknown:
	}
	return "unknown"
}

// Facts are the statements that follow from events in compared registers. What is empty was not measured, or was
// measured in registers that were not compared, or in a way that does not prove it.
type Facts struct {
	// SecureBoot stands before the separator of PCR 7 or RTMR 0, exactly once, found by its digest and not its label.
	SecureBoot SecureBoot
	// Keys are PK, KEK, db, dbx and what else follows SecureBoot directly in its register.
	Keys []Variable
	// Variables are boot variables and the authorities that signed what was started.
	Variables []Variable
	// Firmware is the version that the firmware gives itself (EV_S_CRTM_VERSION).
	Firmware string
	// CommandLines are texts that the log calls the kernel's command line. Text and register are proven; that it is a
	// command line is the word of who logged it.
	CommandLines []CommandLine
	// Sections are the parts of a unified kernel image that systemd-stub measured, in order.
	Sections []Section
	// ACPI are digests of tables that the host gives a virtual machine.
	ACPI []Measured
	// Images are Authenticode digests of programs that the firmware started, labelled with the event's type.
	Images []Measured
	// Linux are digests of the command line and the initrd that Linux's EFI stub took.
	Linux []Measured
	// Separators names for each register the event that ended the firmware's measurements.
	Separators map[int]int
	// ExitBootServices is true if PCR 5 or RTMR 1 says that the firmware's services were left with success.
	ExitBootServices bool
	// Runtime are dstack's own events.
	Runtime []Runtime
}

// CommandLine is a text that was measured as the kernel's command line.
type CommandLine struct {
	Event    int
	Register int
	By       string // "grub" or "systemd" (its stub or its boot menu), the convention by which the digest follows
	Text     string
}

// Section is a part of a unified kernel image: the name was measured, and directly after it a digest of the content.
type Section struct {
	Event    int // of the content
	Register int
	Name     string // for example ".linux"
	Digest   []byte
}

// Measured is something of which the log has the digest only. The digest and its place in the order of its register
// are proven; the label, and with it that this is such a thing at all, is the log's word. So a policy compares digests
// with reference values, and never concludes from a label that something else was not measured.
type Measured struct {
	Event    int
	Register int
	Label    string
	Digest   []byte
}

func (l *Log) facts(events []Proven, known *constants) Facts {
	var f Facts
	for i := range events {
		p := &events[i]
		f.variable(p)
		f.commandLine(l.kind, p)
		if p.Type == SCRTMVersion && p.Proof == WholeData && p.BeforeSeparator && l.kind == TPM && p.Register == 0 && f.Firmware == "" {
			f.Firmware, _ = string16(p.Content)
		}
		f.measured(l.kind, p)
	}
	// The firmware measures Secure Boot into PCR 7 and its exit into PCR 5; UEFI 2.10 section 38.4.1 maps PCR 1 and 7
	// to RTMR 0, PCR 2 to 6 to RTMR 1, PCR 8 to 15 to RTMR 2.
	secure, exit, image := 7, 5, 11
	if l.kind != TPM {
		secure, exit, image = 0, 1, 2
	}
	f.secureBoot(of(events, secure), known)
	f.ExitBootServices = exited(of(events, exit), known)
	l.sections(&f, of(events, image))
	l.runtimes(&f, events)
	return f
}

// of gives the events of one register: the only order that a register proves.
func of(events []Proven, register int) []*Proven {
	var out []*Proven
	for i := range events {
		if events[i].Register == register {
			out = append(out, &events[i])
		}
	}
	return out
}

// secureBoot finds the one event that says the state. The host of a virtual machine gives it data that is measured
// into the same register, so could have the state measured a second time under another label; two statements are none.
func (f *Facts) secureBoot(events []*Proven, known *constants) {
	place := -1
	for i, p := range events {
		state, is := known.secureBootState(p.Digest)
		if !is || !p.BeforeSeparator {
			continue
		}
		if place >= 0 {
			f.SecureBoot = SecureBootUnknown
			return
		}
		f.SecureBoot, place = state, i
	}
	if place < 0 {
		return
	}
	for _, p := range events[place+1:] {
		if !p.BeforeSeparator || p.Type != VariableDriverConfig || p.Proof != WholeData {
			return
		}
		v, ok := p.variable()
		if !ok {
			return
		}
		f.Keys = append(f.Keys, v)
	}
}

// exited reports whether leaving the firmware was begun and afterwards said to have succeeded.
func exited(events []*Proven, known *constants) bool {
	invoked := false
	for _, p := range events {
		if bytes.Equal(p.Digest, known.exitInvoked) {
			invoked = true
		}
		if invoked && bytes.Equal(p.Digest, known.exitReturned) {
			return true
		}
	}
	return false
}

// variable reads the variable out of what is proven.
func (p *Proven) variable() (Variable, bool) {
	v := Variable{Value: p.Content}
	if p.Proof == WholeData {
		var ok bool
		if v, ok = parseVariable(p.Content); !ok {
			return Variable{}, false
		}
	}
	v.Event, v.Register, v.Type, v.BeforeSeparator = p.Number, p.Register, p.Type, p.BeforeSeparator
	return v, true
}

func (f *Facts) variable(p *Proven) {
	if p.Type != VariableBoot && p.Type != VariableBoot2 && p.Type != VariableAuthority ||
		p.Proof != WholeData && p.Proof != VariableOnly {
		return
	}
	if v, ok := p.variable(); ok {
		f.Variables = append(f.Variables, v)
	}
}

// commandLine takes GRUB's strings with its label, and UTF-16 strings of systemd-stub and systemd-boot: EV_IPL in
// PCR 12 (8 before systemd 251). GRUB uses PCR 8. Both are RTMR 2 in a confidential VM.
func (f *Facts) commandLine(k Kind, p *Proven) {
	line := CommandLine{Event: p.Number, Register: p.Register}
	grub, stub := p.Register == 8, p.Register == 8 || p.Register == 12
	if k != TPM {
		grub, stub = p.Register == 2, p.Register == 2
	}
	switch {
	case p.Type != IPL:
		return
	case p.Proof == AfterLabel && grub && kernelLabel(p.source.data):
		line.By, line.Text = "grub", strings.TrimSuffix(string(p.Content), "\x00")
	case (p.Proof == WholeData || p.Proof == CutString) && stub:
		text, ok := string16(p.Content)
		if !ok {
			return
		}
		line.By, line.Text = "systemd", text
	default:
		return
	}
	f.CommandLines = append(f.CommandLines, line)
}

// kernelLabel reports whether GRUB labelled what it measured as the kernel's command line.
func kernelLabel(data []byte) bool {
	l, _, _ := label(data)
	return l == labelKernel || l == labelOldKernel
}
