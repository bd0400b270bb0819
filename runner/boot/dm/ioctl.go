// SPDX-License-Identifier: Apache-2.0

package dm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"

	"golang.org/x/sys/unix"
)

// command is the number of a call (linux/dm-ioctl.h).
type command uint8

const (
	commandCreate  command = 3
	commandRemove  command = 4
	commandSuspend command = 6 // without [flagSuspend] it resumes
	commandLoad    command = 9
	commandStatus  command = 12 // of the table
)

// Flags of a call (linux/dm-ioctl.h).
const (
	flagReadOnly   = 1 << 0
	flagBufferFull = 1 << 8
	flagSecureData = 1 << 15 // the kernel wipes its copy of the buffer
)

const (
	headerSize = 312 // struct dm_ioctl: 305 bytes, and 7 that make its size a multiple of 8
	targetSize = 40  // struct dm_target_spec
	nameAt     = 48
	nameSize   = 128
	kindSize   = 16

	// maxBuffer bounds what one call carries, in bytes: a header, one target, and its parameters.
	maxBuffer = 4096
)

// number is _IOWR(DM_IOCTL, command, struct dm_ioctl).
func (c command) number() uint { return 3<<30 | headerSize<<16 | 0xfd<<8 | uint(c) }

var deviceName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)

// request is the buffer of one call.
type request []byte

// newRequest writes a struct dm_ioctl of version 4.0.0 for the device of that name, and room for as many bytes behind it.
func newRequest(name string, flags uint32, room int) (request, error) {
	if !deviceName.MatchString(name) {
		return nil, fmt.Errorf("want a device name of lower-case letters, digits and dashes, got %.70q", name)
	}
	if room < 0 || room > maxBuffer-headerSize {
		return nil, fmt.Errorf("want at most %d bytes for the table, got %d", maxBuffer-headerSize, room)
	}
	r := make(request, headerSize+room)
	native := binary.NativeEndian
	native.PutUint32(r[0:], 4)               // version 4.0.0
	native.PutUint32(r[12:], uint32(len(r))) //nolint:gosec // at most maxBuffer.
	native.PutUint32(r[16:], headerSize)     // data_start
	native.PutUint32(r[28:], flags)
	copy(r[nameAt:nameAt+nameSize], name)
	return r, nil
}

// newLoad writes a call that loads a table of one target (struct dm_target_spec and the parameters, which end in a NUL, padded
// to 8 bytes).
func newLoad(name string, t *Target) (request, error) {
	length := (targetSize + len(t.parameters) + 1 + 7) &^ 7
	r, err := newRequest(name, t.flags, length)
	if err != nil {
		return nil, err
	}
	native := binary.NativeEndian
	native.PutUint32(r[20:], 1) // target_count
	spec := r[headerSize:]
	native.PutUint64(spec[8:], uint64(t.sectors)) //nolint:gosec // checked to be above 0.
	native.PutUint32(spec[20:], uint32(length))   //nolint:gosec // bounded by newRequest.
	copy(spec[24:24+kindSize-1], t.kind)
	copy(spec[targetSize:], t.parameters)
	return r, nil
}

// device gives the device number that the kernel wrote (struct dm_ioctl, dev: a huge_encode_dev number).
func (r request) device() (major, minor uint32) {
	dev := binary.NativeEndian.Uint64(r[40:])
	return unix.Major(dev), unix.Minor(dev)
}

// status gives the kind and the status line of the one target of an answer to [commandStatus].
func (r request) status() (kind, line string, err error) {
	native := binary.NativeEndian
	start, size := int(native.Uint32(r[16:])), int(native.Uint32(r[12:]))
	switch {
	case native.Uint32(r[28:])&flagBufferFull != 0:
		return "", "", errors.New("the kernel's answer is longer than a table of ours")
	case native.Uint32(r[20:]) != 1:
		return "", "", fmt.Errorf("want one target, got %d", native.Uint32(r[20:]))
	case start < headerSize || size > len(r) || start+targetSize > size:
		return "", "", fmt.Errorf("the kernel's answer has no target: %d to %d of %d bytes", start, size, len(r))
	}
	spec := r[start:size]
	return text(spec[24 : 24+kindSize]), text(spec[targetSize:]), nil
}

// text reads up to the first NUL.
func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}
