// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/runner/boot/dm"
)

// Names of the two devices between the host's disk and the job's.
const (
	tagsName  = "kettle-tags"
	cryptName = "kettle-crypt"
)

// seal puts a device of that many bytes on the disk of the name [image.ScratchName]: the host, who has the disk, finds
// ciphertext there, and what it changes is an input/output error to whoever reads it. The tags by which that is seen lie in
// the machine's own memory ([image.ScratchDevice], a 64th of the disk): a sector of another place, of another boot, or an
// older one of this boot, fits none of them. At the end of the machine what was written is lost: nobody else has the key.
func seal(ctx context.Context, size int64) (path string, err error) {
	device, err := findDisk(ctx, "/sys/class/block", image.ScratchName)
	if err != nil {
		return "", err
	}
	disk := "/dev/" + device
	if err := largeEnough(disk, size); err != nil {
		return "", err
	}
	control, err := dm.Open()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, control.Close()) }()
	tags, err := dm.Integrity{Device: disk, Tags: image.ScratchDevice, Bytes: size}.Target()
	if err != nil {
		return "", err
	}
	tagged, err := control.Create(tagsName, tags)
	if err != nil {
		return "", err
	}
	key := make([]byte, dm.KeySize)
	defer clear(key)
	_, _ = rand.Read(key) // it never fails (crypto/rand).
	crypt, err := dm.Crypt{Device: tagged, Bytes: size, Key: key}.Target()
	if err == nil {
		path, err = control.Create(cryptName, crypt)
	}
	if err != nil {
		return "", errors.Join(err, control.Remove(tagsName))
	}
	return path, nil
}

// largeEnough demands that the disk has that many bytes.
func largeEnough(path string, size int64) (err error) {
	disk, err := os.Open(path) //nolint:gosec // the device found by its name.
	if err != nil {
		return fmt.Errorf("opening the disk %s: %w", image.ScratchName, err)
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	got, err := disk.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("measuring the disk %s: %w", image.ScratchName, err)
	}
	if got < size {
		return fmt.Errorf("the disk %s has %s, which is too little for the job's disk: give it %s, or the job less", image.ScratchName, mib(got), mib(size))
	}
	return nil
}
