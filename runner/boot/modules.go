// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"bufio"
	"bytes"
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
	names, err := parseModuleList(text)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := loadModule(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("loading the kernel module %s: %w", name, err)
		}
	}
	return nil
}

func parseModuleList(text []byte) ([]string, error) {
	var names []string
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		name := lines.Text()
		if name != filepath.Base(name) || !strings.HasSuffix(name, ".ko") {
			return nil, fmt.Errorf("reading the module list: want base names that end in .ko, got %q", name)
		}
		names = append(names, name)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the module list: %w", err)
	}
	return names, nil
}

func loadModule(path string) error {
	file, err := os.Open(path) //nolint:gosec // a file of the measured initramfs.
	if err != nil {
		return err
	}
	err = unix.FinitModule(int(file.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) {
		err = nil
	}
	return errors.Join(err, file.Close())
}
