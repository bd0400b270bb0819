// SPDX-License-Identifier: Apache-2.0

package tcg

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// The tags of Linux's EFI stub (drivers/firmware/efi/libstub/efistub.h): its events describe, but do not hold, what
// was measured.
const (
	tagInitrd      = 0x8f3b22ec
	tagLoadOptions = 0x8f3b22ed
)

// measured sorts an event that may be known by its digest only under the heading that the log gives it.
func (f *Facts) measured(k Kind, p *Proven) {
	m := Measured{Event: p.Number, Register: p.Register, Digest: p.Digest}
	switch p.Type {
	case PlatformConfigFlags, PostCode, PostCode2:
		if k == TPM && p.Register > 1 || k != TPM && p.Register != 0 {
			return
		}
		if m.Label = tableLabel(p.source); m.Label != "" {
			f.ACPI = append(f.ACPI, m)
		}
	case BootServicesApp, BootServicesDriver, RuntimeServicesDriver:
		m.Label = p.Type.String()
		f.Images = append(f.Images, m)
	case EventTag:
		if m.Label = stubLabel(p.source); m.Label != "" {
			f.Linux = append(f.Linux, m)
		}
	}
}

// tableLabel gives dstack's name for a table, or else the firmware's: QEMU's file name, or just "ACPI DATA".
func tableLabel(e *event) string {
	if strings.HasPrefix(e.name, "acpi-") {
		return e.name
	}
	for _, known := range []string{"ACPI DATA", "etc/table-loader", "etc/acpi/rsdp", "etc/acpi/tables"} {
		if rest, is := bytes.CutPrefix(e.data, []byte(known)); is && zero(rest) {
			return known
		}
	}
	return ""
}

// stubLabel says which of its two things Linux's EFI stub measured.
func stubLabel(e *event) string {
	if _, ok := tagData(e.data); !ok {
		return ""
	}
	switch binary.LittleEndian.Uint32(e.data) {
	case tagInitrd:
		return "initrd"
	case tagLoadOptions:
		return "command line"
	}
	return ""
}
