// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/runner/boot"
	"github.com/kettle/attest/runner/boot/dm"
	"github.com/kettle/attest/runner/channel"
)

var (
	oldContent = bytes.Repeat([]byte("a secret of the job, first state\n"), 1<<17)
	newContent = bytes.Repeat([]byte("a secret of the job, other state\n"), 1<<17)
	content    = filepath.Join(image.ScratchDir, "content")
)

// sealedDisk makes the job's disk on the host's, and writes to it.
func sealedDisk(ctx context.Context) (string, error) {
	begin := time.Now()
	device, err := boot.MakeScratch(ctx, boot.Scratch{
		Place: boot.OnDisk, Dir: image.ScratchDir, Mkfs: image.MakeXFS, Bytes: disk, JobMemory: 64 << 20,
	})
	if err != nil {
		return "", err
	}
	took := time.Since(begin)
	if err := mounted(); err != nil {
		return "", err
	}
	begin = time.Now()
	if err := replace(oldContent); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s made in %v, %d MiB written in %v", device, took.Round(time.Millisecond), len(oldContent)>>20, time.Since(begin).Round(time.Millisecond)), nil
}

// replace overwrites the file in place and waits until it is on the disk.
func replace(data []byte) error {
	file, err := os.OpenFile(content, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(data, 0)
	return errors.Join(err, file.Sync(), file.Close())
}

// again reads the file from the disk, with nothing kept from before, tags included.
func again() ([]byte, error) {
	unix.Sync()
	for range 2 {
		for path, value := range map[string]string{"/sys/module/dm_bufio/parameters/retain_bytes": "0", "/proc/sys/vm/drop_caches": "3"} {
			if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
				return nil, err
			}
		}
	}
	return os.ReadFile(content)
}

// told tells the host where the guest is, and waits until it has written the same word to the last block of its disk.
func told(ctx context.Context, guest *channel.Guest, word string) error {
	if err := guest.Send(ctx, channel.Phase{Name: word}); err != nil {
		return err
	}
	for ; ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0o600); err != nil {
			return err
		}
		block, err := lastBlock("/dev/vdb")
		if err != nil {
			return err
		}
		if bytes.HasPrefix(block, []byte(word)) {
			return nil
		}
	}
	return ctx.Err()
}

func lastBlock(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	block := make([]byte, 4096)
	end, err := file.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = file.ReadAt(block, end-int64(len(block)))
	}
	return block, errors.Join(err, file.Close())
}

func sealed(ctx context.Context) (string, error) {
	said, err := sealedDisk(ctx)
	if err != nil {
		return "", err
	}
	begin := time.Now()
	data, err := again()
	if err != nil || !bytes.Equal(data, oldContent) {
		return "", fmt.Errorf("the disk does not keep what it gets: %w", err)
	}
	said += fmt.Sprintf(", read in %v", time.Since(begin).Round(time.Millisecond))
	control, err := dm.Open()
	if err != nil {
		return "", err
	}
	kind, _, err := control.Status("kettle-crypt")
	return "kept: " + kind + " " + said, errors.Join(err, control.Close())
}

// spoiled lets the host change what the file lies on.
func spoiled(ctx context.Context, guest *channel.Guest) (string, error) {
	if _, err := sealedDisk(ctx); err != nil {
		return "", err
	}
	if err := told(ctx, guest, "written"); err != nil {
		return "", err
	}
	return found(), nil
}

// rolled overwrites what the host has seen.
func rolled(ctx context.Context, guest *channel.Guest) (string, error) {
	if _, err := sealedDisk(ctx); err != nil {
		return "", err
	}
	if err := told(ctx, guest, "first"); err != nil {
		return "", err
	}
	if err := replace(newContent); err != nil {
		return "", err
	}
	if err := told(ctx, guest, "second"); err != nil {
		return "", err
	}
	return found(), nil
}

// found says what the file is now.
func found() string {
	data, err := again()
	switch {
	case err != nil:
		return "refused: " + err.Error()
	case bytes.Equal(data, oldContent):
		return "the old content"
	case bytes.Equal(data, newContent):
		return "the new content"
	default:
		return "neither"
	}
}
