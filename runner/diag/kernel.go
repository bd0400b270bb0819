// SPDX-License-Identifier: Apache-2.0

package diag

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// KernelLog reads the end of the kernel's log (syslog(2), SYSLOG_ACTION_READ_ALL), which takes CAP_SYSLOG.
func KernelLog(buf []byte) (int, error) { return unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buf) }

func (c *collector) kernel(read func([]byte) (int, error)) {
	const name, source = "kernel.log", "kernel"
	if read == nil {
		c.skip(name, source, "not given")
		return
	}
	buf := make([]byte, c.capacity()+margin)
	n, err := read(buf)
	if err != nil || n < 0 || n > len(buf) {
		c.skip(name, source, "cannot be read: "+why(err))
		return
	}
	if n < len(buf) {
		c.add(Entry{Name: name, Source: source}, whole(buf[:n]))
		return
	}
	c.add(Entry{Name: name, Source: source, Note: "older lines are missing"}, text{size: int64(n), tail: buf})
}

// why says what an error of the kernel means for a source. The text of other errors is not repeated: it could hold a
// hostile name.
func why(err error) string {
	switch {
	case errors.Is(err, unix.ELOOP):
		return "a symbolic link"
	case errors.Is(err, unix.EXDEV):
		return "a mount point, or a way out of the folder"
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return "not there"
	case errors.Is(err, unix.EAGAIN):
		return "somebody holds a lease on it, or renames what is around it"
	}
	var number syscall.Errno
	if errors.As(err, &number) {
		return number.Error()
	}
	return "another error"
}
