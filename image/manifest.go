// SPDX-License-Identifier: Apache-2.0

package image

import (
	"encoding/json"
	"fmt"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"

	"github.com/kettle/attest/internal/strict"
)

// Schema is the value of a manifest's schema field.
const Schema = "kettle.image/v1"

// DiskFile is the image's disk beside the manifest, which does not name it: the disk is made of the other files, and has a
// partition for what is signed about them.
const DiskFile = "disk.raw"

// ManifestName is the file name of the manifest beside the image's files.
const ManifestName = "image.json"

// maxManifest bounds what [Parse] reads, in bytes.
const maxManifest = 256 << 10

// Kinds of build.
const (
	Production = "production"
	Debug      = "debug" // shows in the command line, and so in every measurement
)

// File is one file of the image.
type File struct {
	Name   string `json:"name"`   // base name, beside the manifest
	SHA256 SHA256 `json:"sha256"` // digest of the whole file
	Size   int64  `json:"size"`   // bytes, more than 0
}

// Files are the files of the image. The disk is made of two of them, see [Disk].
type Files struct {
	Firmware File `json:"firmware"` // what a direct boot starts first
	Initrd   File `json:"initrd"`
	Kernel   File `json:"kernel"`
	Packages File `json:"packages"` // Debian's packages of the root: sorted "name version architecture" lines
	Root     File `json:"root"`     // the root file system with its hash tree
	SBOM     File `json:"sbom"`     // SPDX 2.3
	UKI      File `json:"uki"`      // kernel, initrd and command line in one, unsigned
}

// Range is a part of the disk.
type Range struct {
	Offset int64 `json:"offset"` // bytes
	Size   int64 `json:"size"`   // bytes
}

// Disk says where things are on the disk, which follows from the UKI and the root but for the content of the bundle
// partition: that is written later and is part of no digest.
type Disk struct {
	Bundle Range `json:"bundle"` // the partition for the image's statements
	ESP    Range `json:"esp"`    // the partition with the UKI
	Root   Range `json:"root"`   // the partition with the root file system and its hash tree
	Size   int64 `json:"size"`   // of the whole disk, in bytes
}

// Names of the components that every image has. Each further file of the configuration is a component too, named
// [ConfigurationPrefix] and its base name.
const (
	ComponentKettled       = "kettled"
	ComponentAction        = "kettle-action"
	ComponentRunner        = "runner"
	ComponentConfiguration = "configuration"
	ComponentPolicy        = "policy"
	ConfigurationPrefix    = "configuration/"
)

// Component is something in the image that people judge by itself.
type Component struct {
	Name    string `json:"name"`
	Path    string `json:"path"`   // absolute: in the initrd for what PID 1 brings, else in the root
	SHA256  SHA256 `json:"sha256"` // of the file; of a runner as docs/formats.md says
	Version string `json:"version,omitempty"`
}

// Toolchain says what the image was made from.
type Toolchain struct {
	Go       string `json:"go"`       // what kettled was compiled with, for example "go1.26.0"
	Lock     SHA256 `json:"lock"`     // digest of the lock, which names every package of Debian's
	Packages SHA256 `json:"packages"` // digest of packages.txt
	Recipe   SHA256 `json:"recipe"`   // digest of everything that determines the base file system, the lock included
}

// Manifest names everything that a launch of the image depends on. Marshalled it is canonical JSON (RFC 8785).
type Manifest struct {
	Build         string      `json:"build"` // [Production] or [Debug]
	CommandLine   string      `json:"commandLine"`
	Components    []Component `json:"components"` // in order of their names
	Disk          Disk        `json:"disk"`
	Files         Files       `json:"files"`
	KernelVersion string      `json:"kernelVersion"` // as in /lib/modules, for example "6.12.1+deb12-cloud-amd64"
	Name          string      `json:"name"`          // what people call the image
	Profile       string      `json:"profile"`       // strict or docker
	SchemaName    string      `json:"schema"`
	Toolchain     Toolchain   `json:"toolchain"`
	Verity        Verity      `json:"verity"` // of the root file
}

// Component gives the component of a name; ok tells whether there is one.
func (m *Manifest) Component(name string) (c Component, ok bool) {
	for _, c := range m.Components {
		if c.Name == name {
			return c, true
		}
	}
	return Component{}, false
}

// Parse reads a manifest and validates it. Unknown and repeated fields, and anything after the object, are errors.
func Parse(data []byte) (*Manifest, error) {
	if len(data) > maxManifest {
		return nil, fmt.Errorf("reading the image manifest: %d bytes, at most %d are allowed", len(data), maxManifest)
	}
	var m Manifest
	if err := strict.Decode(data, &m); err != nil {
		return nil, fmt.Errorf("reading the image manifest: %w", err)
	}
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("reading the image manifest: %w", err)
	}
	return &m, nil
}

// Marshal gives the manifest as canonical JSON. An invalid manifest is not written.
func (m *Manifest) Marshal() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("writing the image manifest: %w", err)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("writing the image manifest: %w", err)
	}
	canonical, err := jsoncanonicalizer.Transform(raw)
	if err != nil {
		return nil, fmt.Errorf("writing the image manifest: %w", err)
	}
	return canonical, nil
}
