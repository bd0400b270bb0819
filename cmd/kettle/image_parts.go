// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path/filepath"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/measure"
	"github.com/kettle/attest/image/measure/ovmf"
)

// maxImageFile bounds a kernel, an initrd or a UKI, in bytes.
const maxImageFile = 1 << 30

// imageFile is one file of an image.
type imageFile struct {
	path string      // "" if there is none
	want *image.File // what a manifest says of it, or nil
}

// imageParts is what is launched.
type imageParts struct {
	firmware, kernel, initrd imageFile
	cmdline                  string
	progress                 *cli.Progress
}

// parts takes the files from the manifest or from the flags.
func (f measureFlags) parts() (imageParts, error) {
	if f.manifest == "" {
		return imageParts{firmware: imageFile{path: f.ovmf}, kernel: imageFile{path: f.kernel}, initrd: imageFile{path: f.initrd}, cmdline: f.cmdline}, nil
	}
	b, err := readBounded(f.manifest, 64<<10)
	if err != nil {
		return imageParts{}, &cli.UsageError{Err: err}
	}
	m, err := image.Parse(b)
	if err != nil {
		return imageParts{}, cli.Usagef("%s: %w", f.manifest, err)
	}
	beside := func(file image.File) imageFile {
		return imageFile{filepath.Join(filepath.Dir(f.manifest), file.Name), &file}
	}
	p := imageParts{firmware: beside(m.Files.Firmware), kernel: beside(m.Files.Kernel), initrd: beside(m.Files.Initrd), cmdline: m.CommandLine}
	if f.ovmf != "" {
		p.firmware = imageFile{path: f.ovmf}
	}
	return p, nil
}

// digest gives the file's SHA-256: what the manifest says, without reading the file, or what the file has.
func (f imageFile) digest(ctx context.Context, progress *cli.Progress) (image.SHA256, error) {
	if f.want != nil {
		return f.want.SHA256, nil
	}
	d, err := hashFile(ctx, f.path, progress)
	return image.SHA256(d), err
}

// read gives the file's bytes; they have to be what the manifest says.
func (f imageFile) read(ctx context.Context, limit int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", f.path, err)
	}
	b, err := readBounded(f.path, limit)
	if err != nil {
		return nil, err
	}
	if f.want != nil && sha256.Sum256(b) != f.want.SHA256 {
		return nil, fmt.Errorf("reading %s: it is not the file that the manifest names: its digest differs", f.path)
	}
	return b, nil
}

// ovmf reads the firmware.
func (p imageParts) ovmf(ctx context.Context) (*ovmf.Firmware, error) {
	b, err := p.firmware.read(ctx, ovmf.MaxSize)
	if err != nil {
		return nil, err
	}
	f, err := ovmf.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.firmware.path, err)
	}
	return f, nil
}

// hashes gives the digests of a direct boot, or nil if there is no kernel.
func (p imageParts) hashes(ctx context.Context) (*measure.KernelHashes, error) {
	if p.kernel.path == "" {
		return nil, nil //nolint:nilnil // a boot without a kernel of its own is one of the two kinds.
	}
	h := measure.KernelHashes{Initrd: sha256.Sum256(nil), CommandLine: measure.KernelCommandLine(p.cmdline)}
	var err error
	if h.Kernel, err = p.kernel.digest(ctx, p.progress); err != nil {
		return nil, err
	}
	if p.initrd.path != "" {
		if h.Initrd, err = p.initrd.digest(ctx, p.progress); err != nil {
			return nil, err
		}
	}
	return &h, nil
}
