// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/disk/esp"
	"github.com/kettle/attest/image/measure"
	"github.com/kettle/attest/image/measure/pe"
)

// UKI is the boot of the unified kernel image in the disk's EFI system partition, by firmware of UEFI, with a TPM. swtpm plays
// the TPM; it starts without any state, ends with the VM, and proves nothing: who launches owns it.
type UKI struct {
	// Variables is a file with the firmware's variables, Secure Boot's keys among them, as the machine shall find them. The
	// machine writes to a copy, which goes away with it.
	Variables string
}

// ovmf names the firmware of Debian's package ovmf: code, then variables without any key.
var ovmf = [][2]string{
	{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
	{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
}

// FindOVMF gives the firmware of this machine that boots a disk: its code, and variables as of a machine that never ran.
func FindOVMF() (code, variables string, err error) {
	var tried []string
	for _, pair := range ovmf {
		_, codeErr := os.Stat(pair[0])
		_, varsErr := os.Stat(pair[1])
		if codeErr == nil && varsErr == nil {
			return pair[0], pair[1], nil
		}
		tried = append(tried, pair[0])
	}
	return "", "", fmt.Errorf("finding firmware for UEFI (package ovmf): none of %s exists", strings.Join(tried, ", "))
}

// validateUKI reports what is absent or too much where the disk's unified kernel image is booted.
func (c *Config) validateUKI() []error {
	var faults []error
	for _, f := range []struct {
		name, value string
		want        bool
	}{
		{"firmware", c.Firmware, true}, {"variables", c.UKI.Variables, true}, {"disk", c.Disk, true},
		{"kernel", c.Kernel, false}, {"initrd", c.Initrd, false}, {"root", c.Root, false}, {"command line", c.CommandLine, false},
	} {
		switch {
		case f.want && f.value == "":
			faults = append(faults, fmt.Errorf("%s: absent", f.name))
		case !f.want && f.value != "":
			faults = append(faults, fmt.Errorf("%s: the unified kernel image on the disk has it", f.name))
		}
	}
	return faults
}

// copyUKI copies firmware, variables and the disk, and measures them: the unified kernel image as firmware will find it on the
// copy.
func (s *staged) copyUKI(c *Config) error {
	var l measure.UKILaunch
	var err error
	if l.Firmware, err = copyHashing(c.Firmware, s.path("firmware")); err != nil {
		return fmt.Errorf("copying the firmware: %w", err)
	}
	if l.Variables, err = copyHashing(c.UKI.Variables, s.path("variables")); err != nil {
		return fmt.Errorf("copying the variables: %w", err)
	}
	const writable = 0o600
	if err := os.Chmod(s.path("variables"), writable); err != nil {
		return fmt.Errorf("copying the variables: %w", err)
	}
	if err := s.copyDisk(c.Disk); err != nil {
		return fmt.Errorf("copying the disk: %w", err)
	}
	if l.UKI, err = s.measureUKI(c.Acceleration != TCG); err != nil {
		return fmt.Errorf("measuring the unified kernel image: %w", err)
	}
	s.digest = measure.SimUKI(l)
	return nil
}

// copyDisk copies the whole disk, as its beginning is measured and nobody may change it afterwards. The kernel copies, and
// shares the blocks where the file system can.
func (s *staged) copyDisk(source string) (err error) {
	in, err := os.Open(source) //nolint:gosec // the caller's file.
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(s.path("disk"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}

// measureUKI hashes the program that firmware starts from the copied disk. The kernel inside of it is put beside when KVM is to
// be tried with it.
func (s *staged) measureUKI(wantKernel bool) (digest image.SHA256, err error) {
	disk, err := os.Open(s.path("disk"))
	if err != nil {
		return digest, err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	info, err := disk.Stat()
	if err != nil {
		return digest, err
	}
	program, _, err := esp.Open(disk, info.Size())
	if err != nil {
		return digest, err
	}
	h := sha256.New()
	var whole bytes.Buffer
	to := io.Writer(h)
	if wantKernel {
		to = io.MultiWriter(h, &whole)
	}
	if _, err := io.Copy(to, program); err != nil {
		return digest, err
	}
	if wantKernel {
		err = s.extractKernel(whole.Bytes())
	}
	return image.SHA256(h.Sum(nil)), err
}

func (s *staged) extractKernel(uki []byte) error {
	m, err := pe.Parse(uki)
	if err != nil {
		return err
	}
	for _, section := range m.Sections() {
		if section.Name == ".linux" {
			kernel, err := section.Memory()
			if err != nil {
				return err
			}
			return os.WriteFile(s.path("kernel"), kernel, 0o400)
		}
	}
	return errors.New("it holds no kernel")
}
