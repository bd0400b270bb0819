// SPDX-License-Identifier: Apache-2.0

package outputs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/refusal"
)

// resolution is how every path of the sandbox is resolved (openat2(2)): nothing leads out of the root, no symbolic or
// magic link is followed anywhere in the path, and no mount point is crossed.
const resolution = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// openRetries bounds repeating openat2 after EAGAIN, which means that the tree was renamed during the resolution.
const openRetries = 16

// tree is the sandbox's root directory as kettled sees it.
type tree struct {
	fd     int
	fsType int64
}

// openTree opens root, which must lie on one of the local file systems that a sandbox is made of: a FUSE or network file
// system could hang the reader for as long as its server likes.
func openTree(root string) (*tree, error) {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the sandbox root %s: %w", root, err)
	}
	t := &tree{fd: fd}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		t.close()
		return nil, fmt.Errorf("reading the file system of the sandbox root: %w", err)
	}
	t.fsType = int64(st.Type) //nolint:unconvert // narrower on other architectures.
	switch t.fsType {
	case unix.OVERLAYFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
		return t, nil
	}
	t.close()
	return nil, fmt.Errorf("checking the sandbox root: file system type %#x is not a local one", t.fsType)
}

func (t *tree) close() { _ = unix.Close(t.fd) }

// openAt resolves name below the directory dir, which t or a descriptor from t holds.
func openAt(dir int, name string, flags int) (int, error) {
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		name = "."
	}
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolution} //nolint:gosec // constant flags.
	if flags&unix.O_DIRECTORY == 0 {                                                // with O_DIRECTORY the kernel would call a link "not a directory"
		how.Flags |= unix.O_NOFOLLOW
	}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(dir, name, &how)
		if errors.Is(err, unix.EINTR) || (errors.Is(err, unix.EAGAIN) && try < openRetries) {
			continue
		}
		return fd, err
	}
}

// peek resolves p without opening what is there and says what it is.
func (t *tree) peek(p string) (unix.Stat_t, error) {
	fd, err := openAt(t.fd, p, unix.O_PATH)
	if err != nil {
		return unix.Stat_t{}, pathError(p, err)
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return st, fmt.Errorf("reading the state of %s: %w", quote(p), err)
	}
	return st, nil
}

// openRegular opens the regular file at p for reading. The type is known before anything is opened: opening a FIFO or a
// device would already have effects.
func (t *tree) openRegular(p string) (*os.File, unix.Stat_t, error) {
	before, err := t.peek(p)
	if err != nil {
		return nil, before, err
	}
	if before.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, before, notRegular(p, before.Mode)
	}
	fd, err := openAt(t.fd, p, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, before, pathError(p, err)
	}
	f := os.NewFile(uintptr(fd), p)
	st, err := t.checkOpen(fd, p)
	if err == nil && !same(before, st) {
		err = changed(p)
	}
	if err != nil {
		_ = f.Close()
		return nil, st, err
	}
	return f, st, nil
}

// checkOpen demands a regular file on the root's own file system behind fd.
func (t *tree) checkOpen(fd int, p string) (unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return st, fmt.Errorf("reading the state of %s: %w", quote(p), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return st, notRegular(p, st.Mode)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return st, fmt.Errorf("reading the file system of %s: %w", quote(p), err)
	}
	if int64(fs.Type) != t.fsType { //nolint:unconvert // narrower on other architectures.
		return st, refuse(refusal.Malformed, quote(p)+" on the sandbox's own file system", fmt.Sprintf("type %#x", fs.Type),
			"copy the file into the workspace")
	}
	return st, nil
}

// same compares what must not change while a file is read: identity, type, size and times.
func same(a, b unix.Stat_t) bool {
	return a.Dev == b.Dev && a.Ino == b.Ino && a.Mode == b.Mode && a.Size == b.Size && a.Mtim == b.Mtim && a.Ctim == b.Ctim
}

func changed(p string) error {
	return refuse(refusal.Binding, quote(p)+" unchanged while it was hashed", "another file or other contents",
		"attest the file after the last program that writes it has ended")
}

// pathError turns what the kernel says about a path into a refusal, and leaves I/O errors alone.
func pathError(p string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return refuse(refusal.Missing, "a file at "+quote(p), "nothing there", "check the path and that the file was built").Because(err)
	case errors.Is(err, unix.ELOOP):
		return refuse(refusal.Malformed, quote(p)+" without symbolic links", "a link in the path",
			"name the path of the file itself").Because(err)
	case errors.Is(err, unix.EXDEV):
		return refuse(refusal.Malformed, quote(p)+" on the sandbox's own file system", "a mount point in the path",
			"copy the file into the workspace").Because(err)
	case errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.EINVAL):
		return refuse(refusal.Malformed, "a path that can exist", quote(p), "check the path").Because(err)
	case errors.Is(err, unix.EAGAIN):
		return changed(p)
	}
	return fmt.Errorf("opening %s in the sandbox: %w", quote(p), err)
}

func notRegular(p string, mode uint32) error {
	next := "name a regular file, or exclude this one with a pattern that starts with !"
	if mode&unix.S_IFMT == unix.S_IFDIR {
		next = "name the files in it, for example with a pattern that ends in /**"
	}
	return refuse(refusal.Malformed, "a regular file at "+quote(p), kind(mode), next)
}

func kind(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFLNK:
		return "a symbolic link"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	}
	return "something that is not a file"
}
