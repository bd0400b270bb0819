// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"archive/tar"
	"compress/gzip"
	"fmt"
	"io"
	"time"
)

const gib = 1 << 30

// GCP writes the disk as Google's Compute Engine takes it: a gzip of a tar in GNU's format, with one file disk.raw whose size
// is a multiple of 1 GiB. What the disk lacks to that is zeros behind it.
//
// The same disk gives the same bytes with the same version of Go, whose compress/gzip writes no time and no name.
// Source: Google Cloud "Manually import boot disks", section "Requirements for the image file".
func GCP(w io.Writer, disk io.Reader, size int64) error {
	if err := gcp(w, disk, size, gib); err != nil {
		return fmt.Errorf("writing an archive for Compute Engine: %w", err)
	}
	return nil
}

// gcp fills the disk up to a multiple of unit.
func gcp(w io.Writer, disk io.Reader, size, unit int64) error {
	if size <= 0 || size > MaxRoot+4*gib {
		return fmt.Errorf("a disk of %d bytes", size)
	}
	whole := (size + unit - 1) / unit * unit
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed) // the root is compressed already
	if err != nil {
		return err //nolint:wrapcheck // its caller says what it was at.
	}
	archive := tar.NewWriter(zip)
	head := &tar.Header{Name: "disk.raw", Mode: 0o644, Size: whole, Typeflag: tar.TypeReg, Format: tar.FormatGNU, ModTime: time.Unix(0, 0)}
	if err := archive.WriteHeader(head); err != nil {
		return err //nolint:wrapcheck // its caller says what it was at.
	}
	if err := copyDisk(archive, disk, size); err != nil {
		return err
	}
	if _, err := io.CopyN(archive, zeros{}, whole-size); err != nil {
		return err //nolint:wrapcheck // its caller says what it was at.
	}
	if err := archive.Close(); err != nil {
		return err //nolint:wrapcheck // its caller says what it was at.
	}
	return zip.Close() //nolint:wrapcheck // its caller says what it was at.
}

// zeros is an endless reader of zeros.
type zeros struct{}

// Read fills b with zeros.
func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
