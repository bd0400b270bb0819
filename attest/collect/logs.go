// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/kettle/attest/attest/collect/fault"
)

// Event logs, as the kernel shows them (Linux Documentation/ABI/testing/sysfs-firmware-acpi and securityfs).
const (
	ccelTable = "/sys/firmware/acpi/tables/CCEL"
	ccelData  = "/sys/firmware/acpi/tables/data/CCEL"
	tpmLog    = "/sys/kernel/security/tpm0/binary_bios_measurements"

	maxLog = 16 << 20
)

// addCCEL adds the event log of a TD's registers, both of its files or neither.
func (m machine) addCCEL(q *Quote) error {
	table, err := m.readLog(ccelTable)
	if err == nil {
		q.CCELTable = table
		q.CCEL, err = m.readLog(ccelData)
	}
	if errors.Is(err, fs.ErrNotExist) {
		q.CCELTable = nil
		q.note("ccel", err.Error())
		return nil
	}
	return err
}

// addTPMLog adds the event log of the TPM's registers.
func (m machine) addTPMLog(q *Quote) error {
	var err error
	q.TPMLog, err = m.readLog(tpmLog)
	if errors.Is(err, fs.ErrNotExist) {
		q.note("tpm event log", err.Error()+"; securityfs mounted?")
		return nil
	}
	return err
}

// readLog reads a log. One that does not exist is [fs.ErrNotExist]; one that is empty, too long or cannot be read is
// [ErrBroken].
func (m machine) readLog(path string) ([]byte, error) {
	f, err := os.Open(m.path(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fault.Broken("opening an event log", err)
	}
	defer f.Close()
	log, err := io.ReadAll(io.LimitReader(f, maxLog+1))
	switch {
	case err != nil:
		return nil, fault.Broken("reading the event log "+path, err)
	case len(log) > maxLog:
		return nil, fault.Broken("reading the event log "+path, fmt.Errorf("longer than %d bytes", maxLog))
	case len(log) == 0:
		return nil, fault.Broken("reading the event log "+path, errors.New("it is empty"))
	}
	return log, nil
}
