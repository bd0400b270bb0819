// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/verity"
	"github.com/kettle/attest/runner/boot/dm"
)

// mapRoot finds the root image and gives the device from which it is read: the kernel compares each block, whenever it is
// read, with the hash tree that the measured command line names, and stops at the first that is another (see [dm.Verity]).
// Nothing that is read from the disk decides how it is checked.
func mapRoot(ctx context.Context, want image.Verity) (path string, err error) {
	device, err := findDisk(ctx, "/sys/class/block", image.RootName)
	if err != nil {
		return "", err
	}
	if err := checkRoot("/dev/"+device, want); err != nil {
		return "", err
	}
	target, err := dm.Verity{Device: "/dev/" + device, RootHash: want.RootHash, DataBlocks: want.DataBlocks}.Target()
	if err != nil {
		return "", fmt.Errorf("mapping the root image: %w", err)
	}
	control, err := dm.Open()
	if err != nil {
		return "", fmt.Errorf("mapping the root image: %w", err)
	}
	defer func() { err = errors.Join(err, control.Close()) }()
	if path, err = control.Create(image.RootName, target); err != nil {
		return "", fmt.Errorf("mapping the root image: %w", err)
	}
	return path, nil
}

// checkRoot compares the first block with the root hash before the kernel does, which says no sentence when it stops. It is
// there for whoever started a machine with another image's disk; what protects the root is the kernel's check.
func checkRoot(path string, want image.Verity) (err error) {
	disk, err := os.Open(path) //nolint:gosec // the device found by its name.
	if err != nil {
		return fmt.Errorf("reading the root image: %w", err)
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	size, err := disk.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("reading the root image: %w", err)
	}
	tree := verity.TreeBlocks(want.DataBlocks) * verity.BlockSize
	start := want.DataBlocks * verity.BlockSize
	if size < start+tree {
		return fmt.Errorf("the root image is not the one on the measured command line: want %d bytes with its hash tree, got %d", start+tree, size)
	}
	block := make([]byte, verity.BlockSize)
	if _, err := disk.ReadAt(block, 0); err != nil {
		return fmt.Errorf("reading the root image: %w", err)
	}
	err = verity.Check(io.NewSectionReader(disk, start, tree), want.RootHash, want.DataBlocks, 0, block)
	if errors.Is(err, verity.ErrMismatch) {
		return fmt.Errorf("the root image is not the one on the measured command line, or was changed: %w", err)
	}
	return err
}
