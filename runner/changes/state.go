// SPDX-License-Identifier: Apache-2.0

package changes

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/runner/beneath"
)

// maxTarget is how much of a symbolic link's target is listed.
const maxTarget = 1024

// state is one side of a change as it is listed.
type state struct {
	Type       string `json:"type"`
	Mode       string `json:"mode"` // permissions, set-id and sticky bits, octal
	UID        int64  `json:"uid"`  // inside; -1 for an id that the sandbox does not have
	GID        int64  `json:"gid"`
	Size       *int64 `json:"size,omitempty"` // of files and links
	Links      uint64 `json:"links,omitempty"`
	SHA256     string `json:"sha256,omitempty"`
	Capability string `json:"capability,omitempty"` // permitted and inheritable sets, hexadecimal; "+" when effective
	Target     text   `json:"target,omitempty"`
	Device     string `json:"device,omitempty"`
}

// node is a name in a layer.
type node struct {
	st     unix.Stat_t
	target string // of a symbolic link
}

// look says what is at name in a folder of a layer.
func look(dir int, name string) (node, error) {
	fd, err := beneath.Open(dir, name, unix.O_PATH)
	if err != nil {
		return node{}, err
	}
	defer func() { _ = unix.Close(fd) }()
	var n node
	if err := unix.Fstat(fd, &n.st); err != nil || n.kind() != unix.S_IFLNK {
		return n, err
	}
	buf := make([]byte, unix.PathMax)
	size, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return n, err
	}
	n.target = string(buf[:size])
	return n, nil
}

func (n node) kind() uint32 { return n.st.Mode & unix.S_IFMT }

func (n node) dir() bool     { return n.kind() == unix.S_IFDIR }
func (n node) regular() bool { return n.kind() == unix.S_IFREG }

// state describes the node.
func (n node) state(ids IDs) *state {
	s := &state{Type: typeName(n.st.Mode), Mode: fmt.Sprintf("%04o", n.st.Mode&0o7777), UID: ids.inside(n.st.Uid), GID: ids.inside(n.st.Gid)}
	switch n.kind() {
	case unix.S_IFREG:
		s.Size = &n.st.Size
		if n.st.Nlink > 1 {
			s.Links = uint64(n.st.Nlink) //nolint:unconvert // narrower on other architectures.
		}
	case unix.S_IFLNK:
		s.Size, s.Target = &n.st.Size, text(n.target[:min(len(n.target), maxTarget)])
	case unix.S_IFCHR, unix.S_IFBLK:
		s.Device = fmt.Sprintf("%d:%d", unix.Major(n.st.Rdev), unix.Minor(n.st.Rdev))
	}
	return s
}

// alike compares everything but the bytes of files and the contents of folders.
func (n node) alike(o node) bool {
	const meta = unix.S_IFMT | 0o7777
	device := n.kind() == unix.S_IFCHR || n.kind() == unix.S_IFBLK
	return n.st.Mode&meta == o.st.Mode&meta && n.st.Uid == o.st.Uid && n.st.Gid == o.st.Gid && n.target == o.target &&
		(!device || n.st.Rdev == o.st.Rdev)
}

func typeName(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symlink"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFCHR:
		return "character-device"
	case unix.S_IFBLK:
		return "block-device"
	}
	return "unknown"
}

// attribute reads a short extended attribute; nil when there is none.
func attribute(fd int, name string) ([]byte, error) {
	buf := make([]byte, 64)
	n, err := unix.Fgetxattr(fd, name, buf)
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.EOPNOTSUPP):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return buf[:n], nil
}

// capability says which capabilities a file gives whoever runs it, without the version and the id of the root user that
// the kernel adds when it copies a file to another layer (struct vfs_ns_cap_data).
func capability(fd int) (string, error) {
	raw, err := attribute(fd, "security.capability")
	const magic, sets = 4, 16
	if err != nil || len(raw) < magic+sets {
		return "", err
	}
	effective := ""
	if raw[0]&1 != 0 {
		effective = "+"
	}
	return hex.EncodeToString(raw[magic:magic+sets]) + effective, nil
}

// sum formats a digest.
func sum(d [sha256.Size]byte) string { return hex.EncodeToString(d[:]) }
