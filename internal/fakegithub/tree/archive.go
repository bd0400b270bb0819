// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// Tar writes the commit as a gzip-compressed tar with everything below one folder, and the commit identifier in the
// archive's global header, as git archive does.
func (c *Commit) Tar(w io.Writer, folder string) error {
	zw := gzip.NewWriter(w)
	tw := tar.NewWriter(zw)
	when := date()
	headers := []*tar.Header{
		{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": c.SHA}},
		{Typeflag: tar.TypeDir, Name: folder + "/", Mode: 0o775, ModTime: when},
	}
	for _, h := range headers {
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("writing archive: %w", err)
		}
	}
	for _, f := range c.Files {
		h := &tar.Header{Name: folder + "/" + f.Path, ModTime: when}
		switch f.Mode {
		case modeLink:
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, string(f.Data), 0o777
		case modeExecutable:
			h.Typeflag, h.Size, h.Mode = tar.TypeReg, int64(len(f.Data)), 0o775
		default:
			h.Typeflag, h.Size, h.Mode = tar.TypeReg, int64(len(f.Data)), 0o664
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("writing archive: %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if _, err := tw.Write(f.Data); err != nil {
			return fmt.Errorf("writing archive: %w", err)
		}
	}
	if err := tw.Close(); err != nil {
		return fmt.Errorf("writing archive: %w", err)
	}
	if err := zw.Close(); err != nil {
		return fmt.Errorf("writing archive: %w", err)
	}
	return nil
}

// Zip writes the commit as a zip with everything below one folder.
func (c *Commit) Zip(w io.Writer, folder string) error {
	zw := zip.NewWriter(w)
	for _, f := range c.Files {
		h := &zip.FileHeader{Name: folder + "/" + f.Path, Method: zip.Deflate, Modified: date()}
		switch f.Mode {
		case modeLink:
			h.SetMode(fs.ModeSymlink | 0o777)
		case modeExecutable:
			h.SetMode(0o775)
		default:
			h.SetMode(0o664)
		}
		out, err := zw.CreateHeader(h)
		if err != nil {
			return fmt.Errorf("writing archive: %w", err)
		}
		if _, err := out.Write(f.Data); err != nil {
			return fmt.Errorf("writing archive: %w", err)
		}
	}
	if err := zw.Close(); err != nil {
		return fmt.Errorf("writing archive: %w", err)
	}
	return nil
}

func date() time.Time { return time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC) }
