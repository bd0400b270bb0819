// SPDX-License-Identifier: Apache-2.0

package outputs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/refusal"
)

func changed(p string) error {
	return refuse(refusal.Binding, quote(p)+" unchanged while it was read", "another file, other contents or a lease on it",
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
