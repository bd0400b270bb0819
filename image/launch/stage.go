// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/measure"
)

// staged is a private folder with the exact bytes that are measured and started.
type staged struct {
	folder string
	digest [48]byte          // of the simulated processor
	named  map[string]string // files in place of copies, where nothing is started
}

func (s *staged) path(name string) string {
	if file, ok := s.named[name]; ok {
		return file
	}
	return filepath.Join(s.folder, name)
}

// stage copies what is measured into a new folder that only this user can enter, hashing the bytes as they are
// written, and computes the launch digest.
func stage(c *Config) (*staged, error) {
	folder, err := newFolder(c.Folder)
	if err != nil {
		return nil, fmt.Errorf("making the VM's folder: %w", err)
	}
	s := &staged{folder: folder}
	if c.UKI != nil {
		if err := s.copyUKI(c); err != nil {
			return nil, errors.Join(err, s.remove())
		}
		return s, nil
	}
	l := measure.Launch{CommandLine: measure.CommandLine(c.CommandLine)}
	for _, f := range []struct {
		name, source string
		digest       *image.SHA256
	}{
		{"firmware", c.Firmware, &l.Firmware},
		{"kernel", c.Kernel, &l.Kernel},
		{"initrd", c.Initrd, &l.Initrd},
	} {
		if *f.digest, err = copyHashing(f.source, s.path(f.name)); err != nil {
			return nil, errors.Join(fmt.Errorf("copying the %s: %w", f.name, err), s.remove())
		}
	}
	s.digest = measure.Sim(l)
	return s, nil
}

// newFolder makes a folder that only this user can enter. QEMU runs in it, so that its path is whole.
func newFolder(path string) (string, error) {
	if path == "" {
		return os.MkdirTemp("", "kettle-vm-")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return path, os.Mkdir(path, 0o700)
}

func (s *staged) remove() error {
	if err := os.RemoveAll(s.folder); err != nil {
		return fmt.Errorf("removing the VM's folder: %w", err)
	}
	return nil
}

func copyHashing(source, target string) (digest image.SHA256, err error) {
	in, err := os.Open(source) //nolint:gosec // the caller's file.
	if err != nil {
		return digest, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400) //nolint:gosec // in our own folder.
	if err != nil {
		return digest, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, h), in); err != nil {
		return digest, err
	}
	return image.SHA256(h.Sum(nil)), nil
}
