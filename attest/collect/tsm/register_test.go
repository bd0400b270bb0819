// SPDX-License-Identifier: Apache-2.0

package tsm

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/collect/fault"
)

// registers makes a folder like the kernel's. A file does not hash what is written to it, so it plays a register only
// until it is read back.
func registers(t *testing.T, value []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, Register), value, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// chip is a register that extends, over the file system's interface.
type chip struct {
	value  [RegisterSize]byte
	extend func(old [RegisterSize]byte, digest []byte) [RegisterSize]byte
	short  bool
	fails  error
}

func sum(old [RegisterSize]byte, digest []byte) [RegisterSize]byte {
	return sha512.Sum384(append(old[:], digest...))
}

func (c *chip) ReadAt(b []byte, _ int64) (int, error) {
	if c.short {
		return copy(b, c.value[:47]), nil
	}
	return copy(b, c.value[:]), nil
}

func (c *chip) WriteAt(b []byte, off int64) (int, error) {
	if c.fails != nil {
		return 0, c.fails
	}
	if len(b) != RegisterSize || off != 0 {
		return 0, fs.ErrInvalid
	}
	c.value = c.extend(c.value, b)
	return len(b), nil
}

func TestExtend(t *testing.T) {
	t.Parallel()
	c := &chip{value: [RegisterSize]byte{1}, extend: sum}
	digest := [RegisterSize]byte{2}
	for range 3 {
		want := sum(c.value, digest[:])
		got, err := extend(c, digest)
		if err != nil || got != want || c.value != want {
			t.Fatalf("%x, %v", got, err)
		}
	}
}

func TestExtendFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*chip{
		"nothing happens": {extend: func(old [RegisterSize]byte, _ []byte) [RegisterSize]byte { return old }},
		"it is set":       {extend: func(_ [RegisterSize]byte, d []byte) [RegisterSize]byte { return [RegisterSize]byte(d) }},
		"another extends": {extend: func(old [RegisterSize]byte, d []byte) [RegisterSize]byte { return sum(sum(old, d), d) }},
		"the write fails": {fails: fs.ErrPermission},
		"too few bytes":   {short: true},
	} {
		got, err := extend(c, [RegisterSize]byte{2})
		if !errors.Is(err, fault.ErrBroken) || got != [RegisterSize]byte{} {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

func TestRegisterFiles(t *testing.T) {
	t.Parallel()
	value := bytes.Repeat([]byte{7}, RegisterSize)
	if v, err := ReadRegister(registers(t, value)); err != nil || !bytes.Equal(v[:], value) {
		t.Errorf("%x, %v", v, err)
	}
	// A plain file only keeps what is written, which is not what an extension gives.
	if _, err := ExtendRegister(registers(t, value), [RegisterSize]byte{}); !errors.Is(err, fault.ErrBroken) {
		t.Errorf("got %v", err)
	}
	for name, dir := range map[string]string{"short": registers(t, value[1:]), "long": registers(t, append(value, 7)), "empty": registers(t, nil)} {
		if _, err := ReadRegister(dir); !errors.Is(err, fault.ErrBroken) {
			t.Errorf("%s: got %v", name, err)
		}
		if _, err := ExtendRegister(dir, [RegisterSize]byte{}); !errors.Is(err, fault.ErrBroken) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for name, dir := range map[string]string{"no folder": filepath.Join(t.TempDir(), "none"), "no file": t.TempDir()} {
		_, err := ExtendRegister(dir, [RegisterSize]byte{})
		if !errors.Is(err, fault.ErrUnsupported) || errors.Is(err, fault.ErrBroken) || !strings.Contains(err.Error(), "register: not available: kernel older than 6.16") {
			t.Errorf("%s: got %v", name, err)
		}
		if _, err := ReadRegister(dir); !errors.Is(err, fault.ErrUnsupported) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadRegister(file); !errors.Is(err, fault.ErrBroken) {
		t.Errorf("got %v", err)
	}
}
