// SPDX-License-Identifier: Apache-2.0

package tsm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	sevabi "github.com/google/go-sev-guest/client/linuxabi"
	tdxabi "github.com/google/go-tdx-guest/client/linuxabi"
	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/collect/fault"
)

// OpenGuest opens a vendor's device. One that does not exist is a [fault.UnsupportedError].
func OpenGuest(p Provider, path string) (Guest, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0) //nolint:gosec // The caller's own choice of device.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return nil, &fault.UnsupportedError{Platform: p.platform(), Need: "configfs-tsm (Linux 6.7 or later, configfs mounted) or the device " + path}
	}
	if err != nil {
		return nil, fault.Broken("opening the device", err)
	}
	return &guest{f}, nil
}

// guest is the real device. The vendors' libraries define the structures (packages linuxabi); their clients are not
// used: they register flags of the whole program, one writes to standard output, and both trust lengths and errors of the
// host where these are not to be trusted.
type guest struct{ f *os.File }

// Close implements [Guest].
func (g *guest) Close() error {
	if err := g.f.Close(); err != nil {
		return fmt.Errorf("closing the device: %w", err)
	}
	return nil
}

// Ioctl implements [Guest]. The conversions keep what their pointers point to alive and are used after the call.
func (g *guest) Ioctl(command uintptr, request any) (uintptr, error) {
	switch r := request.(type) {
	case *sevabi.SnpUserGuestRequest:
		abi := r.ABI()
		result, errno := g.call(command, abi.Pointer())
		// Finish turns a status in the answer into an error as well. Which one counts, the caller decides.
		finish := abi.Finish(r)
		if errno != 0 {
			return result, errno
		}
		return result, finish
	case *tdxabi.TdxReportReq:
		result, errno := g.call(command, unsafe.Pointer(r)) //nolint:gosec // The structure of the kernel's own header.
		if errno != 0 {
			return result, errno
		}
		return result, nil
	case *tdxabi.TdxQuoteReq:
		abi := r.ABI()
		result, errno := g.call(command, abi.Pointer())
		if errno != 0 {
			return result, errno
		}
		return result, abi.Finish(r)
	}
	return 0, fmt.Errorf("no such request: %T", request)
}

func (g *guest) call(command uintptr, p unsafe.Pointer) (uintptr, unix.Errno) {
	raw, err := g.f.SyscallConn()
	if err != nil {
		return 0, unix.EBADF
	}
	var result uintptr
	var errno unix.Errno
	if err := raw.Control(func(fd uintptr) {
		result, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, command, uintptr(p))
	}); err != nil {
		return 0, unix.EBADF
	}
	return result, errno
}
