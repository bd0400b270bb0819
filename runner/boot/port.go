// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// OpenPort opens a virtio-serial port by its name, [image.ControlPort] for example, once the device is there and the host has opened its side: before
// that a read returns [io.EOF]. Nothing is trusted for having come through a port. The file takes deadlines. It is the caller's to close, and only one process can hold
// it. Without the port, or without a host, the error comes when ctx ends.
func OpenPort(ctx context.Context, name string) (*os.File, error) {
	for {
		file, err := openPort(name)
		if err != nil {
			return nil, fmt.Errorf("opening the port %s: %w", name, err)
		}
		if file != nil {
			return file, nil
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return nil, fmt.Errorf("opening the port %s: the host has not opened it: %w", name, err)
		}
	}
}

// openPort gives nil when the port is not there yet or the host's side is closed.
func openPort(name string) (*os.File, error) {
	device, err := findPort("/sys/class/virtio-ports", name)
	if err != nil || device == "" {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join("/dev", device), os.O_RDWR|unix.O_NONBLOCK, 0) //nolint:gosec // found in sysfs.
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // not there yet.
	}
	if err != nil {
		return nil, err
	}
	hostThere, err := hostConnected(file)
	if err != nil || !hostThere {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// findPort looks a port up in sysfs; the empty string means that it is not there.
func findPort(class, name string) (string, error) {
	files, err := filepath.Glob(filepath.Join(class, "*", "name"))
	if err != nil {
		return "", err
	}
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // sysfs.
		if err == nil && string(bytes.TrimSpace(text)) == name {
			return filepath.Base(filepath.Dir(file)), nil
		}
	}
	return "", nil
}

// hostConnected asks by poll(2): a port whose host side is closed hangs up.
func hostConnected(file *os.File) (bool, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return false, err
	}
	var connected bool
	var asked error
	err = raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLOUT}} //nolint:gosec // a file descriptor.
		_, asked = unix.Poll(poll, 0)
		connected = poll[0].Revents&unix.POLLHUP == 0
	})
	return connected, errors.Join(err, asked)
}
