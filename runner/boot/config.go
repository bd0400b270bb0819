// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/image"
)

// maxConfig bounds a file of the configuration, in bytes.
const maxConfig = 4 << 20

func readCommandLine(path string) (image.CommandLine, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the kernel's own file; a parameter for tests.
	if err != nil {
		return image.CommandLine{}, fmt.Errorf("reading the kernel command line: %w", err)
	}
	return image.ParseCommandLine(string(text))
}

// readConfig gives the exact bytes of the configuration, provided that they have the measured digest.
func readConfig(path string, want image.SHA256) ([]byte, error) {
	config, err := readSmall(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if got := image.SHA256(sha256.Sum256(config)); got != want {
		return nil, fmt.Errorf("the configuration is not the one on the measured command line: want sha256:%s, got sha256:%s", want, got)
	}
	return config, nil
}

func readSmall(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxConfig {
		return nil, fmt.Errorf("%s: want a regular file of at most %d bytes", path, maxConfig)
	}
	return os.ReadFile(path) //nolint:gosec // a file of the measured initramfs.
}

// carryConfig copies the configuration's files (a flat directory) to the new root, on a tmpfs that ends up read-only.
func carryConfig(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return fmt.Errorf("carrying the configuration: %w", err)
	}
	if err := unix.Mount("tmpfs", to, "tmpfs", quiet, "mode=0755,size=16m"); err != nil {
		return fmt.Errorf("carrying the configuration: mounting %s: %w", to, err)
	}
	for _, entry := range entries {
		data, err := readSmall(filepath.Join(from, entry.Name()))
		if err != nil {
			return fmt.Errorf("carrying the configuration: %w", err)
		}
		if err := os.WriteFile(filepath.Join(to, entry.Name()), data, 0o444); err != nil { //nolint:gosec // nothing in it is secret.
			return fmt.Errorf("carrying the configuration: %w", err)
		}
	}
	if err := unix.Mount("", to, "", unix.MS_REMOUNT|unix.MS_RDONLY|quiet, ""); err != nil {
		return fmt.Errorf("carrying the configuration: sealing %s: %w", to, err)
	}
	return nil
}
