// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// QCOW2 writes the disk at raw as a qcow2 file at path, where no file may be. One version of qemu-img gives the same bytes of
// the same disk.
//
// It runs qemu-img (qemu-utils), in one line of work and in the order of the disk.
func QCOW2(ctx context.Context, raw, path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("writing a qcow2 file: %s is there already", path)
	}
	args := []string{"convert", "-f", "raw", "-O", "qcow2", "-o", "compat=1.1,lazy_refcounts=off,preallocation=off", "-m", "1", "--", raw, path}
	if err := run(ctx, "qemu-img", args...); err != nil {
		return errors.Join(fmt.Errorf("writing a qcow2 file: %w", err), remove(path))
	}
	return nil
}

// remove removes a file that may not be there.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err //nolint:wrapcheck // it names the path.
	}
	return nil
}
