// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/verity"
)

func TestFindDisk(t *testing.T) {
	t.Parallel()
	class := t.TempDir()
	write(t, filepath.Join(class, "vda", "serial"), "other\n")
	write(t, filepath.Join(class, "vdb", "serial"), "kettle-root")
	write(t, filepath.Join(class, "nvme0n1p3", "uevent"), "MAJOR=259\nDEVTYPE=partition\nPARTN=3\nPARTNAME=kettle-bundle\n")
	write(t, filepath.Join(class, "sda", "uevent"), "MAJOR=8\nDEVTYPE=disk\n")
	for name, want := range map[string]string{"kettle-root": "vdb", "kettle-bundle": "nvme0n1p3"} {
		if got, err := findDisk(t.Context(), class, name); err != nil || got != want {
			t.Errorf("%s: want %q, got %q, %v", name, want, got, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	for _, name := range []string{"kettle", "kettle-bundle ", "ettle-root", "kettle-scratch"} {
		if got, err := findDisk(ctx, class, name); err == nil {
			t.Errorf("%q was enough for %q", name, got)
		}
	}
}

// TestFindDiskLater lets the disk appear while it is waited for.
func TestFindDiskLater(t *testing.T) {
	t.Parallel()
	class := t.TempDir()
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(20 * time.Millisecond)
		write(t, filepath.Join(class, "sda2", "uevent"), "PARTNAME=kettle-root\n")
	}()
	if got, err := findDisk(t.Context(), class, "kettle-root"); err != nil || got != "sda2" {
		t.Errorf("got %q, %v", got, err)
	}
	<-done
}

// TestAttackSecondDisk adds a disk of the same name, of the same kind and of another.
func TestAttackSecondDisk(t *testing.T) {
	t.Parallel()
	for name, second := range map[string]string{"a partition": "sda1/uevent", "a whole disk": "vdb/serial"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			class := t.TempDir()
			write(t, filepath.Join(class, "vda2", "uevent"), "PARTNAME=kettle-root\n")
			write(t, filepath.Join(class, second), "PARTNAME=kettle-root\n")
			if strings.HasSuffix(second, "serial") {
				write(t, filepath.Join(class, second), "kettle-root")
			}
			got, err := findDisk(t.Context(), class, "kettle-root")
			if err == nil || !strings.Contains(err.Error(), "there are 2 of that name") {
				t.Errorf("%q was chosen: %v", got, err)
			}
		})
	}
}

// TestCheckRoot gives the sentence that an operator sees who started a machine with another disk.
func TestCheckRoot(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("kettle.."), 4096/8*300)
	tree, root, err := verity.Build(t.Context(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	want := image.Verity{RootHash: root, DataBlocks: 300}
	whole := string(data) + string(tree)
	for name, tt := range map[string]struct {
		disk  string
		root  image.Verity
		fault string
	}{
		"the root":            {whole, want, ""},
		"with more behind it": {whole + strings.Repeat("x", 8192), want, ""},
		"a changed start":     {"K" + whole[1:], want, "not the one on the measured command line"},
		"a changed tree":      {whole[:len(data)] + "x" + whole[len(data)+1:], want, "not the one on the measured command line"},
		"another root hash":   {whole, image.Verity{RootHash: image.SHA256{1}, DataBlocks: 300}, "not the one on the measured command line"},
		"other blocks":        {whole, image.Verity{RootHash: root, DataBlocks: 299}, "not the one on the measured command line"},
		"a byte less":         {whole[:len(whole)-1], want, "want 1245184 bytes"},
		"nothing":             {"", want, "want 1245184 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := checkRoot(write(t, filepath.Join(t.TempDir(), "disk"), tt.disk), tt.root)
			if tt.fault == "" && err != nil || tt.fault != "" && (err == nil || !strings.Contains(err.Error(), tt.fault)) {
				t.Errorf("want %q, got %v", tt.fault, err)
			}
		})
	}
	if err := checkRoot(filepath.Join(t.TempDir(), "none"), want); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no disk: got %v", err)
	}
}

func TestLargeEnough(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "disk"), "")
	if err := os.Truncate(path, 256<<20); err != nil {
		t.Fatal(err)
	}
	if err := largeEnough(path, 256<<20); err != nil {
		t.Error(err)
	}
	if err := largeEnough(path, 320<<20); err == nil || !strings.Contains(err.Error(), "the disk kettle-scratch has 256 MiB, which is too little for the job's disk: give it 320 MiB") {
		t.Errorf("got %v", err)
	}
	if err := largeEnough(path+".not", 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
