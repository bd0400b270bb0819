// SPDX-License-Identifier: Apache-2.0

package vtpm

import (
	"bytes"
	"errors"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
)

// Guest is what a paravisor says of the virtual machine it runs, bound by the hardware's report. Only [HCL.Bind] makes
// one.
type Guest struct {
	hardware      Hardware
	ak            *AK
	configuration Configuration
	userData      []byte
}

// Hardware says which kind of report binds it.
func (g *Guest) Hardware() Hardware { return g.hardware }

// AK is the attestation key of the TPM that the paravisor holds.
func (g *Guest) AK() *AK { return g.ak }

// Configuration is how the virtual machine was launched.
func (g *Guest) Configuration() Configuration { return g.configuration }

// UserData is the 64 bytes that the guest asked to be bound (NV index 0x01400002), or nothing. All zeros means that the
// guest asked for nothing.
func (g *Guest) UserData() []byte { return bytes.Clone(g.userData) }

// Configuration is the paravisor's vm-configuration. Each switch comes with whether it was stated at all.
type Configuration struct {
	secureBoot, console, interactiveConsole, tpm, tpmPersisted, filteredDevices *bool

	uniqueID, rootThumbprint string
}

func stated(b *bool) (on, known bool) {
	if b == nil {
		return false, false
	}
	return *b, true
}

// SecureBoot says whether UEFI secure boot is on.
func (c Configuration) SecureBoot() (on, known bool) { return stated(c.secureBoot) }

// Console says whether the serial console, which the host reads, is there.
func (c Configuration) Console() (on, known bool) { return stated(c.console) }

// InteractiveConsole says whether the host can type into it.
func (c Configuration) InteractiveConsole() (on, known bool) { return stated(c.interactiveConsole) }

// TPM says whether the virtual TPM is on.
func (c Configuration) TPM() (on, known bool) { return stated(c.tpm) }

// TPMPersisted says whether the TPM's state outlives the virtual machine's run.
func (c Configuration) TPMPersisted() (on, known bool) { return stated(c.tpmPersisted) }

// FilteredDevices says whether certain devices of the host pass the paravisor's filter.
func (c Configuration) FilteredDevices() (on, known bool) { return stated(c.filteredDevices) }

// UniqueID names the virtual machine; "" if not stated. It is the host's word.
func (c Configuration) UniqueID() string { return c.uniqueID }

// RootCertThumbprint is the digest of the provisioning certificate in base64url; "" if not stated.
func (c Configuration) RootCertThumbprint() string { return c.rootThumbprint }

// Meets reports, as nil, that the virtual machine's configuration reaches the floor; the hardware under it is for the
// platform's package. Signature asks nothing; default demands secure boot and the TPM on, stated; strict demands the serial
// console off as well, where the host reads what is printed and may type. Codes: policy; missing for the zero Floor and
// for no guest.
func (g *Guest) Meets(f floor.Floor) error {
	if g == nil || g.ak == nil {
		return noFloor("a paravisor's report bound by hardware", nextFreshHCL)
	}
	c := g.configuration
	byDefault := func() error {
		return errors.Join(refuseSwitch("secure-boot", true, c.secureBoot), refuseSwitch("tpm-enabled", true, c.tpm))
	}
	switch f {
	case floor.Signature:
		return nil
	case floor.Default:
		return byDefault()
	case floor.Strict:
		return errors.Join(byDefault(), refuseSwitch("console-enabled", false, c.console))
	}
	return noFloor("a floor: signature, default or strict", "choose one in the policy")
}

func noFloor(want, next string) error {
	return &refusal.Refusal{Link: linkPlatform, Code: refusal.Missing, Want: want, Got: "none", Next: next}
}
