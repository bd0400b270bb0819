// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cavaliergopher/cpio"

	"github.com/kettle/attest/image"
)

// Initrd says what the initial file system holds.
type Initrd struct {
	Init    string  // file: the static program that is PID 1
	Config  string  // folder: its regular files go to /etc/kettle; config.yaml is required
	Modules string  // folder: the kernel's modules
	Profile Profile // decides which of them the guest loads
}

// WriteInitrd writes the initrd and gives the digest of its configuration. The archive is sorted, without times and
// owners: the same inputs give the same bytes. It is not compressed: handing bytes to a guest is cheaper than having
// it inflate them.
func WriteInitrd(ctx context.Context, w io.Writer, in Initrd) (image.SHA256, error) {
	entries, err := in.entries(ctx)
	if err != nil {
		return image.SHA256{}, fmt.Errorf("making the initrd: %w", err)
	}
	config := slices.IndexFunc(entries, func(e entry) bool { return e.path == image.ConfigFile })
	if config < 0 {
		return image.SHA256{}, fmt.Errorf("making the initrd: %s holds no %s", in.Config, path.Base(image.ConfigFile))
	}
	digest := sha256sum(entries[config].data)
	if err := writeArchive(w, entries); err != nil {
		return image.SHA256{}, fmt.Errorf("making the initrd: %w", err)
	}
	return digest, nil
}

// entry is a folder (no data) or a regular file of the archive.
type entry struct {
	path string // absolute
	mode cpio.FileMode
	data []byte
}

func (in Initrd) entries(ctx context.Context) ([]entry, error) {
	if err := in.Profile.Validate(); err != nil {
		return nil, err
	}
	initProgram, err := os.ReadFile(in.Init)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(initProgram, []byte("\x7fELF")) {
		return nil, fmt.Errorf("%s: want a static program", in.Init)
	}
	entries := []entry{
		{path: "/init", mode: cpio.TypeReg | 0o755, data: initProgram},
	}
	for _, dir := range []string{"/dev", "/proc", "/sys", "/sysroot", "/etc", image.ConfigDir, image.ModulesDir} {
		entries = append(entries, entry{path: dir, mode: cpio.TypeDir | 0o755})
	}
	modules, err := in.moduleEntries(ctx)
	if err != nil {
		return nil, err
	}
	entries = append(entries, modules...)
	config, err := configEntries(in.Config)
	if err != nil {
		return nil, err
	}
	return append(entries, config...), nil
}

// moduleEntries are the profile's modules and their list.
func (in Initrd) moduleEntries(ctx context.Context) ([]entry, error) {
	modules, err := loadOrder(ctx, in.Modules, in.Profile.modules(), hardwareModules)
	if err != nil {
		return nil, err
	}
	var entries []entry
	var listed []image.Module
	for _, m := range modules {
		entries = append(entries, entry{path: path.Join(image.ModulesDir, m.File), mode: cpio.TypeReg | 0o444, data: m.data})
		listed = append(listed, m.Module)
	}
	list, err := image.FormatModules(listed)
	if err != nil {
		return nil, err
	}
	return append(entries, entry{path: image.ModuleList, mode: cpio.TypeReg | 0o444, data: []byte(list)}), nil
}

// configEntries takes the regular files of a flat folder; anything else in it is an error, nothing is skipped.
func configEntries(folder string) ([]entry, error) {
	files, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var entries []entry
	for _, f := range files {
		name := filepath.Join(folder, f.Name())
		if !f.Type().IsRegular() {
			return nil, fmt.Errorf("%s: want only regular files in the configuration", name)
		}
		data, err := os.ReadFile(name) //nolint:gosec // the caller's folder.
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry{path: path.Join(image.ConfigDir, f.Name()), mode: cpio.TypeReg | 0o444, data: data})
	}
	return entries, nil
}

// writeArchive writes "newc" entries in order of their paths, so that folders come before what they hold.
func writeArchive(w io.Writer, entries []entry) error {
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.path, b.path) })
	archive := cpio.NewWriter(w)
	for i, e := range entries {
		header := &cpio.Header{
			Name:    strings.TrimPrefix(e.path, "/"),
			Mode:    e.mode,
			Size:    int64(len(e.data)),
			ModTime: time.Unix(0, 0),
			Inode:   int64(i + 1),
			Links:   1,
		}
		if err := archive.WriteHeader(header); err != nil {
			return fmt.Errorf("%s: %w", e.path, err)
		}
		if _, err := archive.Write(e.data); err != nil {
			return fmt.Errorf("%s: %w", e.path, err)
		}
	}
	return errors.Join(archive.Close())
}
