// SPDX-License-Identifier: Apache-2.0

// Package imagetest makes manifests for tests: complete and valid, of files that do not exist.
package imagetest

import (
	"bytes"

	"github.com/kettle/attest/image"
)

// Digest is 32 times one byte.
func Digest(b byte) image.SHA256 { return image.SHA256(bytes.Repeat([]byte{b}, 32)) }

// Manifest is a valid manifest of a strict production image. Its digests are made by [Digest]; what a test replaces, it has
// to replace wherever the manifest says it, see [Relabel].
func Manifest() *image.Manifest {
	file := func(name string, digest byte, size int64) image.File {
		return image.File{Name: name, SHA256: Digest(digest), Size: size}
	}
	m := &image.Manifest{
		SchemaName: image.Schema, Name: "kettle-strict", Profile: "strict", Build: image.Production, KernelVersion: "6.12.1-cloud-amd64",
		Files: image.Files{
			Firmware: file("firmware.bin", 0x33, 65536), Kernel: file("vmlinuz", 0x55, 6), Initrd: file("initrd.cpio", 0x44, 5),
			Root: file("root.erofs", 0x66, 73728), UKI: file("uki.efi", 0x77, 4096), Packages: file("packages.txt", 0x88, 10), SBOM: file("sbom.spdx.json", 0x99, 20),
		},
		Verity: image.Verity{RootHash: Digest(0x22), DataBlocks: 17},
		Components: []image.Component{
			{Name: image.ComponentConfiguration, Path: image.ConfigFile, SHA256: Digest(0x11)},
			{Name: image.ConfigurationPrefix + "sink.pem", Path: image.ConfigDir + "/sink.pem", SHA256: Digest(0xa1)},
			{Name: image.ComponentAction, Path: image.ToolsDir + "/kettle-action", SHA256: Digest(0xa2), Version: "v1.2.3"},
			{Name: image.ComponentKettled, Path: "/init", SHA256: Digest(0xa3), Version: "v1.2.3"},
			{Name: image.ComponentPolicy, Path: image.ConfigDir + "/policy.yaml", SHA256: Digest(0xa4)},
			{Name: image.ComponentRunner, Path: image.ToolsDir + "/runner", SHA256: Digest(0xa5), Version: "2.336.0"},
		},
		Disk: image.Disk{
			ESP: image.Range{Offset: 1 << 20, Size: 64 << 20}, Root: image.Range{Offset: 65 << 20, Size: 1 << 20},
			Bundle: image.Range{Offset: 66 << 20, Size: 4 << 20}, Size: 71 << 20,
		},
		Toolchain: image.Toolchain{Go: "go1.26.0", Lock: Digest(0xb1), Packages: Digest(0x88), Recipe: Digest(0xb2)},
	}
	Relabel(m)
	return m
}

// Relabel writes the command line anew, from the manifest's own configuration, root and kind of build.
func Relabel(m *image.Manifest) {
	config, _ := m.Component(image.ComponentConfiguration)
	m.CommandLine = image.CommandLine{Config: config.SHA256, Root: m.Verity, Debug: m.Build == image.Debug}.String()
}
