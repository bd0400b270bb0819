// SPDX-License-Identifier: Apache-2.0

package dm

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ControlPath is the device that the calls go to.
const ControlPath = "/dev/mapper/control"

// Control makes and removes devices. It is used by one goroutine.
type Control struct {
	file *os.File
	call func(command, request) error
}

// Open opens [ControlPath]. It is the caller's to close.
func Open() (*Control, error) {
	file, err := os.OpenFile(ControlPath, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the device mapper: %w", err)
	}
	c := &Control{file: file}
	c.call = c.ioctl
	return c, nil
}

// Close lets go of the device mapper. Devices stay.
func (c *Control) Close() error {
	if err := c.file.Close(); err != nil {
		return fmt.Errorf("closing the device mapper: %w", err)
	}
	return nil
}

// ioctl makes one call; the kernel answers in the request.
func (c *Control) ioctl(command command, r request) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, c.file.Fd(), uintptr(command.number()), uintptr(unsafe.Pointer(unsafe.SliceData(r)))) //nolint:gosec // x/sys has no ioctl for this structure; its size stands in it.
	if errno != 0 {
		return errno
	}
	return nil
}

// Create makes a device of that name with that table and gives its path. The target cannot be used again: what it held is
// wiped. On an error nothing is left of the device.
func (c *Control) Create(name string, t *Target) (path string, err error) {
	defer clear(t.parameters)
	if t.sectors < 1 || len(t.parameters) == 0 || t.parameters[0] == 0 {
		return "", fmt.Errorf("making the device %s: the target is empty or was used before", name)
	}
	made, err := newRequest(name, 0, 0)
	if err != nil {
		return "", fmt.Errorf("making the device %.70q: %w", name, err)
	}
	if err := c.call(commandCreate, made); err != nil {
		return "", fmt.Errorf("making the device %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Remove(name))
		}
	}()
	if err := c.load(name, t); err != nil {
		return "", err
	}
	resumed, err := newRequest(name, t.flags&flagReadOnly, 0)
	if err != nil {
		return "", fmt.Errorf("starting the device %s: %w", name, err)
	}
	if err := c.call(commandSuspend, resumed); err != nil {
		return "", fmt.Errorf("starting the device %s: %w", name, err)
	}
	_, minor := made.device()
	return "/dev/dm-" + strconv.FormatUint(uint64(minor), 10), nil
}

func (c *Control) load(name string, t *Target) error {
	r, err := newLoad(name, t)
	if err != nil {
		return fmt.Errorf("loading the table of %s: %w", name, err)
	}
	defer clear(r)
	if err := c.call(commandLoad, r); err != nil {
		return fmt.Errorf("loading the table of %s: %w", name, err)
	}
	return nil
}

// Status gives the kind of the device's target and its status line: of verity "V", or "C" once a block was corrupted.
func (c *Control) Status(name string) (kind, line string, err error) {
	r, err := newRequest(name, 0, maxBuffer-headerSize)
	if err != nil {
		return "", "", fmt.Errorf("asking for the status of %.70q: %w", name, err)
	}
	if err := c.call(commandStatus, r); err != nil {
		return "", "", fmt.Errorf("asking for the status of %s: %w", name, err)
	}
	if kind, line, err = r.status(); err != nil {
		return "", "", fmt.Errorf("asking for the status of %s: %w", name, err)
	}
	return kind, line, nil
}

// Remove removes a device that nobody has open.
func (c *Control) Remove(name string) error {
	r, err := newRequest(name, 0, 0)
	if err != nil {
		return fmt.Errorf("removing the device %.70q: %w", name, err)
	}
	if err := c.call(commandRemove, r); err != nil {
		return fmt.Errorf("removing the device %s: %w", name, err)
	}
	return nil
}
