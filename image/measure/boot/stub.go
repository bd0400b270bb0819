// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/kettle/attest/image/measure/pe"
)

// The versions of systemd-stub that are modelled. 253 is left out because what it measures of .uname is not certain, 260 and
// later because they add a boot secret of the machine and a console to what the kernel measures.
const (
	oldestStub  = 252
	missingStub = 253
	newestStub  = 259
)

// stubSection is a section that systemd-stub knows.
type stubSection struct {
	name          string
	since         int  // the first version that knows it
	measuredSince int  // the first version that measures it; 0 for a section that is never measured
	machine       bool // which one is used depends on the machine
}

func (s stubSection) measured() bool { return s.measuredSince != 0 }

// stubSections lists the sections in the order of measurement, which is not that of the file (systemd src/fundamental/uki.h).
func stubSections() []stubSection {
	return []stubSection{
		{".linux", 252, 252, false},
		{".osrel", 252, 252, false},
		{".cmdline", 252, 252, false},
		{".initrd", 252, 252, false},
		{".ucode", 256, 256, false},
		{".splash", 252, 252, false},
		{".dtb", 252, 252, false},
		{".uname", 252, 254, false}, // written by ukify before stubs looked at it
		{".sbat", 252, 254, false},  // the stub's own, measured later
		{".pcrsig", 252, 0, false},  // signs the measurement, so is no part of it
		{".pcrpkey", 252, 252, false},
		{".profile", 257, 257, false},
		{".dtbauto", 257, 257, true},
		{".hwids", 257, 257, true},
		{".efifw", 258, 258, true},
	}
}

// stub is a UKI as its systemd-stub sees it, booted without load options: the default profile.
type stub struct {
	version  int
	sections map[string][]byte // what is in memory; empty sections are absent
}

func readStub(m *pe.Image) (*stub, error) {
	version, err := stubVersion(m)
	if err != nil {
		return nil, err
	}
	s := &stub{version: version, sections: map[string][]byte{}}
	if err := s.read(m); err != nil {
		return nil, err
	}
	if s.sections[".linux"] == nil {
		return nil, errNoKernel
	}
	return s, nil
}

// stubVersion reads the version out of the stub's mark, as "#### LoaderInfo: systemd-stub 257.9-1 ####".
func stubVersion(m *pe.Image) (int, error) {
	for _, section := range m.Sections() {
		if section.Name != ".sdmagic" {
			continue
		}
		text, ok := strings.CutPrefix(string(section.Data), "#### LoaderInfo: systemd-stub ")
		digits := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
		if !ok || digits < 1 {
			return 0, &UnsupportedError{fmt.Sprintf("the image's loader is no systemd-stub: %.60q", section.Data)}
		}
		version, err := strconv.Atoi(text[:digits])
		if err != nil || version < oldestStub || version > newestStub || version == missingStub {
			return 0, &UnsupportedError{fmt.Sprintf("systemd-stub %.20s is not modelled: want %d or %d to %d", text[:digits], oldestStub, missingStub+1, newestStub)}
		}
		return version, nil
	}
	return 0, &UnsupportedError{"the image has no .sdmagic section: its loader is no systemd-stub"}
}

// read collects the sections: those before the first .profile, then those of the first profile, which replace them.
func (s *stub) read(m *pe.Image) error {
	known := map[string]stubSection{}
	for _, c := range stubSections() {
		known[c.name] = c
	}
	profiles := 0
	seen := map[string]bool{}
	for _, section := range m.Sections() {
		if section.Name == ".profile" {
			profiles++
			seen = map[string]bool{}
		}
		if profiles > 1 {
			break // the sections of other profiles
		}
		c, ok := known[section.Name]
		if !ok || section.VirtualSize == 0 {
			continue
		}
		switch {
		case s.version < c.since || c.machine:
			return &UnsupportedError{fmt.Sprintf("section %s with systemd-stub %d is not modelled", c.name, s.version)}
		case seen[c.name]:
			return fmt.Errorf("section %s is there twice", c.name)
		}
		content, err := section.Memory()
		if err != nil {
			return err
		}
		seen[c.name], s.sections[c.name] = true, content
	}
	return nil
}

