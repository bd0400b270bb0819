// SPDX-License-Identifier: Apache-2.0

package measure_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"testing"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/measure"
)

func launch() measure.Launch {
	return measure.Launch{
		Firmware:    sha256.Sum256([]byte("firmware")),
		Kernel:      sha256.Sum256([]byte("kernel")),
		Initrd:      sha256.Sum256([]byte("initrd")),
		CommandLine: measure.CommandLine("quiet"),
	}
}

// TestSimGolden must never be edited: a change of the encoding is a v2.
func TestSimGolden(t *testing.T) {
	t.Parallel()
	const want = "c32b2107efe24461b6fe0e10b2b75da00ed491cc70637d0b9febae65f5718d3062efe791bc7782b5bb5d297a3c2942be"
	digest := measure.Sim(launch())
	if got := hex.EncodeToString(digest[:]); got != want {
		t.Errorf("want %s, got %s", want, got)
	}
}

// TestSimEncoding writes the documented bytes out by hand.
func TestSimEncoding(t *testing.T) {
	t.Parallel()
	l := launch()
	var b bytes.Buffer
	b.WriteString("\x00\x00\x00\x14kettle.sim.launch/v1")
	b.WriteString("\x00\x00\x00\x08firmware\x00\x00\x00\x20")
	b.Write(l.Firmware[:])
	b.WriteString("\x00\x00\x00\x06kernel\x00\x00\x00\x20")
	b.Write(l.Kernel[:])
	b.WriteString("\x00\x00\x00\x06initrd\x00\x00\x00\x20")
	b.Write(l.Initrd[:])
	b.WriteString("\x00\x00\x00\x0ccommand-line\x00\x00\x00\x20")
	b.Write(l.CommandLine[:])
	if want, got := sha512.Sum384(b.Bytes()), measure.Sim(l); got != want {
		t.Errorf("want %x, got %x", want, got)
	}
}

func TestSimDependsOnEachPart(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*measure.Launch){
		"firmware":     func(l *measure.Launch) { l.Firmware[31] ^= 1 },
		"kernel":       func(l *measure.Launch) { l.Kernel[0] ^= 1 },
		"initrd":       func(l *measure.Launch) { l.Initrd[7] ^= 1 },
		"command line": func(l *measure.Launch) { l.CommandLine[9] ^= 1 },
		"two exchanged": func(l *measure.Launch) {
			l.Kernel, l.Initrd = l.Initrd, l.Kernel
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := launch()
			change(&l)
			if measure.Sim(l) == measure.Sim(launch()) {
				t.Error("the same launch digest")
			}
		})
	}
}

func TestManifestAgrees(t *testing.T) {
	t.Parallel()
	l := launch()
	m := &image.Manifest{
		Files: image.Files{
			Firmware: image.File{SHA256: l.Firmware}, Kernel: image.File{SHA256: l.Kernel}, Initrd: image.File{SHA256: l.Initrd},
		},
		CommandLine: "quiet",
	}
	if got := measure.Manifest(m); got != l {
		t.Errorf("want %v, got %v", l, got)
	}
}
