// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"errors"
	"fmt"

	"github.com/kettle/attest/image/measure/pe"
)

// Loader says what starts a UKI.
type Loader int

// The loaders.
const (
	Disk   Loader = iota + 1 // OVMF's first boot option, from a file system on a disk
	Handed                   // OVMF, from QEMU's -kernel
)

// UKI is a boot of a unified kernel image (UAPI.5) with systemd-stub, versions 252 and 254 to 259.
type UKI struct {
	Image  []byte // the UKI file
	Loader Loader
	// GPT is the start of the disk, [GPTSize] bytes, which a trust domain measures into RTMR1. It is needed for [TDX] with
	// [Disk] and not looked at otherwise.
	GPT []byte
	// SecureBoot is whether the firmware enforces it: stubs before 258 then keep the inner kernel from being measured.
	SecureBoot bool
}

// Log predicts the boot.
func (u UKI) Log(t Target) (*Log, error) {
	l, err := u.log(t)
	if err != nil {
		return nil, fmt.Errorf("predicting the boot of a UKI: %w", err)
	}
	return l, nil
}

func (u UKI) log(t Target) (*Log, error) {
	l, err := newLog(t)
	if err != nil {
		return nil, err
	}
	m, err := pe.Parse(u.Image)
	if err != nil {
		return nil, err
	}
	s, err := readStub(m)
	if err != nil {
		return nil, err
	}
	if err := u.start(l, m); err != nil {
		return nil, err
	}
	if t == TPM || s.measuresTDX() {
		l.sections(s)
	}
	return l, u.kernel(l, s)
}

// start records how the firmware comes to run the UKI.
func (u UKI) start(l *Log, m *pe.Image) error {
	switch u.Loader {
	case Handed:
		l.image("UKI", m)
		l.readyToBoot()
		return nil
	case Disk:
		l.readyToBoot()
		if l.target == TDX {
			event, err := partitionEvent(u.GPT)
			if err != nil {
				return fmt.Errorf("partition table: %w", err)
			}
			l.data(pcrBootLoaderConfig, "partition table", event)
		}
		l.image("UKI", m)
		return nil
	}
	return fmt.Errorf("unknown loader %d", int(u.Loader))
}

// sections records what systemd-stub measures of its own sections: each one's name with a NUL, then its content.
func (l *Log) sections(s *stub) {
	for _, c := range stubSections() {
		content, ok := s.sections[c.name]
		if !ok || s.version < c.measuredSince || !c.measured() {
			continue
		}
		l.data(pcrKernelBoot, "name of "+c.name, append([]byte(c.name), 0))
		l.data(pcrKernelBoot, "section "+c.name, content)
	}
}

// kernel records how the stub starts the inner kernel and what that measures.
func (u UKI) kernel(l *Log, s *stub) error {
	inner, err := pe.Parse(s.sections[".linux"])
	if err != nil {
		return fmt.Errorf("inner kernel: %w", err)
	}
	if s.loadsThroughFirmware() && !u.SecureBoot {
		l.image("inner kernel", inner)
	}
	line, err := s.commandLine()
	if err != nil {
		return err
	}
	l.data(pcrKernelInitrd, "command line", loadOptions(line))
	if initrd := s.initrd(); len(initrd) > 0 {
		l.data(pcrKernelInitrd, "initrd", initrd)
	}
	l.exitBootServices()
	return nil
}

// errNoKernel is the answer to an image that is no UKI.
var errNoKernel = errors.New("the image has no .linux section: it is no UKI")