// measuresTDX reports whether the stub measures by the protocol that trust domains have instead of a TPM.
func (s *stub) measuresTDX() bool { return s.version >= 256 }

// loadsThroughFirmware reports whether the stub starts the inner kernel by LoadImage, which firmware measures into PCR 4. As
// of 258 it copies the kernel into memory by itself.
func (s *stub) loadsThroughFirmware() bool { return s.version < 258 }

// commandLine gives the command line that the kernel gets. As of 254 the stub cuts white space off at both ends.
func (s *stub) commandLine() (string, error) {
	line := strings.TrimRight(string(s.sections[".cmdline"]), "\x00")
	trimmed := strings.Trim(line, " \t\n\r")
	if s.version < 254 && trimmed != line {
		return "", &UnsupportedError{fmt.Sprintf("a command line with white space at its ends is not modelled with systemd-stub %d", s.version)}
	}
	return trimmed, checkCommandLine(trimmed)
}

// initrd gives what the kernel gets as its initrd: microcode, the initrd, then archives with sections that user space wants
// to read. One alone is handed over as it is; of several each is padded to a multiple of four bytes.
func (s *stub) initrd() []byte {
	var parts [][]byte
	for _, name := range []string{".ucode", ".initrd"} {
		if b := s.sections[name]; len(b) > 0 {
			parts = append(parts, b)
		}
	}
	for _, extra := range []struct {
		section, file string
		since         int
	}{
		{".pcrsig", "tpm2-pcr-signature.json", 252},
		{".pcrpkey", "tpm2-pcr-public-key.pem", 252},
		{".osrel", "os-release", 257},
		{".profile", "profile", 257},
	} {
		if b := s.sections[extra.section]; len(b) > 0 && s.version >= extra.since {
			parts = append(parts, archive(extra.file, b))
		}
	}
	if len(parts) == 1 {
		return parts[0]
	}
	var all []byte
	for _, p := range parts {
		all = pad4(append(all, p...))
	}
	return all
}

// archive gives the cpio archive that the stub makes of one section: the folder .extra and one file in it (systemd
// src/boot/cpio.c; format: Linux Documentation/driver-api/early-userspace/buffer-format.rst).
func archive(file string, content []byte) []byte {
	b := cpioRecord(nil, cpioHeader{inode: 1, mode: 0o040555, name: ".extra"}, nil)
	b = cpioRecord(b, cpioHeader{inode: 2, mode: 0o100444, name: ".extra/" + file}, content)
	// The stub has the end of the archive as a constant, in which the length has a capital letter.
	b = append(b, "070701"...)
	for _, word := range []string{"00000000", "00000000", "00000000", "00000000", "00000001", "00000000", "00000000", "00000000",
		"00000000", "00000000", "00000000", "0000000B", "00000000"} {
		b = append(b, word...)
	}
	return append(b, "TRAILER!!!\x00\x00\x00\x00"...)
}

type cpioHeader struct {
	inode, mode uint32
	name        string
}

// cpioRecord appends one file: magic, thirteen words of eight digits, the name with its NUL, and the content, both padded.
func cpioRecord(b []byte, h cpioHeader, content []byte) []byte {
	b = append(b, "070701"...)
	for _, word := range []uint64{uint64(h.inode), uint64(h.mode), 0, 0, 1, 0, uint64(len(content)), 0, 0, 0, 0, uint64(len(h.name)) + 1, 0} {
		b = fmt.Appendf(b, "%08x", word)
	}
	b = pad4(append(append(b, h.name...), 0))
	return pad4(append(b, content...))
}

// pad4 appends NULs up to a multiple of four bytes.
func pad4(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}
