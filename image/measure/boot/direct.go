// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/kettle/attest/image/measure/pe"
)

// InitrdOption says where OVMF adds its word for the initrd to the command line that the kernel gets and measures.
type InitrdOption int

// The places of the word.
const (
	InitrdFirst InitrdOption = iota + 1 // "initrd=initrd " before the line: edk2-stable202508 and later
	InitrdLast                          // " initrd=initrd" behind the line: earlier
)

// Direct is a boot in which QEMU hands the parts to OVMF.
type Direct struct {
	Kernel      []byte // the kernel file, a PE image
	Initrd      []byte // the initrd file; empty means that there is none
	CommandLine string // as given to -append: printable ASCII
	Option      InitrdOption
	// Memory is 0 if the firmware gets the kernel as it is in the file: QEMU 10.2 and later with a confidential guest. Earlier
	// QEMU writes into the kernel's setup header, and then Memory is the guest's memory in bytes, on a q35 machine.
	Memory uint64
}

// DirectDigests are the digests that a direct boot's registers are made of: each 32 bytes for [TPM] and 48 for [TDX].
type DirectDigests struct {
	Kernel      []byte // Authenticode digest of the kernel, as the firmware got it
	CommandLine []byte // of the command line with OVMF's word, in UTF-16 with its NUL
	Initrd      []byte // of the initrd; empty means that there is none
}

// Log predicts the boot.
func (d Direct) Log(t Target) (*Log, error) {
	digests, err := d.Digests(t)
	if err != nil {
		return nil, fmt.Errorf("predicting a direct boot: %w", err)
	}
	return digests.Log(t)
}

// Digests gives what the boot measures of the three parts.
func (d Direct) Digests(t Target) (DirectDigests, error) {
	hash, err := t.hash()
	if err != nil {
		return DirectDigests{}, err
	}
	line, err := d.line()
	if err != nil {
		return DirectDigests{}, err
	}
	kernel := d.Kernel
	if d.Memory != 0 {
		if kernel, err = patchSetup(d); err != nil {
			return DirectDigests{}, err
		}
	}
	m, err := pe.Parse(kernel)
	if err != nil {
		return DirectDigests{}, fmt.Errorf("kernel: %w", err)
	}
	digests := DirectDigests{Kernel: m.Authenticode(hash.New())}
	h := hash.New()
	h.Write(loadOptions(line))
	digests.CommandLine = h.Sum(nil)
	if len(d.Initrd) > 0 {
		h = hash.New()
		h.Write(d.Initrd)
		digests.Initrd = h.Sum(nil)
	}
	return digests, nil
}

// line gives the command line as the kernel gets it.
func (d Direct) line() (string, error) {
	if err := checkCommandLine(d.CommandLine); err != nil {
		return "", err
	}
	switch {
	case d.Option != InitrdFirst && d.Option != InitrdLast:
		return "", fmt.Errorf("unknown place %d of the word for the initrd", int(d.Option))
	case len(d.Initrd) == 0:
		return d.CommandLine, nil
	case d.Option == InitrdFirst:
		return "initrd=initrd " + d.CommandLine, nil
	}
	return d.CommandLine + " initrd=initrd", nil
}

// Log predicts the boot from digests alone. OVMF loads the kernel before the boot manager says that it is ready.
func (d DirectDigests) Log(t Target) (*Log, error) {
	l, err := newLog(t)
	if err != nil {
		return nil, fmt.Errorf("predicting a direct boot: %w", err)
	}
	size := l.hash.Size()
	if len(d.Kernel) != size || len(d.CommandLine) != size || (len(d.Initrd) != 0 && len(d.Initrd) != size) {
		return nil, fmt.Errorf("predicting a direct boot: want digests of %d bytes", size)
	}
	l.events = append(l.events, Event{pcrBootLoader, "kernel", bytes.Clone(d.Kernel)})
	l.readyToBoot()
	l.events = append(l.events, Event{pcrKernelInitrd, "command line", bytes.Clone(d.CommandLine)})
	if len(d.Initrd) != 0 {
		l.events = append(l.events, Event{pcrKernelInitrd, "initrd", bytes.Clone(d.Initrd)})
	}
	l.exitBootServices()
	return l, nil
}

// Offsets into the setup header (Linux Documentation/arch/x86/boot.rst).
const (
	setupMagic      = 0x202 // "HdrS"
	setupVersion    = 0x206
	setupLoader     = 0x210
	setupFlags      = 0x211
	setupInitrd     = 0x218
	setupInitrdSize = 0x21c
	setupHeapEnd    = 0x224
	setupLine       = 0x228
	setupInitrdMax  = 0x22c
	setupXFlags     = 0x236
	setupEnd        = 0x268
)

// patchSetup gives the kernel as QEMU before 10.2 hands it to a trust domain: a boot loader's fields filled in (QEMU
// hw/i386/x86-common.c, x86_load_linux).
func patchSetup(d Direct) ([]byte, error) {
	const (
		realAddress, lineAddress = 0x10000, 0x20000
		acpiData                 = 0x28000
		lowMemory, lowSplit      = 0xb0000000, 0x80000000
		above4G                  = 1 << 1
	)
	le := binary.LittleEndian
	if len(d.Kernel) < setupEnd || string(d.Kernel[setupMagic:setupMagic+4]) != "HdrS" || le.Uint16(d.Kernel[setupVersion:]) < 0x20c {
		return nil, &UnsupportedError{"a kernel without a setup header of version 2.12 or later is not modelled"}
	}
	if strings.Contains(d.CommandLine, "vga=") {
		return nil, &UnsupportedError{"vga= on the command line of a kernel whose setup header is changed is not modelled"}
	}
	memory := d.Memory
	if memory >= lowMemory {
		memory = lowSplit
	}
	initrdMax := uint64(le.Uint32(d.Kernel[setupInitrdMax:]))
	if le.Uint16(d.Kernel[setupXFlags:])&above4G != 0 {
		initrdMax = 1<<32 - 1
	}
	if memory <= acpiData {
		return nil, fmt.Errorf("%d bytes of memory are too few", d.Memory)
	}
	initrdMax = min(initrdMax, memory-acpiData-1)
	k := bytes.Clone(d.Kernel)
	k[setupLoader] = 0xb0
	k[setupFlags] |= 0x80
	le.PutUint16(k[setupHeapEnd:], lineAddress-realAddress-0x200)
	le.PutUint32(k[setupLine:], lineAddress)
	if size := uint64(len(d.Initrd)); size > 0 {
		if size >= initrdMax {
			return nil, fmt.Errorf("an initrd of %d bytes does not fit into %d bytes of memory", size, d.Memory)
		}
		le.PutUint32(k[setupInitrd:], uint32((initrdMax-size)&^4095)) //nolint:gosec // below 4 GiB.
		le.PutUint32(k[setupInitrdSize:], uint32(size))               //nolint:gosec // below 4 GiB.
	}
	return k, nil
}
