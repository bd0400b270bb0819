// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/image"
)

// The names of files in an image folder that the manifest does not name.
const (
	imageBundle        = "image.intoto.jsonl"
	imageDisk          = image.DiskFile
	firmwareProvenance = "firmware-provenance.json"
	maxManifestFile    = 1 << 20
)

// linkFiles is the link from the files that somebody has to the manifest.
const linkFiles = "files"

// imageFolder is an image whose files are the ones that its manifest names.
type imageFolder struct {
	dir      string
	manifest *image.Manifest
	digest   binding.Digest // of image.json
	hashed   int64          // bytes
}

// openImage reads the manifest of a folder, and hashes and compares every file that it names.
func openImage(ctx context.Context, dir string, progress *cli.Progress) (*imageFolder, error) {
	raw, err := readBounded(filepath.Join(dir, image.ManifestName), maxManifestFile)
	if err != nil {
		return nil, &cli.UsageError{Err: err}
	}
	m, err := image.Parse(raw)
	if err != nil {
		return nil, &refusal.Refusal{
			Link: linkFiles, Code: refusal.Malformed, Want: "a manifest as kettle image build writes it", Got: "another image.json",
			Next: "take the image again; this one was altered or made by another version", Cause: err,
		}
	}
	f := &imageFolder{dir: dir, manifest: m, digest: binding.Sum(raw)}
	var errs []error
	for _, file := range f.files() {
		err := f.compare(ctx, file, progress)
		if err != nil && len(refusal.All(err)) == 0 {
			return nil, err
		}
		errs = append(errs, err)
	}
	return f, errors.Join(errs...)
}

// files lists what the manifest names.
func (f *imageFolder) files() []image.File {
	m := f.manifest.Files
	return []image.File{m.UKI, m.Kernel, m.Initrd, m.Root, m.Firmware, m.Packages, m.SBOM}
}

func (f *imageFolder) path(file image.File) string { return filepath.Join(f.dir, file.Name) }

func (f *imageFolder) compare(ctx context.Context, file image.File, progress *cli.Progress) error {
	got, err := hashFile(ctx, f.path(file), progress)
	if errors.Is(err, fs.ErrNotExist) {
		return &refusal.Refusal{
			Link: linkFiles, Code: refusal.Missing, Want: "the file " + file.Name + " beside image.json", Got: "none",
			Next: "take the image's folder as a whole", Cause: err,
		}
	}
	if err != nil {
		return err
	}
	if f.hashed += file.Size; got != binding.Digest(file.SHA256) {
		return &refusal.Refusal{
			Link: linkFiles, Code: refusal.Binding, Want: fmt.Sprintf("%s sha256:%s, as image.json says", file.Name, file.SHA256),
			Got: "sha256:" + got.String(), Next: "take the image again: this file was altered or is of another image",
		}
	}
	return nil
}

// subjects lists what the image's statements are about. The disk is made of two of them.
func (f *imageFolder) subjects() []statement.Subject {
	var out []statement.Subject
	m := f.manifest.Files
	for _, file := range []image.File{m.UKI, m.Kernel, m.Initrd, m.Root, m.Firmware} {
		out = append(out, statement.Subject{Name: file.Name, Digest: statement.SHA256(binding.Digest(file.SHA256))})
	}
	return append(out, statement.Subject{Name: statement.ImageManifest, Digest: statement.SHA256(f.digest)})
}

// digests gives the digests of the subjects.
func (f *imageFolder) digests() []binding.Digest {
	var out []binding.Digest
	for _, s := range f.subjects() {
		d, _ := s.Digest.SHA256() // made from one
		out = append(out, d)
	}
	return out
}

// production refuses a debug image.
func (f *imageFolder) production(link string) error {
	if f.manifest.Build == image.Production {
		return nil
	}
	return &refusal.Refusal{
		Link: link, Code: refusal.Debug, Want: "a production image", Got: "a " + f.manifest.Build + " image",
		Next: "build the image without --debug: nobody who verifies accepts this one",
	}
}
