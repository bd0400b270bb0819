// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"bytes"
	"crypto"
	_ "crypto/sha256" // crypto.SHA256
	_ "crypto/sha512" // crypto.SHA384
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"

	"github.com/kettle/attest/image/measure/pe"
)

// Target is what holds the registers.
type Target int

// The targets.
const (
	TPM Target = iota + 1 // a TPM 2.0 and its SHA-256 bank
	TDX                   // a trust domain and its RTMRs, which are SHA-384
)

func (t Target) hash() (crypto.Hash, error) {
	switch t {
	case TPM:
		return crypto.SHA256, nil
	case TDX:
		return crypto.SHA384, nil
	}
	return 0, fmt.Errorf("unknown target %d", int(t))
}

// The PCRs that events go to, and what they are for (UAPI.7 "Linux TPM PCR Registry").
const (
	pcrBootLoader       = 4
	pcrBootLoaderConfig = 5
	pcrKernelInitrd     = 9
	pcrKernelBoot       = 11
	pcrKernelConfig     = 12
)

// Event is one measurement.
type Event struct {
	PCR    int    // where a TPM puts it; [Log.RTMR] says where a trust domain does
	Name   string // what is measured, for people
	Digest []byte // 32 bytes for [TPM], 48 for [TDX]
}

// Log is the measurements of one boot in their order.
type Log struct {
	target Target
	hash   crypto.Hash
	events []Event
}

func newLog(t Target) (*Log, error) {
	hash, err := t.hash()
	if err != nil {
		return nil, err
	}
	return &Log{target: t, hash: hash}, nil
}

// Events gives the events in their order.
func (l *Log) Events() []Event { return l.events }

// PCR gives what the SHA-256 bank of a TPM holds after the boot: 4, 9, 11 or 12, the ones that the image determines.
func (l *Log) PCR(index int) ([32]byte, error) {
	switch {
	case l.target != TPM:
		return [32]byte{}, errors.New("reading a PCR: the boot was not predicted for a TPM")
	case index != pcrBootLoader && index != pcrKernelInitrd && index != pcrKernelBoot && index != pcrKernelConfig:
		return [32]byte{}, fmt.Errorf("reading a PCR: %d does not depend on the image alone", index)
	}
	return [32]byte(l.fold(func(e Event) bool { return e.PCR == index })), nil
}

// RTMR gives what a run-time measurement register of a trust domain holds after the boot: 1, which has PCRs 2 to 6, or 2,
// which has PCRs 8 to 15.
func (l *Log) RTMR(index int) ([48]byte, error) {
	if l.target != TDX {
		return [48]byte{}, errors.New("reading an RTMR: the boot was not predicted for a trust domain")
	}
	switch index {
	case 1:
		return [48]byte(l.fold(func(e Event) bool { return e.PCR >= 2 && e.PCR <= 6 })), nil
	case 2:
		return [48]byte(l.fold(func(e Event) bool { return e.PCR >= 8 && e.PCR <= 15 })), nil
	}
	return [48]byte{}, fmt.Errorf("reading an RTMR: %d does not depend on the image alone", index)
}

// fold extends a register of zeros by the events that are chosen: new = H(old || digest).
func (l *Log) fold(chosen func(Event) bool) []byte {
	register := make([]byte, l.hash.Size())
	for _, e := range l.events {
		if !chosen(e) {
			continue
		}
		h := l.hash.New()
		h.Write(register)
		h.Write(e.Digest)
		register = h.Sum(register[:0])
	}
	return register
}

// data records a measurement of bytes.
func (l *Log) data(pcr int, name string, b []byte) {
	h := l.hash.New()
	h.Write(b)
	l.events = append(l.events, Event{pcr, name, h.Sum(nil)})
}

// image records that firmware loads a program, by its Authenticode digest.
func (l *Log) image(name string, m *pe.Image) {
	l.events = append(l.events, Event{pcrBootLoader, name, m.Authenticode(l.hash.New())})
}

// readyToBoot records that the boot manager has finished: the action, and the separator before it hands over.
func (l *Log) readyToBoot() {
	l.data(pcrBootLoader, "calling the boot option", []byte("Calling EFI Application from Boot Option"))
	l.data(pcrBootLoader, "separator", make([]byte, 4))
}

// exitBootServices records that the kernel takes over.
func (l *Log) exitBootServices() {
	l.data(pcrBootLoaderConfig, "exit of boot services", []byte("Exit Boot Services Invocation"))
	l.data(pcrBootLoaderConfig, "exit of boot services, success", []byte("Exit Boot Services Returned with Success"))
}

// loadOptions gives a command line as a program gets it from firmware: UTF-16, little-endian, with the NUL.
func loadOptions(line string) []byte {
	var b bytes.Buffer
	for _, unit := range append(utf16.Encode([]rune(line)), 0) {
		_ = binary.Write(&b, binary.LittleEndian, unit) // a Buffer takes everything
	}
	return b.Bytes()
}

// maxCommandLine bounds a command line, in bytes; the kernel keeps 2047.
const maxCommandLine = 64 << 10

// checkCommandLine refuses what loaders change each in their own way.
func checkCommandLine(line string) error {
	if line == "" {
		return &UnsupportedError{"a boot without a command line is not modelled"}
	}
	if len(line) > maxCommandLine {
		return fmt.Errorf("a command line of %d bytes, at most %d are allowed", len(line), maxCommandLine)
	}
	for i := range len(line) {
		if line[i] < ' ' || line[i] > '~' {
			return &UnsupportedError{fmt.Sprintf("a command line with the byte %#02x is not modelled", line[i])}
		}
	}
	return nil
}

// UnsupportedError says that an input is sound but that its measurements are not modelled here.
type UnsupportedError struct{ Reason string }

// Error gives the reason.
func (e *UnsupportedError) Error() string { return e.Reason }

// Unsupported tells this error from a fault of an input.
func (e *UnsupportedError) Unsupported() bool { return true }
