// SPDX-License-Identifier: Apache-2.0

// Package uki writes unified kernel images (UAPI.5): systemd's EFI stub with the command line, the initrd and the kernel as
// further sections.
//
// It guarantees that an image is a function of its parts: no time, no path and no linker takes part, and the header's time
// and checksum are zero. What it wrote, [github.com/kettle/attest/image/measure/boot] reads back and predicts. It refuses
// a stub that it would have to guess about. [Sign] signs for Secure Boot and checks that the signed image is the same one.
//
// It trusts its parts, which the builder has checked by digest: that the stub is one of systemd's and does what is predicted
// of it, and that the kernel boots, is not looked at.
//
// Sources: UAPI.5 "Unified Kernel Image"; Microsoft "PE Format"; systemd src/boot/stub.c.
package uki

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Bounds of the parts, in bytes.
const (
	MaxStub    = 4 << 20
	MaxKernel  = 128 << 20
	MaxInitrd  = 768 << 20
	maxText    = 64 << 10 // command line, os-release
	maxRelease = 64       // the kernel's version: what uname has room for
)

// Parts is what an image is made of. All but Uname are required.
type Parts struct {
	Stub        []byte // systemd's linuxx64.efi.stub, without a signature
	Kernel      []byte // the kernel with its EFI stub
	Initrd      []byte
	CommandLine string // printable ASCII, without white space at its ends, NUL or newline
	OSRelease   []byte // the content of the root's /etc/os-release
	Uname       string // the kernel's version, as in /lib/modules; empty leaves the section out
}

// Build gives the image.
func Build(p Parts) ([]byte, error) {
	b, err := build(p)
	if err != nil {
		return nil, fmt.Errorf("writing a UKI: %w", err)
	}
	return b, nil
}

func build(p Parts) ([]byte, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	s, err := readStub(p.Stub)
	if err != nil {
		return nil, fmt.Errorf("the stub: %w", err)
	}
	// The order is ukify's: what is small first, the kernel last.
	add := []section{{".osrel", p.OSRelease}, {".cmdline", []byte(p.CommandLine)}}
	if p.Uname != "" {
		add = append(add, section{".uname", []byte(p.Uname)})
	}
	add = append(add, section{".initrd", p.Initrd}, section{".linux", p.Kernel})
	return s.with(add)
}

func (p Parts) validate() error {
	var faults []error
	for _, part := range []struct {
		name      string
		size, max int
	}{
		{"stub", len(p.Stub), MaxStub},
		{"kernel", len(p.Kernel), MaxKernel},
		{"initrd", len(p.Initrd), MaxInitrd},
		{"command line", len(p.CommandLine), maxText},
		{"os-release", len(p.OSRelease), maxText},
	} {
		if part.size == 0 || part.size > part.max {
			faults = append(faults, fmt.Errorf("%s: %d bytes, want 1 to %d", part.name, part.size, part.max))
		}
	}
	if !printable(p.CommandLine) {
		faults = append(faults, errors.New("command line: want printable ASCII without a space at its ends"))
	}
	if len(p.Uname) > maxRelease || (p.Uname != "" && !printable(p.Uname)) {
		faults = append(faults, errors.New("uname: want at most 64 characters of printable ASCII"))
	}
	if slices.Contains(p.OSRelease, 0) {
		faults = append(faults, errors.New("os-release: it holds a NUL"))
	}
	return errors.Join(faults...)
}

// printable reports whether s is printable ASCII without a space at its ends, which stubs treat differently.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && s[0] != ' ' && s[len(s)-1] != ' '
}

// section is one section to add. In memory it is as large as its data.
type section struct {
	name string
	data []byte
}

// with gives the stub's image with sections behind its own.
func (s *stub) with(add []section) ([]byte, error) {
	le := binary.LittleEndian
	for _, a := range add {
		if slices.Contains(s.names, a.name) {
			return nil, fmt.Errorf("the stub: it has a section %s already", a.name)
		}
	}
	room := (s.headers - s.tableEnd()) / sectionHeader
	if room < len(add) {
		return nil, fmt.Errorf("the stub: its headers have room for %d sections more, want %d", room, len(add))
	}
	size, address := len(s.body), s.imageEnd
	for _, a := range add {
		size += align(len(a.data), s.fileAlignment)
	}
	out := make([]byte, 0, size)
	out = append(out, s.body...)
	for i, a := range add {
		address = align(address, max(s.sectionAlignment, pageSize))
		raw := align(len(a.data), s.fileAlignment)
		h := out[s.tableEnd()+i*sectionHeader:][:sectionHeader]
		if slices.ContainsFunc(h, func(b byte) bool { return b != 0 }) {
			return nil, errors.New("the stub: there is something behind its table of sections")
		}
		copy(h[:8], a.name)
		le.PutUint32(h[8:], uint32(len(a.data)))   //nolint:gosec // bounded.
		le.PutUint32(h[12:], uint32(address))      //nolint:gosec // the sum of bounded sizes.
		le.PutUint32(h[16:], uint32(raw))          //nolint:gosec // bounded.
		le.PutUint32(h[20:], uint32(len(out)))     //nolint:gosec // bounded.
		le.PutUint32(h[36:], initialized|readable) // data alone: the stub copies what is to run
		out = append(out, a.data...)
		out = append(out, make([]byte, raw-len(a.data))...)
		if address += len(a.data); address > math.MaxInt32 {
			return nil, errors.New("it is larger than 2 GiB in memory")
		}
	}
	s.finish(out, len(add), address)
	return out, nil
}

// finish sets what the headers say of the whole image.
func (s *stub) finish(out []byte, added, end int) {
	le := binary.LittleEndian
	le.PutUint16(out[s.coff+2:], uint16(s.count+added))                                      //nolint:gosec // at most 96.
	le.PutUint32(out[s.coff+4:], 0)                                                          // time
	le.PutUint32(out[s.coff+8:], 0)                                                          // symbols, which are cut off
	le.PutUint32(out[s.coff+12:], 0)                                                         // number of symbols
	le.PutUint32(out[s.optional+8:], uint32(s.initializedSize+len(out)-len(s.body)))         //nolint:gosec // bounded.
	le.PutUint32(out[s.optional+56:], uint32(align(end, max(s.sectionAlignment, pageSize)))) //nolint:gosec // below 2 GiB.
	le.PutUint32(out[s.optional+64:], 0)                                                     // checksum: nobody who boots it looks at it
}

func align(n, to int) int { return (n + to - 1) / to * to }
