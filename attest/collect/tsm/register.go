// SPDX-License-Identifier: Apache-2.0

package tsm

import (
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/kettle/attest/attest/collect/fault"
)

// RegisterDir is where Linux 6.16 and later show a TD's measurement registers.
const RegisterDir = "/sys/devices/virtual/misc/tdx_guest/measurements"

// Register is the name of the run-time register that belongs to the guest's operating system alone.
const Register = "rtmr3:sha384"

// needRegister is what a kernel without the registers lacks.
const needRegister = "a register: not available: kernel older than 6.16 (no " + RegisterDir + "/" + Register + ")"

// RegisterSize is the size of a register and of what it is extended by, in bytes.
const RegisterSize = sha512.Size384

// ReadRegister reads a TD's run-time register 3. dir is [RegisterDir].
func ReadRegister(dir string) ([RegisterSize]byte, error) {
	f, err := openRegister(dir, os.O_RDONLY)
	if err != nil {
		return [RegisterSize]byte{}, err
	}
	defer f.Close()
	v, err := readRegister(f)
	if err != nil {
		return v, fault.Broken("reading "+Register, err)
	}
	return v, nil
}

// ExtendRegister extends a TD's run-time register 3 and reads back that it holds what the extension must give, SHA-384
// of the old value and the digest. It returns the new value. The caller is the only one who extends the register: an
// extension by somebody else in between is [fault.ErrBroken].
func ExtendRegister(dir string, digest [RegisterSize]byte) ([RegisterSize]byte, error) {
	f, err := openRegister(dir, os.O_RDWR)
	if err != nil {
		return [RegisterSize]byte{}, err
	}
	defer f.Close()
	return extend(f, digest)
}

// attribute is the open file of a register.
type attribute interface {
	io.ReaderAt
	io.WriterAt
}

func extend(f attribute, digest [RegisterSize]byte) ([RegisterSize]byte, error) {
	old, err := readRegister(f)
	if err != nil {
		return [RegisterSize]byte{}, fault.Broken("reading "+Register, err)
	}
	if n, err := f.WriteAt(digest[:], 0); err != nil || n != len(digest) {
		return [RegisterSize]byte{}, fault.Broken("extending "+Register, fmt.Errorf("%d of %d bytes written: %w", n, len(digest), orUnknown(err)))
	}
	got, err := readRegister(f)
	if err != nil {
		return [RegisterSize]byte{}, fault.Broken("reading "+Register, err)
	}
	if want := sha512.Sum384(append(slices.Clone(old[:]), digest[:]...)); got != want {
		return [RegisterSize]byte{}, fault.Broken("extending "+Register, fmt.Errorf("it was %x and is %x after extending by %x, want %x", old, got, digest, want))
	}
	return got, nil
}

func openRegister(dir string, flag int) (*os.File, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &fault.UnsupportedError{Platform: TDX.platform(), Need: needRegister}
	}
	if err != nil {
		return nil, fault.Broken("opening the measurement registers", err)
	}
	defer root.Close() //nolint:errcheck // only read.
	f, err := root.OpenFile(Register, flag, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &fault.UnsupportedError{Platform: TDX.platform(), Need: needRegister}
	}
	if err != nil {
		return nil, fault.Broken("opening "+Register, err)
	}
	return f, nil
}

// readRegister reads the whole attribute, which holds the register's bytes and nothing else.
func readRegister(f io.ReaderAt) ([RegisterSize]byte, error) {
	var b [RegisterSize + 1]byte
	n, err := f.ReadAt(b[:], 0) // ends with io.EOF after the last byte
	if n != RegisterSize {
		return [RegisterSize]byte{}, fmt.Errorf("%d bytes, want %d: %w", n, RegisterSize, orUnknown(err))
	}
	return [RegisterSize]byte(b[:RegisterSize]), nil
}
