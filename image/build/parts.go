// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"cmp"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/disk"
	"github.com/kettle/attest/image/locks"
	"github.com/kettle/attest/image/uki"
)

// parts is an image while it is made.
type parts struct {
	*Config
	kernel *Kernel
	base   base
	root   string // file in the cache
	config image.SHA256
	verity image.Verity
	line   string // the command line
	uki    int64  // size of the UKI on the disk, in bytes
}

func (p *parts) writeInitrd(ctx context.Context) error {
	var b bytes.Buffer
	config, err := WriteInitrd(ctx, &b, Initrd{Init: p.Kettled, Config: p.Settings, Modules: p.kernel.Modules, Profile: p.Profile})
	if err != nil {
		return err
	}
	p.config = config
	return writeWhole(p.path(initrdFile), b.Bytes())
}

// stubPath is where the package of the EFI stub has it.
const stubPath = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// writeUKI puts the root beside the initrd and writes the UKI, whose command line names both.
func (p *parts) writeUKI(ctx context.Context) (err error) {
	if err := copyOver(p.root, p.path(rootFile)); err != nil {
		return err
	}
	if p.verity, err = SealedRoot(ctx, p.path(rootFile)); err != nil {
		return err
	}
	p.line = image.CommandLine{Config: p.config, Root: p.verity, Debug: p.Debug}.String()
	stub, err := p.base.supply.unpacked(ctx, p.Cache, locks.Stub)
	if err != nil {
		return err
	}
	files := map[string][]byte{
		filepath.Join(stub, stubPath): nil, p.kernel.Image: nil, p.path(initrdFile): nil, filepath.Join(p.base.tree, "usr/lib/os-release"): nil,
	}
	for name := range files {
		if files[name], err = os.ReadFile(name); err != nil { //nolint:gosec // files of the cache.
			return err
		}
	}
	efi, err := uki.Build(uki.Parts{
		Stub: files[filepath.Join(stub, stubPath)], Kernel: files[p.kernel.Image], Initrd: files[p.path(initrdFile)],
		CommandLine: p.line, OSRelease: files[filepath.Join(p.base.tree, "usr/lib/os-release")], Uname: p.kernel.Version,
	})
	if err != nil {
		return err
	}
	p.uki = int64(len(efi))
	if err := writeWhole(p.path(ukiFile), efi); err != nil || p.SecureBoot == nil {
		return err
	}
	signed, err := uki.Sign(ctx, efi, *p.SecureBoot)
	if err != nil {
		return err
	}
	p.uki = int64(len(signed))
	return writeWhole(p.path(signedFile), signed)
}

// describe puts the last files beside the others and writes the manifest.
func (p *parts) describe(ctx context.Context) (*image.Manifest, error) {
	for _, f := range []struct{ source, name string }{
		{p.kernel.Image, kernelFile}, {p.Firmware, firmwareFile}, {filepath.Join(p.base.tree, packageList), packagesFile},
	} {
		if err := copyOver(f.source, p.path(f.name)); err != nil {
			return nil, err
		}
	}
	components, err := p.components(ctx)
	if err != nil {
		return nil, err
	}
	goVersion, err := p.writeSBOM(components)
	if err != nil {
		return nil, err
	}
	m := &image.Manifest{
		SchemaName: image.Schema, Name: p.Name, Profile: string(p.Profile), Build: image.Production,
		KernelVersion: p.kernel.Version, CommandLine: p.line, Verity: p.verity, Components: components,
		Toolchain: image.Toolchain{Go: goVersion, Lock: p.base.supply.digest, Recipe: p.base.recipe},
	}
	if p.Debug {
		m.Build = image.Debug
	}
	for _, f := range []struct {
		name string
		file *image.File
	}{
		{kernelFile, &m.Files.Kernel}, {initrdFile, &m.Files.Initrd}, {firmwareFile, &m.Files.Firmware}, {rootFile, &m.Files.Root},
		{ukiFile, &m.Files.UKI}, {packagesFile, &m.Files.Packages}, {sbomFile, &m.Files.SBOM},
	} {
		if *f.file, err = describe(p.path(f.name)); err != nil {
			return nil, err
		}
	}
	m.Toolchain.Packages = m.Files.Packages.SHA256
	layout, err := disk.Plan(p.uki, m.Files.Root.Size)
	if err != nil {
		return nil, err
	}
	m.Disk = image.Disk{
		Size: layout.Size, ESP: image.Range(layout.ESP), Root: image.Range(layout.Root), Bundle: image.Range(layout.Bundle),
	}
	data, err := m.Marshal()
	if err != nil {
		return nil, err
	}
	return m, writeWhole(p.path(image.ManifestName), data)
}

// components names what people judge by itself.
func (p *parts) components(ctx context.Context) ([]image.Component, error) {
	all := []image.Component{
		{Name: image.ComponentKettled, Path: "/init", Version: programVersion(p.Kettled)},
		{Name: image.ComponentAction, Path: image.ToolsDir + "/kettle-action", Version: programVersion(p.Action)},
	}
	for i, source := range []string{p.Kettled, p.Action} {
		file, err := describe(source)
		if err != nil {
			return nil, err
		}
		all[i].SHA256 = file.SHA256
	}
	runner, err := p.Runner.digest(ctx)
	if err != nil {
		return nil, err
	}
	all = append(all, image.Component{Name: image.ComponentRunner, Path: image.ToolsDir + "/runner", Version: p.Runner.Version, SHA256: runner})
	entries, err := configEntries(p.Settings)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		c := image.Component{Name: image.ConfigurationPrefix + path.Base(e.path), Path: e.path, SHA256: sha256sum(e.data)}
		switch path.Base(e.path) {
		case path.Base(image.ConfigFile):
			c.Name = image.ComponentConfiguration
		case p.Policy:
			c.Name = image.ComponentPolicy
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b image.Component) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// programVersion is the version that the Go toolchain has written into a program, or "" if it did not know one.
func programVersion(path string) string {
	info, err := buildinfo.ReadFile(path)
	if err != nil || info.Main.Version == "(devel)" {
		return ""
	}
	return info.Main.Version
}

// writeDisk writes one form of the disk.
func (p *parts) writeDisk(ctx context.Context, f Format) (err error) {
	efi := p.path(ukiFile)
	if p.SecureBoot != nil {
		efi = p.path(signedFile)
	}
	if f == Raw {
		_, err := disk.Create(ctx, p.path(f.File()), disk.Source{UKI: efi, Root: p.path(rootFile)})
		return err
	}
	return Convert(ctx, p.path(Raw.File()), p.path(f.File()), f)
}

// Convert writes a raw disk in another form to a file that is not there yet.
func Convert(ctx context.Context, raw, to string, f Format) (err error) {
	if f == QCOW2 {
		return disk.QCOW2(ctx, raw, to)
	}
	in, err := os.Open(raw) //nolint:gosec // a file of the image.
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // an image is public.
	if err != nil {
		return err
	}
	switch f {
	case VHD:
		err = disk.VHD(out, in, info.Size())
	case GCP:
		err = disk.GCP(out, in, info.Size())
	default:
		err = fmt.Errorf("format: got %q", f)
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return errors.Join(err, os.Remove(out.Name()))
	}
	return nil
}
