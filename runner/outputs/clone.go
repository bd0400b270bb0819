// SPDX-License-Identifier: Apache-2.0

package outputs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/runner/beneath"
)

// errNoClone means that the file system cannot share a file's blocks now, or not soon enough.
var errNoClone = errors.New("the file system cannot clone the outputs")

// maxExtents bounds the pieces of all files of a snapshot: cloning takes as long as there are pieces, whatever their
// size, cannot be interrupted, and a job chooses how many there are.
const maxExtents = 1 << 13

// flushStep is how much of a file is flushed at once: what a job wrote since [Settle] lies in pieces of its choice too.
const flushStep = 64 << 20

// Settle has everything that was written to the file system of dir reach its disk. Called before a sandbox is frozen, it
// takes out of the frozen time what cloning would have to flush. A flush that outlasts ctx goes on behind its back.
func Settle(ctx context.Context, dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("settling the disk: %w", &os.PathError{Op: "open", Path: dir, Err: err})
	}
	done := make(chan error, 1)
	go func() {
		err := unix.Syncfs(fd)
		done <- errors.Join(err, unix.Close(fd))
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("settling the disk: %w", err)
	}
	return nil
}

// openSnapshots opens the folder for clones, which nobody but kettled may enter.
func openSnapshots(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening the folder for snapshots: %w", &os.PathError{Op: "open", Path: dir, Err: err})
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && (int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0) {
		err = fmt.Errorf("it is of user %d with mode %#o, and has to be ours alone", st.Uid, st.Mode&0o7777)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("checking the folder for snapshots: %w", err)
	}
	return fd, nil
}

// cloner makes clones in a folder, while the sandbox stands still.
type cloner struct {
	volumes *volumes
	clock   clock
	dir     int
	extents uint64 // of the files so far
}

// hold replaces the job's file by a clone of it that has no name: nobody else can reach it, and it is gone when it is
// closed. The kernel clones a file as a whole, so that it is one state even if somebody writes.
func (c *cloner) hold(ctx context.Context, f *file) error {
	if err := c.flush(ctx, f); err != nil {
		return err
	}
	n, err := extents(f.f)
	if c.extents += n; err != nil || c.extents > maxExtents {
		return errors.Join(errNoClone, err)
	}
	fd, err := beneath.Open(c.dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_EXCL)
	if err != nil {
		return cloneError(f.path, err)
	}
	clone := os.NewFile(uintptr(fd), "snapshot")
	if err = unix.IoctlFileClone(fd, int(f.f.Fd())); err != nil {
		err = cloneError(f.path, err)
	} else if err = c.volumes.unchanged(f.f, f.path, f.before); err == nil {
		err = whole(clone, f)
	}
	if err != nil {
		_ = clone.Close()
		return err
	}
	original := f.f
	f.f = clone
	return original.Close()
}

// flush has the file's bytes reach the disk, in steps that the clock can end: cloning would flush them in one.
func (c *cloner) flush(ctx context.Context, f *file) error {
	const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	for at := int64(0); at < f.before.Size; at += flushStep {
		if err := c.clock.check(ctx); err != nil {
			return err
		}
		if err := unix.SyncFileRange(int(f.f.Fd()), at, flushStep, all); err != nil {
			return cloneError(f.path, err)
		}
	}
	return nil
}

// whole demands that the clone has the size of its file.
func whole(clone *os.File, f *file) error {
	info, err := clone.Stat()
	if err != nil {
		return fmt.Errorf("reading the state of a snapshot: %w", err)
	}
	if info.Size() != f.before.Size {
		return changed(f.path)
	}
	return nil
}

// cloneError tells what a file system cannot do, or has no room for, from errors of the disk.
func cloneError(p string, err error) error {
	for _, cannot := range []error{
		unix.EOPNOTSUPP, unix.ENOTTY, unix.ENOSYS, unix.EXDEV, unix.EINVAL, unix.ENOSPC, unix.EDQUOT, unix.EFBIG, unix.ETXTBSY, unix.EISDIR,
	} {
		if errors.Is(err, cannot) {
			return errors.Join(errNoClone, err)
		}
	}
	return fmt.Errorf("cloning %s: %w", quote(p), err)
}

// getAttributes is FS_IOC_FSGETXATTR of linux/fs.h.
const getAttributes = 0x801c581f

// attributes is struct fsxattr of linux/fs.h.
type attributes struct {
	_       uint32 // flags
	_       uint32 // hint of the extent size
	extents uint32
	_       [16]byte
}

// extents counts the pieces of a file. XFS knows them; other file systems say 0.
func extents(f *os.File) (uint64, error) {
	var a attributes
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), getAttributes, uintptr(unsafe.Pointer(&a))) //nolint:gosec // a structure of the kernel's size.
	if errno != 0 {
		return 0, errno
	}
	return uint64(a.extents), nil
}
