// SPDX-License-Identifier: Apache-2.0

package bootattack

import (
	"testing"
)

// TestBoot is the image as it was made: it verifies itself.
func TestBoot(t *testing.T) {
	t.Parallel()
	newMachine(t).boot(t).unharmed(t)
}

// injected is what a host hands to a guest that would take credentials from it: a unit of systemd's, and a file, which would
// write to the serial line.
const injected = "w /dev/ttyS0 - - - - injected"

// inject offers it, with more devices and tables than the image was made for.
func (m *machine) inject(t *testing.T) {
	t.Helper()
	m.add("-smbios", "type=11,value=io.systemd.credential:tmpfiles.extra="+injected,
		"-fw_cfg", "name=opt/io.systemd.credentials/tmpfiles.extra,string="+injected,
		"-acpitable", "sig=SSDT,rev=2,oem_id=HOST,data="+m.file(t, "aml", []byte{0x08, 'H', 'O', 'S', 'T', 0x01}),
		"-netdev", "user,id=second,restrict=on", "-device", "virtio-net-pci,netdev=second,romfile=",
		"-drive", "if=none,id=second,format=raw,readonly=on,file="+m.file(t, "second", make([]byte, 1<<20)), "-device", "virtio-blk-pci,drive=second")
}

// TestAttackInjection offers credentials by SMBIOS and by fw_cfg as systemd takes them, one more ACPI table, a second network
// device, a second disk, and somebody who types on the serial line. Nothing of it has any effect.
func TestAttackInjection(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.inject(t)
	m.replace("file,id=console", "stdio,id=console,signal=off")
	m.script.WriteString("exec <'" + m.file(t, "typed", []byte("\n\nroot\nid; echo injected\n")) + "' >>'" + m.config.Console + "'\n")
	c := m.boot(t)
	c.unharmed(t)
	if c.console != "" {
		t.Errorf("the serial line: %q", c.console)
	}
}
