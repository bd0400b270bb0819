// SPDX-License-Identifier: Apache-2.0

package action

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const maxEntries = 200000

// unpack writes a .tar.gz into a folder. Names that leave the folder are refused by the operating system's handle.
func unpack(archive, dir string) error {
	file, err := os.Open(archive) //nolint:gosec // A file of our own.
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	packed, err := gzip.NewReader(file)
	if err != nil {
		return fmt.Errorf("reading gzip: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return untar(tar.NewReader(io.LimitReader(packed, maxArchive)), root)
}

func untar(reader *tar.Reader, root *os.Root) error {
	for n := 0; ; n++ {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading tar: %w", err)
		}
		if n > maxEntries {
			return fmt.Errorf("more than %d entries", maxEntries)
		}
		if err := extract(reader, header, root); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
}

func extract(reader io.Reader, header *tar.Header, root *os.Root) error {
	name := filepath.FromSlash(strings.TrimSuffix(header.Name, "/"))
	switch header.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeReg:
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if header.Mode&0o100 != 0 {
			mode = 0o755
		}
		file, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(file, reader)
		return errors.Join(err, file.Close())
	case tar.TypeSymlink:
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		return root.Symlink(header.Linkname, name)
	case tar.TypeXGlobalHeader:
		return nil
	default:
		return fmt.Errorf("entry type %q is not supported", header.Typeflag)
	}
}
