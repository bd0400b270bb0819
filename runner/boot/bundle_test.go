// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/image/disk/slot"
)

func TestReadBundle(t *testing.T) {
	t.Parallel()
	bundle := []byte("{}\n{}\n")
	encoded, err := slot.Encode(bundle)
	if err != nil {
		t.Fatal(err)
	}
	class, dev := t.TempDir(), t.TempDir()
	write(t, filepath.Join(class, "sda", "uevent"), "DEVTYPE=disk\n")
	write(t, filepath.Join(class, "sda3", "uevent"), "PARTN=3\nPARTNAME=kettle-bundle\n")
	write(t, filepath.Join(dev, "sda3"), string(encoded))
	if got, err := readBundle(class, dev); err != nil || string(got) != string(bundle) {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestAttackBundlePartition gives what is no bundle. None is read beyond its bounds, and each is one plain refusal.
func TestAttackBundlePartition(t *testing.T) {
	t.Parallel()
	empty, err := slot.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	header := func(length string) string { return "KETTLEB1" + length }
	for name, tt := range map[string]struct {
		partitions []string
		is         error
	}{
		"no partition":        {nil, refusal.ErrMissing},
		"two partitions":      {[]string{string(empty), string(empty)}, refusal.ErrMalformed},
		"no bundle":           {[]string{string(empty)}, refusal.ErrMissing},
		"nothing in it":       {[]string{""}, refusal.ErrMalformed},
		"other magic":         {[]string{"KETTLEB2" + string(empty[8:])}, refusal.ErrMalformed},
		"a huge length":       {[]string{header("\xff\xff\xff\xff\xff\xff\xff\xff") + string(empty[16:])}, refusal.ErrMalformed},
		"a byte too many":     {[]string{header("\x00\x00\x00\x00\x00\x3f\xff\xf1") + string(empty[16:])}, refusal.ErrMalformed},
		"cut off":             {[]string{header("\x00\x00\x00\x00\x00\x00\x10\x00") + strings.Repeat("x", 4095)}, refusal.ErrMalformed},
		"a part of a header":  {[]string{"KETTLEB1\x00\x00"}, refusal.ErrMalformed},
		"a file system there": {[]string{strings.Repeat("\xeb\x3c\x90mkfs.fat", 1<<16)}, refusal.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			class, dev := t.TempDir(), t.TempDir()
			for i, content := range tt.partitions {
				device := fmt.Sprintf("vd%c3", 'a'+i)
				write(t, filepath.Join(class, device, "uevent"), "PARTNAME=kettle-bundle\n")
				write(t, filepath.Join(dev, device), content)
			}
			got, err := readBundle(class, dev)
			if got != nil || !errors.Is(err, tt.is) {
				t.Errorf("want %v, got %.40q, %v", tt.is, got, err)
			}
		})
	}
}
