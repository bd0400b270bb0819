// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/kettle/attest/image/idblock"
)

// Platform is hardware that isolates a guest from its host.
type Platform string

// The platforms.
const (
	SNP Platform = "snp" // AMD SEV-SNP: QEMU 9.1 or later, Linux 6.11 or later
	TDX Platform = "tdx" // Intel TDX: QEMU 10.1 or later, Linux 6.16 or later
)

// GuestPolicy is the SNP guest policy of an image: no debugging and no migration, with SMT allowed (AMD 56860, table "Guest
// Policy"). Bit 17 is always 1.
const GuestPolicy = 1<<17 | 1<<16

// The bits of a guest policy that let the host in, and the one that is always 1.
const (
	policyDebug     = 1 << 19
	policyMigration = 1 << 18
	policyReserved  = 1 << 17
)

// Hardware is a launch on a platform, directly from the kernel, which the platform measures. Nobody plays a processor then.
type Hardware struct {
	Platform Platform
	CPU      string          // for SNP, where it is measured: QEMU's model, for example EPYC-Milan
	Policy   uint64          // for SNP: the guest policy, for example [GuestPolicy]
	IDBlock  *idblock.Signed // for SNP, optional: the processor starts no other image than the one it is signed for
	Quotes   string          // for TDX: path of the socket of the host's quote generation service
}

// cpuModel is what a name of one of QEMU's processors looks like.
var cpuModel = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

func (h *Hardware) validate() []error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	switch h.Platform {
	case SNP:
		check(cpuModel.MatchString(h.CPU), "processor model: want one of QEMU's, got %.80q", h.CPU)
		check(h.Policy&policyReserved != 0, "guest policy %#x: bit 17 is always 1", h.Policy)
		check(h.Policy&(policyDebug|policyMigration) == 0, "guest policy %#x: it lets the host debug or migrate the guest", h.Policy)
		check(h.Quotes == "", "the quote generation service is for TDX")
	case TDX:
		check(filepath.IsAbs(h.Quotes), "quote generation service: want the absolute path of its socket, got %.200q", h.Quotes)
		check(h.CPU == "" && h.Policy == 0 && h.IDBlock == nil, "processor model, guest policy and ID block are for SNP")
	default:
		check(false, "platform: want snp or tdx, got %.20q", h.Platform)
	}
	return faults
}

// arguments are the platform's own: the guest's object, its memory, machine and processor.
func (h *Hardware) arguments(memoryMiB int) []string {
	args := []string{"-accel", "kvm", "-object", fmt.Sprintf("memory-backend-memfd,id=ram,size=%dM,share=on,prealloc=off", memoryMiB)}
	const machine = "q35,smm=off,hpet=off,vmport=off,confidential-guest-support=tee,memory-backend=ram"
	if h.Platform == TDX {
		// The object's socket has parts of its own, which QEMU takes as JSON only.
		return append(args, "-machine", machine+",kernel-irqchip=split", "-cpu", "host",
			"-object", `{"qom-type":"tdx-guest","id":"tee","quote-generation-socket":{"type":"unix","path":`+strconv.Quote(h.Quotes)+`}}`)
	}
	guest := fmt.Sprintf("sev-snp-guest,id=tee,policy=%#x,cbitpos=51,reduced-phys-bits=1,kernel-hashes=on", h.Policy) // as of Milan
	if h.IDBlock != nil {
		guest += "," + h.IDBlock.QEMU()
	}
	return append(args, "-machine", machine, "-cpu", h.CPU, "-object", guest)
}

// UnsupportedError says that this machine cannot launch a guest on a platform.
type UnsupportedError struct {
	Platform Platform
	Need     string // what is missing, in words
}

// Error gives platform and need.
func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("this machine launches no guest on %s: %s", e.Platform, e.Need)
}

// Unsupported tells this error from a fault of a launch.
func (*UnsupportedError) Unsupported() bool { return true }

// requirement is what a platform needs of a host.
type requirement struct {
	parameter    string // of a kernel module, which has to be Y
	kernel       string
	major, minor int // of QEMU
}

var requirements = map[Platform]requirement{
	SNP: {"/sys/module/kvm_amd/parameters/sev_snp", "Linux 6.11 or later on an EPYC processor with SEV-SNP switched on", 9, 1},
	TDX: {"/sys/module/kvm_intel/parameters/tdx", "Linux 6.16 or later on a Xeon processor with TDX switched on", 10, 1},
}

// qemuVersion is how QEMU says its version.
var qemuVersion = regexp.MustCompile(`version (\d{1,4})\.(\d{1,4})`)

// Supported reports whether this machine can launch a guest on the platform: nil, or an [*UnsupportedError] that says what it
// lacks.
func Supported(ctx context.Context, p Platform) error {
	need, ok := requirements[p]
	if !ok {
		return fmt.Errorf("launching a guest: platform: want snp or tdx, got %.20q", p)
	}
	on, err := os.ReadFile(need.parameter)
	if err != nil || strings.TrimSpace(string(on)) != "Y" {
		return &UnsupportedError{p, "want " + need.kernel + " (" + need.parameter + " is not Y)"}
	}
	path, err := FindQEMU()
	if err != nil {
		return &UnsupportedError{p, err.Error()}
	}
	said, err := exec.CommandContext(ctx, path, "--version").Output() //nolint:gosec // QEMU.
	if err != nil {
		return fmt.Errorf("asking QEMU for its version: %w", err)
	}
	return need.version(p, said)
}

func (r requirement) version(p Platform, said []byte) error {
	line, _, _ := bytes.Cut(said, []byte("\n"))
	found := qemuVersion.FindSubmatch(line)
	if found == nil {
		return fmt.Errorf("asking QEMU for its version: got %.100q", line)
	}
	major, err := strconv.Atoi(string(found[1]))
	minor, err2 := strconv.Atoi(string(found[2]))
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("asking QEMU for its version: %w", err)
	}
	if major < r.major || major == r.major && minor < r.minor {
		return &UnsupportedError{p, fmt.Sprintf("want QEMU %d.%d or later, got %d.%d", r.major, r.minor, major, minor)}
	}
	return nil
}

// Command gives the command line with which QEMU launches what c says, for people: the image's own files in place of copies,
// and names beside the working folder in place of what the launcher hands over, control.sock and console.log among them.
func Command(c Config) ([]string, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("writing QEMU's command line: %w", err)
	}
	s := &staged{named: map[string]string{"firmware": c.Firmware, "kernel": c.Kernel, "initrd": c.Initrd, "disk": c.Disk}}
	accel := c.Acceleration
	if accel == Auto {
		accel = KVM
	}
	return append([]string{"qemu-system-x86_64"}, argumentsOver(&c, s, accel, "socat", named)...), nil
}
