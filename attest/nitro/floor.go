// SPDX-License-Identifier: Apache-2.0

package nitro

import (
	"errors"
	"fmt"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
)

const (
	// An enclave's image is measured in registers 0 to 2: all of it, kernel and boot ramdisk, application.
	lastEnclaveRegister = 2
	// An instance's firmware closes registers 0 to 7 with a separator before it starts the operating system (TCG "PC
	// Client Platform Firmware Profile", 3.3.4), so that none of them stays at zero where boot was measured.
	lastBootRegister = 7
)

// Meets reports, as nil, that what the document describes reaches the floor. Otherwise it joins one [refusal.Refusal]
// for each register that falls short, in ascending order.
//
// Signature asks nothing more than [Verify] did. Default demands, of an enclave, that registers 0, 1 and 2 hold a
// measurement: in debug mode, where the parent instance reads the enclave's console, AWS leaves them at zero. Of an
// instance it demands that registers 0 to 7 hold one: otherwise its boot was not measured. Strict asks the same: a
// document says nothing about the Nitro system's own firmware that could be judged further.
//
// Codes: debug of an enclave, measurement of an instance; missing for the zero Floor and an unverified document.
func (d *Document) Meets(f floor.Floor) error {
	if d == nil || !d.verified {
		return platformRefusal(refusal.Missing, "a verified document", "none", nextVerifyDocs)
	}
	switch f {
	case floor.Signature:
		return nil
	case floor.Default, floor.Strict:
		return d.checkMeasured()
	}
	return platformRefusal(refusal.Missing, "a floor: signature, default or strict", "none", nextNameFloor)
}

func (d *Document) checkMeasured() error {
	last, code, kind, next := lastEnclaveRegister, refusal.Debug, "an enclave that is not in debug mode", nextNotDebug
	if d.tpm {
		last, code, kind, next = lastBootRegister, refusal.Measurement, "an instance whose boot was measured", nextMeasured
	}
	var errs []error
	for i := range last + 1 {
		pcr, ok := d.PCR(i)
		want := fmt.Sprintf("%s, with a measurement in PCR %d", kind, i)
		switch {
		case !ok:
			errs = append(errs, platformRefusal(code, want, "a document without that register", next))
		case pcr == [PCRSize]byte{}:
			errs = append(errs, platformRefusal(code, want, "zero", next))
		}
	}
	return errors.Join(errs...)
}
