// SPDX-License-Identifier: Apache-2.0

// Package collect gets evidence from the hardware that the program runs on. It is linked into kettled alone.
//
// It guarantees that a [Quote] was answered to the very report data asked for, by the platform asked for, and that it
// carries what a verifier needs years later without a network: certificates, revocation lists, collateral, event logs.
// What could not be had stands in its Notes with the reason; nothing is left out in silence. It tells two things apart
// that must never be confused: [ErrUnsupported], this machine is not of that platform, after which another may be
// tried, and [ErrBroken], it is and its device failed, after which nothing may be tried. It verifies no signature: what
// a quote is worth, the verifying packages say, to kettled as to everybody else. It trusts the kernel's devices, not
// what travels over them.
//
// [Open] is an explicit switch over platforms; nothing here chooses one. The parts are packages below this one: tsm
// (configfs-tsm and the vendors' devices), tpm, azure, endorse and fetch (what the makers publish), quoteport (the
// simulated secure processor).
package collect

import (
	"context"

	"github.com/kettle/attest/attest/collect/fault"
	"github.com/kettle/attest/attest/collect/tsm"
)

// The platforms.
const (
	PlatformSim   = "sim"    // the simulated secure processor (package attest/sim) behind a virtio-serial port
	PlatformSNP   = "snp"    // AMD SEV-SNP with the guest's own access to the secure processor: bare metal, AWS, Google
	PlatformTDX   = "tdx"    // Intel TDX with the guest's own access to the module: bare metal, Google and others
	PlatformAzSNP = "az-snp" // AMD SEV-SNP under Azure's paravisor
	PlatformAzTDX = "az-tdx" // Intel TDX under Azure's paravisor
	PlatformVTPM  = "vtpm"   // a TPM 2.0 alone, such as NitroTPM or the one of a shielded VM
)

// The formats of a quote, as configfs-tsm names them ("provider"). The simulator's quotes are SEV-SNP reports; which
// platform they prove is decided by the root that they lead to.
const (
	ProviderSNP = string(tsm.SNP) // an SEV-SNP report
	ProviderTDX = string(tsm.TDX) // a TDX quote
	ProviderTPM = "tpm"           // no report, the TPM's quote alone
)

// ErrUnsupported is matched by every [UnsupportedError].
var ErrUnsupported = fault.ErrUnsupported

// ErrBroken is matched by every error of a device that is there and does not work. The simulator's device answers
// nothing more after it: once a reply may be late, the next one could be to another question.
var ErrBroken = fault.ErrBroken

// UnsupportedError says that evidence of this platform cannot be had here, and what would be needed.
type UnsupportedError = fault.UnsupportedError

// Open opens the evidence device of a platform with the zero [Config]. A platform that this machine or this program
// lacks is an [UnsupportedError]; a device that is there and does not work is [ErrBroken]. The caller closes the device.
func Open(ctx context.Context, platform string) (*Device, error) {
	return Config{}.Open(ctx, platform)
}

// Open opens the evidence device of a platform, see the function of the same name.
func (c Config) Open(ctx context.Context, platform string) (*Device, error) {
	return c.open(ctx, platform, thisMachine())
}

func (c Config) open(ctx context.Context, platform string, m machine) (*Device, error) {
	s := c.on(m)
	switch platform {
	case PlatformSim:
		return openSim(ctx, s.path(sysPorts), s.path(devPorts))
	case PlatformSNP:
		return inTurns(openSNP(ctx, s))
	case PlatformTDX:
		return inTurns(openTDX(ctx, s))
	case PlatformAzSNP, PlatformAzTDX:
		return inTurns(openAzure(ctx, s, platform))
	case PlatformVTPM:
		return inTurns(openVTPM(ctx, s))
	}
	return nil, &UnsupportedError{Platform: platform, Need: "to be one of the platforms sim, snp, tdx, az-snp, az-tdx and vtpm"}
}
