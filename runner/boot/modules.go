// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/image"
)

// loadModules loads every listed module of a directory. One that is missing or refused ends the boot: the list is part
// of the measured image and says what the image needs. Only of an optional one may the kernel say that there is no such
// hardware. Modules are Debian's, signed, and not compressed.
func loadModules(dir string) error {
	text, err := readSmall(filepath.Join(dir, filepath.Base(image.ModuleList)))
	if err != nil {
		return fmt.Errorf("reading the module list: %w", err)
	}
	modules, err := image.ParseModules(string(text))
	if err != nil {
		return err
	}
	for _, m := range modules {
		err := loadModule(filepath.Join(dir, m.File), strings.Join(m.Parameters, " "))
		if m.Optional && errors.Is(err, errNoHardware) {
			continue
		}
		if err != nil {
			return fmt.Errorf("loading the kernel module %s: %w", m, err)
		}
	}
	return nil
}

// errNoHardware says that a module found nothing that it drives.
var errNoHardware = errors.New("there is no such hardware")

// loadModule hands a file to the kernel. ENODEV is a driver's own answer; ENOENT is the kernel's when a module needs what
// another one, left out for its ENODEV, would have brought ("unknown symbol").
func loadModule(path, parameters string) error {
	file, err := os.Open(path) //nolint:gosec // a file of the measured initramfs.
	if err != nil {
		return err
	}
	err = unix.FinitModule(int(file.Fd()), parameters, 0)
	switch {
	case errors.Is(err, unix.EEXIST):
		err = nil
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENOENT):
		err = fmt.Errorf("%w: %w", errNoHardware, err)
	}
	return errors.Join(err, file.Close())
}
