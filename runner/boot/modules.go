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
// of the measured image and says what the image needs. Modules are Debian's, signed, and not compressed.
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
		if err := loadModule(filepath.Join(dir, m.File), strings.Join(m.Parameters, " ")); err != nil {
			return fmt.Errorf("loading the kernel module %s: %w", m, err)
		}
	}
	return nil
}

func loadModule(path, parameters string) error {
	file, err := os.Open(path) //nolint:gosec // a file of the measured initramfs.
	if err != nil {
		return err
	}
	err = unix.FinitModule(int(file.Fd()), parameters, 0)
	if errors.Is(err, unix.EEXIST) {
		err = nil
	}
	return errors.Join(err, file.Close())
}
