// SPDX-License-Identifier: Apache-2.0

// Package beneath looks at what lies below a directory whose contents somebody hostile chose.
//
// It guarantees that whatever it opens was reached by the kernel alone, component by component (openat2(2)): nothing
// leads out of the directory, no symbolic or magic link is followed anywhere in a path, no mount point is crossed, and
// nothing but a regular file or a directory is ever opened, since opening a FIFO or a device has effects and opening a
// file below a FUSE mount can take forever.
//
// It trusts the kernel and the directory's descriptor. It does not say who wrote what it finds, nor that it stays.
package beneath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// resolution is how every path is resolved (openat2(2)).
const resolution = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// retries bounds repeating openat2 after EAGAIN, which means that the tree was renamed during the resolution, or that
// somebody holds a lease on the file.
const retries = 16

// Errors of [Read].
var (
	ErrNotRegular = errors.New("not a regular file")
	ErrChanged    = errors.New("not the file that it was")
)

// Open resolves name below the directory dir. flags are those of open(2); O_CLOEXEC and, but for directories, O_NOFOLLOW
// are added. Errors are the kernel's: ELOOP for a link in the path, EXDEV for a mount point or a way out.
func Open(dir int, name string, flags int) (int, error) {
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
		if errors.Is(err, unix.EINTR) || (errors.Is(err, unix.EAGAIN) && try < retries) {
			continue
		}
		return fd, err
	}
}

// Stat says what is at name without opening it.
func Stat(dir int, name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := Open(dir, name, unix.O_PATH)
	if err != nil {
		return st, err
	}
	defer func() { _ = unix.Close(fd) }()
	return st, unix.Fstat(fd, &st)
}

// Read opens the regular file at name for reading, if it still is the one that [Stat] described. A lease that somebody
// holds on it makes this fail (EAGAIN), not wait.
func Read(dir int, name string, want unix.Stat_t) (*os.File, error) {
	if want.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, ErrNotRegular
	}
	fd, err := Open(dir, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && !Same(want, st) {
		err = ErrChanged
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Same compares what does not change while nobody writes a file or its name: identity, type, size and times.
func Same(a, b unix.Stat_t) bool {
	return a.Dev == b.Dev && a.Ino == b.Ino && a.Mode == b.Mode && a.Size == b.Size && a.Mtim == b.Mtim && a.Ctim == b.Ctim
}

// Whiteout reports whether st is how overlayfs marks a name of the lower layer as deleted: a character device 0/0.
func Whiteout(st unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// Entry is one name in a directory, with its type as the file system says (unix.DT_DIR …): a hint, never a proof.
type Entry struct {
	Name string
	Type uint8
}

// Dir reads a directory in batches.
type Dir struct {
	fd  int
	buf []byte
}

// OpenDir opens the directory at name.
func OpenDir(dir int, name string) (*Dir, error) {
	fd, err := Open(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return &Dir{fd: fd, buf: make([]byte, 32<<10)}, nil
}

// FD is the directory's descriptor, valid until [Dir.Close].
func (d *Dir) FD() int { return d.fd }

// Close lets go of the directory.
func (d *Dir) Close() { _ = unix.Close(d.fd) }

// Next gives the next entries without . and .., in the directory's own order, and io.EOF after the last.
func (d *Dir) Next() ([]Entry, error) {
	for {
		n, err := unix.Getdents(d.fd, d.buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading a directory: %w", err)
		}
		if n == 0 {
			return nil, io.EOF
		}
		if entries := parse(d.buf[:n]); len(entries) > 0 {
			return entries, nil
		}
	}
}

// Where the parts of struct linux_dirent64 are (getdents64(2)), on every architecture.
const (
	offReclen = 16
	offType   = 18
	offName   = 19
)

func parse(buf []byte) []Entry {
	var entries []Entry
	for len(buf) > offName {
		size := int(binary.NativeEndian.Uint16(buf[offReclen:]))
		if size <= offName || size > len(buf) {
			break
		}
		name, _, _ := strings.Cut(string(buf[offName:size]), "\x00")
		if name != "" && name != "." && name != ".." {
			entries = append(entries, Entry{Name: name, Type: buf[offType]})
		}
		buf = buf[size:]
	}
	return entries
}
