// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/kettle/attest/image"
)

const (
	rootFile   = "root.erofs"
	deviceWait = 10 * time.Second
	maxRoot    = 8 << 30
)

// loadRoot copies the disk of serial number [image.RootSerial] into memory and gives its size. It is an error, and nothing
// is mounted, when its digest is not want. The memory belongs to a ramfs: the kernel can read an erofs image from a
// file there without a loop device, and a second look at the disk never happens.
func loadRoot(ctx context.Context, want image.SHA256) (int64, error) {
	device, err := findDisk(ctx, "/sys/class/block", image.RootSerial)
	if err != nil {
		return 0, err
	}
	if err := os.MkdirAll(imageDir, 0o700); err != nil {
		return 0, fmt.Errorf("making memory for the root image: %w", err)
	}
	if err := unix.Mount("ramfs", imageDir, "ramfs", quiet, "mode=0700"); err != nil {
		return 0, fmt.Errorf("making memory for the root image: %w", err)
	}
	got, size, err := copyHashing(ctx, filepath.Join("/dev", device), filepath.Join(imageDir, rootFile))
	if err != nil {
		return 0, fmt.Errorf("copying the root image: %w", err)
	}
	if got != want {
		return 0, fmt.Errorf("the root image is not the one on the measured command line: want %s, got %s", want, got)
	}
	return size, nil
}

// findDisk waits for a block device with that serial number and gives its name in /dev.
func findDisk(ctx context.Context, class, serial string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, deviceWait)
	defer cancel()
	for {
		files, err := filepath.Glob(filepath.Join(class, "*", "serial"))
		if err != nil {
			return "", fmt.Errorf("finding the disk %s: %w", serial, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file) //nolint:gosec // sysfs.
			if err == nil && string(bytes.TrimSpace(text)) == serial {
				return filepath.Base(filepath.Dir(file)), nil
			}
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return "", fmt.Errorf("finding the disk %s: none appeared within %v", serial, deviceWait)
		}
	}
}

// copyHashing reads the device once, past the page cache, straight into the pages of the new file, and hashes what
// lies in those pages.
func copyHashing(ctx context.Context, device, target string) (digest image.SHA256, size int64, err error) {
	source, err := os.OpenFile(device, os.O_RDONLY|unix.O_DIRECT, 0) //nolint:gosec // the device found by its serial number.
	if err != nil {
		return digest, 0, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	if size, err = source.Seek(0, io.SeekEnd); err != nil {
		return digest, 0, err
	}
	if size <= 0 || size > maxRoot {
		return digest, 0, fmt.Errorf("the disk has %d bytes, want 1 to %d", size, int64(maxRoot))
	}
	memory, err := mapNew(target, size)
	if err != nil {
		return digest, 0, err
	}
	defer func() { err = errors.Join(err, unix.Munmap(memory)) }()
	digest, err = hashWhileReading(ctx, source, memory)
	return digest, size, err
}

// mapNew makes a file of that size and maps it, shared and writable.
func mapNew(path string, size int64) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o400) //nolint:gosec // a path in the memory file system.
	if err != nil {
		return nil, err
	}
	if err := file.Truncate(size); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	memory, err := unix.Mmap(int(file.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return memory, errors.Join(err, file.Close())
}

// hashWhileReading fills memory from source, part by part, and gives the root digest of it. There is a worker for each
// processor, which reads a part and hashes it while the others do the same.
func hashWhileReading(ctx context.Context, source io.ReaderAt, memory []byte) (image.SHA256, error) {
	digests := make([]image.SHA256, (len(memory)+image.RootPart-1)/image.RootPart)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.NumCPU())
	for i := range digests {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			at := i * image.RootPart
			part := memory[at:min(at+image.RootPart, len(memory))]
			if n, err := source.ReadAt(part, int64(at)); n < len(part) {
				return fmt.Errorf("reading at %d: %w", at, err)
			}
			digests[i] = sha256.Sum256(part)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return image.SHA256{}, err
	}
	return image.RootDigest(int64(len(memory)), digests), nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
