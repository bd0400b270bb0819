// SPDX-License-Identifier: Apache-2.0

package boot_test

import (
	"testing"

	"github.com/kettle/attest/image/measure/boot"
	"github.com/kettle/attest/image/measure/measuretest"
)

// FuzzUKI: a prediction or an error, and the same one twice.
func FuzzUKI(f *testing.F) {
	for _, version := range []string{"252", "255", "257", "259", "262"} {
		f.Add(uki(version, parts()), measuretest.Disk())
	}
	f.Fuzz(func(t *testing.T, image, disk []byte) {
		for _, u := range []boot.UKI{{Image: image, Loader: boot.Disk, GPT: disk}, {Image: image, Loader: boot.Handed}} {
			for _, target := range []boot.Target{boot.TPM, boot.TDX} {
				l, err := u.Log(target)
				if (err == nil) != (l != nil) {
					t.Fatalf("a log %v and an error %v", l, err)
				}
			}
		}
	})
}

// FuzzDirect: a prediction or an error.
func FuzzDirect(f *testing.F) {
	f.Add(measuretest.Kernel("kernel"), []byte("initrd"), "console=ttyS0", uint64(0))
	f.Add(measuretest.Kernel("kernel"), []byte("initrd"), "console=ttyS0", uint64(2<<30))
	f.Fuzz(func(t *testing.T, kernel, initrd []byte, line string, memory uint64) {
		d := boot.Direct{Kernel: kernel, Initrd: initrd, CommandLine: line, Option: boot.InitrdFirst, Memory: memory}
		l, err := d.Log(boot.TDX)
		if (err == nil) != (l != nil) {
			t.Fatalf("a log %v and an error %v", l, err)
		}
	})
}

func BenchmarkUKI(b *testing.B) {
	sections := parts()
	for i := range sections {
		if sections[i].Name == ".initrd" {
			sections[i].Data = make([]byte, 4<<20)
		}
	}
	image := uki("257", sections)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (boot.UKI{Image: image, Loader: boot.Disk}).Log(boot.TPM); err != nil {
			b.Fatal(err)
		}
	}
}
