// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/kettle/attest/image"
)

// Processor answers the guest's requests on the quote port until the stream or ctx ends.
type Processor interface {
	Serve(ctx context.Context, stream io.ReadWriter) error
}

// Acceleration chooses how the guest's instructions run.
type Acceleration string

// The ways to run a guest. Auto takes KVM when a probe boots this kernel under it within seconds: a device that opens
// proves nothing.
const (
	Auto Acceleration = "auto"
	KVM  Acceleration = "kvm"
	TCG  Acceleration = "tcg"
)

// Forward makes one host endpoint reachable from a guest that can reach nothing else.
type Forward struct {
	Guest netip.AddrPort // address inside 10.0.2.0/24 that the guest connects to
	Host  netip.AddrPort // where each connection goes
}

// Config says what to start. Every field without "optional" is required.
type Config struct {
	Firmware    string // file; see [FindFirmware]
	Kernel      string // file, a Linux bzImage
	Initrd      string // file
	Root        string // file with the root file system alone; stays where it is and is opened read-only
	Disk        string // the image's whole disk, instead of Root; likewise
	Scratch     string // optional: file that is the job's disk, where the configuration wants one; written to
	CommandLine string // measured and handed to the kernel, byte for byte
	UKI         *UKI   // optional: boot from the disk, where kernel, initrd and command line then are; see [FindOVMF]

	Hardware *Hardware // optional: a launch on hardware that measures it, in place of a simulated processor

	MemoryMiB    int
	CPUs         int
	Acceleration Acceleration
	Forwards     []Forward // optional; without any the guest has no network device

	// NewProcessor makes the simulated secure processor for the digest that was measured; nil where Hardware is not.
	NewProcessor func(launchDigest [48]byte) (Processor, error)

	// Folder is optional: a folder that is not there yet, for the copies that are measured. Whoever outlives this process
	// can remove it. Empty: one among the temporary files.
	Folder  string
	Console string       // optional; a file that the serial console is written to and that stays
	Logger  *slog.Logger // optional
}

// Validate reports every field that is absent or wrong, joined.
func (c *Config) Validate() error {
	var faults []error
	if c.UKI != nil {
		faults = c.validateUKI()
	} else {
		faults = c.validateDirect()
	}
	if c.MemoryMiB < 128 || c.CPUs < 1 {
		faults = append(faults, fmt.Errorf("want at least 128 MiB and 1 CPU, got %d and %d", c.MemoryMiB, c.CPUs))
	}
	if c.Acceleration != Auto && c.Acceleration != KVM && c.Acceleration != TCG {
		faults = append(faults, fmt.Errorf("acceleration: want auto, kvm or tcg, got %q", c.Acceleration))
	}
	for _, f := range c.Forwards {
		if !f.Guest.IsValid() || !f.Guest.Addr().Is4() || !f.Host.IsValid() || !f.Host.Addr().Is4() {
			faults = append(faults, fmt.Errorf("forward: want two IPv4 endpoints, got %s to %s", f.Guest, f.Host))
		}
	}
	switch {
	case c.Hardware == nil && c.NewProcessor == nil:
		faults = append(faults, errors.New("processor: absent"))
	case c.Hardware != nil && (c.NewProcessor != nil || c.UKI != nil):
		faults = append(faults, errors.New("a launch on hardware has the hardware's processor, and starts from the kernel"))
	case c.Hardware != nil:
		faults = append(faults, c.Hardware.validate()...)
	}
	return errors.Join(faults...)
}

// validateDirect reports what is absent or wrong where kernel, initrd and command line are handed over.
func (c *Config) validateDirect() []error {
	var faults []error
	for _, f := range []struct{ name, path string }{
		{"firmware", c.Firmware}, {"kernel", c.Kernel}, {"initrd", c.Initrd},
	} {
		if f.path == "" {
			faults = append(faults, fmt.Errorf("%s: absent", f.name))
		}
	}
	if (c.Root == "") == (c.Disk == "") {
		faults = append(faults, errors.New("want the root or the disk, one of both"))
	}
	if _, err := image.ParseCommandLine(c.CommandLine); err != nil {
		faults = append(faults, err)
	}
	if strings.HasSuffix(c.CommandLine, "\n") {
		faults = append(faults, errors.New("command line: ends in a newline"))
	}
	return faults
}

// absolute makes the paths whole that QEMU opens, which runs in the VM's folder.
func (c *Config) absolute() error {
	for _, path := range []*string{&c.Root, &c.Disk, &c.Scratch} {
		if *path == "" {
			continue
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	return nil
}

// firmwares are tried in this order; qboot starts a kernel directly and nothing else.
var firmwares = []string{
	"/usr/share/qemu/qboot.rom",
	"/usr/share/qemu/bios-256k.bin",
	"/usr/share/seabios/bios-256k.bin",
}

// FindFirmware gives the firmware file of this machine's QEMU package.
func FindFirmware() (string, error) {
	for _, path := range firmwares {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("finding firmware for QEMU: none of %s exists", strings.Join(firmwares, ", "))
}

// FindQEMU gives the path of the emulator.
func FindQEMU() (string, error) {
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return "", fmt.Errorf("finding QEMU (package qemu-system-x86): %w", err)
	}
	return path, nil
}
