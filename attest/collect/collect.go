// SPDX-License-Identifier: Apache-2.0

// Package collect gets evidence from the hardware that the program runs on. It is linked into kettled alone.
//
// It guarantees that a [Quote] was answered to the very report data asked for, on a device that answered nothing out
// of turn. It verifies no signature: what a quote is worth, attest/snp says, to kettled as to everybody else. It trusts
// the kernel's device, not what travels over it.
//
// [Open] is an explicit switch over platforms. Only the simulated secure processor (package attest/sim, on the other
// end of a virtio-serial port) is here yet; every other platform is an [UnsupportedError] that names what it needs.
package collect

import (
	"context"
	"errors"
	"fmt"
)

// PlatformSim is the platform of the simulated secure processor.
const PlatformSim = "sim"

// ProviderSNP names the format of a quote as configfs-tsm does ("provider"): an SEV-SNP report. The simulator's quotes
// have it too; which platform they prove is decided by the root that they lead to.
const ProviderSNP = "sev_guest"

// Quote is what a device answers, as configfs-tsm names the parts, and the endorsements that go with it.
type Quote struct {
	Provider     string // the format of Report
	Report       []byte // outblob
	AuxBlob      []byte // auxblob, empty where the platform has none
	Endorsements []byte // PEM: endorsement key certificate, then its intermediates
}

// ErrUnsupported is matched by every [UnsupportedError].
var ErrUnsupported = errors.New("platform not supported")

// UnsupportedError says that evidence of this platform cannot be had here, and what would be needed.
type UnsupportedError struct {
	Platform string // as asked for
	Need     string // what is missing
}

// Error names platform and need.
func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("platform %.40q is not supported: it needs %s", e.Platform, e.Need)
}

// Is matches [ErrUnsupported].
func (e *UnsupportedError) Is(target error) bool { return target == ErrUnsupported }

// Open opens the evidence device of a platform. A platform that this machine or this program lacks is an
// [UnsupportedError]; a device that is there and does not work is another error. The caller closes the device.
func Open(ctx context.Context, platform string) (*Device, error) {
	switch platform {
	case PlatformSim:
		return openSim(ctx, sysPorts, devPorts)
	case "snp", "tdx":
		return nil, &UnsupportedError{platform, "a collector for configfs-tsm (/sys/kernel/config/tsm/report) and for the vendor's certificates, which this version does not have"}
	case "az-snp", "az-tdx", "vtpm":
		return nil, &UnsupportedError{platform, "a collector for TPM 2.0 quotes, which this version does not have"}
	}
	return nil, &UnsupportedError{platform, "to be one of the platforms sim, snp, tdx, az-snp, az-tdx and vtpm"}
}
