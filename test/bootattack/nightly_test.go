// SPDX-License-Identifier: Apache-2.0

//go:build nightly

package bootattack

import (
	"testing"

	"github.com/kettle/attest/image"
)

// nightly says that everything is run: go test -tags nightly. What it adds stops at a check that some other test of this package
// stops at too.
const nightly = true

// TestAttackUKIVariables starts the image with other variables of firmware, which a processor measures.
func TestAttackUKIVariables(t *testing.T) {
	t.Parallel()
	m := fromDisk(t)
	m.config.UKI.Variables = m.file(t, "variables", withVariable(t))
	c := m.boot(t)
	c.refuses(t, "reference values refused (measurement)")
	if c.measured {
		t.Error("other variables have the same launch digest")
	}
}

// TestAttackUKIChanged puts another unified kernel image onto the disk: one byte of its padding differs.
func TestAttackUKIChanged(t *testing.T) {
	t.Parallel()
	m := fromDisk(t)
	m.config.Disk = m.copyOf(t, m.config.Disk)
	m.changeUKI(t, m.config.Disk)
	c := m.boot(t)
	c.refuses(t, "reference values refused (measurement)")
	if c.measured {
		t.Error("another image has the same launch digest")
	}
}

// TestAttackOtherRoot starts the image with another root, well sealed, and the command line that names it.
func TestAttackOtherRoot(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	root := m.otherRoot(t)
	m.config.CommandLine = m.line(t, func(l *image.CommandLine) { l.Root = root })
	c := m.boot(t)
	c.refuses(t, "reference values refused (measurement)")
	if c.measured {
		t.Error("another command line has the same launch digest")
	}
}

// TestBootUKI is the same disk as [TestBoot]'s, started by firmware.
func TestBootUKI(t *testing.T) {
	t.Parallel()
	fromDisk(t).boot(t).unharmed(t)
}

// TestAttackUKIAppend hands the image to firmware with a command line of the host's, which replaces the image's own: it names
// another root, well sealed, which lies on the disk. No register of a TPM but 9 and 12 would show it.
func TestAttackUKIAppend(t *testing.T) {
	t.Parallel()
	m := fromDisk(t)
	root := m.otherRoot(t)
	m.replace("virtio-blk-pci,drive=root,bootindex", "virtio-blk-pci,drive=root") // the kernel comes first
	m.add("-kernel", m.File(m.manifest.Files.UKI), "-append", m.line(t, func(l *image.CommandLine) { l.Root = root }))
	m.boot(t).refuses(t, "reference values refused (measurement)", "command-line sha256:")
}
