// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/runner/boot"
)

const (
	disk  = 256 << 20
	large = 128 << 20 // a file
)

// scratch makes the job's disk and fills it. What it gives are measurements.
func scratch(ctx context.Context) (string, error) {
	s := boot.Scratch{
		Place: boot.InMemory, Dir: image.ScratchDir, Mkfs: image.MakeXFS,
		Bytes: 1 << 40, JobMemory: 64 << 20,
	}
	if _, err := boot.MakeScratch(ctx, s); err == nil || !strings.Contains(err.Error(), "give the machine more") {
		return "", fmt.Errorf("a disk larger than the machine: %w", err)
	}
	s.Bytes = disk
	begin, before := time.Now(), memory("MemFree:")
	if _, err := boot.MakeScratch(ctx, s); err != nil {
		return "", err
	}
	said := fmt.Sprintf("made in %v for %d KiB", time.Since(begin).Round(time.Millisecond), before-memory("MemFree:"))
	if _, err := boot.MakeScratch(ctx, s); err == nil {
		return "", errors.New("the disk was made twice")
	}
	if err := mounted(); err != nil {
		return "", err
	}
	for _, step := range []func() (string, error){cloned, given, filled} {
		result, err := step()
		if err != nil {
			return "", err
		}
		said += "; " + result
	}
	return said, nil
}

// mounted looks at the mount: nodev and noatime, but sudo may work, and others pass but do not look.
func mounted() error {
	var s unix.Statfs_t
	if err := unix.Statfs(image.ScratchDir, &s); err != nil {
		return err
	}
	if s.Flags&unix.ST_NODEV == 0 || s.Flags&unix.ST_NOATIME == 0 || s.Flags&unix.ST_NOSUID != 0 || int64(s.Blocks)*s.Bsize > disk {
		return fmt.Errorf("flags %#x, %d blocks of %d", s.Flags, s.Blocks, s.Bsize)
	}
	info, err := os.Stat(image.ScratchDir)
	if err != nil || info.Mode() != os.ModeDir|0o711 {
		return fmt.Errorf("mode %v, %w", info.Mode(), err)
	}
	node := filepath.Join(image.ScratchDir, "mem")
	if err := unix.Mknod(node, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 1))); err != nil {
		return err
	}
	if _, err := os.Open(node); !errors.Is(err, unix.EACCES) {
		return fmt.Errorf("a device opens: %w", err)
	}
	return os.Remove(node)
}

// cloned clones a file that is larger than half of the disk.
func cloned() (string, error) {
	from, err := write("from", large+large/4)
	if err != nil {
		return "", err
	}
	defer from.Close()
	to, err := os.Create(filepath.Join(image.ScratchDir, "to"))
	if err != nil {
		return "", err
	}
	defer to.Close()
	begin := time.Now()
	if err := unix.IoctlFileClone(int(to.Fd()), int(from.Fd())); err != nil {
		return "", fmt.Errorf("cloning a file: %w", err)
	}
	took := time.Since(begin)
	return fmt.Sprintf("cloned in %v", took), errors.Join(os.Remove(from.Name()), os.Remove(to.Name()))
}

// given demands that the memory of a deleted file comes back.
func given() (string, error) {
	before, err := settle(func(int64) bool { return false })
	if err != nil {
		return "", err
	}
	file, err := write("large", large)
	if err != nil {
		return "", err
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return "", err
	}
	full, err := settle(func(int64) bool { return false })
	if err != nil {
		return "", err
	}
	begin := time.Now()
	if err := os.Remove(file.Name()); err != nil {
		return "", err
	}
	after, err := settle(func(free int64) bool { return before-free < large>>10/8 })
	if err != nil {
		return "", err
	}
	if before-full < large>>10/2 || before-after > large>>10/8 {
		limit, _ := os.ReadFile("/sys/block/ram0/queue/discard_max_bytes")
		return "", fmt.Errorf("memory is not given back: %d KiB, with the file %d KiB, without it %d KiB; discard_max_bytes %q", before, full, after, limit)
	}
	return fmt.Sprintf("%d KiB given back within %v", after-full, time.Since(begin).Round(time.Millisecond)), nil
}

// settle gives the free memory without caches, as soon as it is enough or after some seconds.
func settle(enough func(kib int64) bool) (int64, error) {
	for end := time.Now().Add(3 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		unix.Sync() // a deletion is given back once it is on the disk, and is done itself in the background
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0o600); err != nil {
			return 0, err
		}
		if free := memory("MemFree:"); enough(free) || time.Now().After(end) {
			return free, nil
		}
	}
}

// filled demands that the disk ends where its size says.
func filled() (string, error) {
	file, err := write("full", disk)
	if !errors.Is(err, unix.ENOSPC) {
		return "", fmt.Errorf("the disk does not end: %w", err)
	}
	written, err := file.Seek(0, 1)
	return fmt.Sprintf("full after %d of %d MiB", written>>20, disk>>20), errors.Join(err, file.Close(), os.Remove(file.Name()))
}

// write writes that many bytes that are not zero.
func write(name string, size int) (*os.File, error) {
	file, err := os.Create(filepath.Join(image.ScratchDir, name))
	if err != nil {
		return nil, err
	}
	part := []byte(strings.Repeat("scratch\n", 1<<17))
	for ; size > 0; size -= len(part) {
		if _, err := file.Write(part); err != nil {
			return file, err
		}
	}
	return file, nil
}

// memory reads a line of /proc/meminfo in KiB.
func memory(name string) int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == name {
			kib, _ := strconv.ParseInt(words[1], 10, 64)
			return kib
		}
	}
	return 0
}
