// SPDX-License-Identifier: Apache-2.0

// Package image describes one build image as data: its files by digest and size, its kernel command line, and what it
// was made from.
//
// It guarantees that a [Manifest] which was parsed is complete, strict and free of unknown fields, and that a
// [CommandLine] has exactly one spelling. It trusts nothing and touches no file: whether the files beside a manifest
// are the ones that it names is for the caller to check, and whether anybody should accept them is policy.
package image

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
)

// Schema is the value of a manifest's schema field.
const Schema = "kettle.image/v1"

// ManifestName is the file name of the manifest beside the image's files.
const ManifestName = "image.json"

// maxManifest bounds what [Parse] reads, in bytes.
const maxManifest = 64 << 10

// SHA256 is a SHA-256 digest, written as 64 lower-case hexadecimal digits.
type SHA256 [32]byte

// String gives the digest as lower-case hexadecimal.
func (d SHA256) String() string { return hex.EncodeToString(d[:]) }

// MarshalText implements [encoding.TextMarshaler].
func (d SHA256) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. Only 64 lower-case digits are accepted.
func (d *SHA256) UnmarshalText(text []byte) error {
	digest, err := parseDigest(string(text))
	if err != nil {
		return err
	}
	*d = digest
	return nil
}

func parseDigest(text string) (SHA256, error) {
	var digest SHA256
	if len(text) != hex.EncodedLen(len(digest)) || strings.ToLower(text) != text {
		return SHA256{}, fmt.Errorf("reading a SHA-256 digest: want 64 lower-case hexadecimal digits, got %d characters", len(text))
	}
	if _, err := hex.Decode(digest[:], []byte(text)); err != nil {
		return SHA256{}, fmt.Errorf("reading a SHA-256 digest: %w", err)
	}
	return digest, nil
}

// File is one file of the image.
type File struct {
	Name   string `json:"name"`   // base name, beside the manifest
	SHA256 SHA256 `json:"sha256"` // digest of the whole file
	Size   int64  `json:"size"`   // bytes, more than 0
}

// Toolchain says what the root file system was made from.
type Toolchain struct {
	Go       string `json:"go"`       // the VERSION line of the Go toolchain in the image, for example "go1.26.0"
	Packages SHA256 `json:"packages"` // digest of packages.txt: sorted "name version architecture" lines
	Recipe   SHA256 `json:"recipe"`   // digest of everything that determines the base file system
}

// Manifest names everything that a launch of the image depends on. Marshalled it is canonical JSON (RFC 8785).
type Manifest struct {
	SchemaName    string    `json:"schema"`
	Firmware      File      `json:"firmware"`
	Kernel        File      `json:"kernel"`
	Initrd        File      `json:"initrd"`
	Root          File      `json:"root"`
	RootDigest    SHA256    `json:"rootDigest"` // of the root file, see [RootDigest]
	CommandLine   string    `json:"commandLine"`
	KernelVersion string    `json:"kernelVersion"` // as in /lib/modules, for example "6.12.1+deb12-cloud-amd64"
	Toolchain     Toolchain `json:"toolchain"`
}

// Parse reads a manifest and validates it. Unknown fields and anything after the object are errors.
func Parse(data []byte) (*Manifest, error) {
	if len(data) > maxManifest {
		return nil, fmt.Errorf("reading the image manifest: %d bytes, at most %d are allowed", len(data), maxManifest)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var m Manifest
	if err := decoder.Decode(&m); err != nil {
		return nil, fmt.Errorf("reading the image manifest: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("reading the image manifest: there is data after the object")
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

// Validate reports every field that is absent or contradicts another, joined.
func (m *Manifest) Validate() error {
	var faults []error
	if m.SchemaName != Schema {
		faults = append(faults, fmt.Errorf("schema: want %q, got %q", Schema, m.SchemaName))
	}
	seen := map[string]string{}
	for _, f := range m.files() {
		if err := f.file.validate(); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", f.role, err))
		}
		if other, twice := seen[f.file.Name]; twice {
			faults = append(faults, fmt.Errorf("%s: the same file name as %s", f.role, other))
		}
		seen[f.file.Name] = f.role
	}
	line, err := ParseCommandLine(m.CommandLine)
	switch {
	case err != nil:
		faults = append(faults, fmt.Errorf("commandLine: %w", err))
	case line.Root != m.RootDigest:
		faults = append(faults, errors.New("commandLine: kettle.root is not the root digest"))
	}
	if !plain(m.KernelVersion) {
		faults = append(faults, errors.New("kernelVersion: absent or not one printable word"))
	}
	if !plain(m.Toolchain.Go) {
		faults = append(faults, errors.New("toolchain.go: absent or not one printable word"))
	}
	if m.Toolchain.Packages == (SHA256{}) || m.Toolchain.Recipe == (SHA256{}) {
		faults = append(faults, errors.New("toolchain: packages and recipe digests are required"))
	}
	return errors.Join(faults...)
}

type namedFile struct {
	role string
	file File
}

func (m *Manifest) files() []namedFile {
	return []namedFile{{"firmware", m.Firmware}, {"kernel", m.Kernel}, {"initrd", m.Initrd}, {"root", m.Root}}
}

func (f File) validate() error {
	switch {
	case f.Name == "" || f.Name != path.Base(f.Name) || f.Name == "." || f.Name == ".." || !plain(f.Name):
		return fmt.Errorf("name: want a base name of printable characters, got %q", f.Name)
	case f.SHA256 == SHA256{}:
		return errors.New("sha256: absent")
	case f.Size <= 0:
		return fmt.Errorf("size: want more than 0 bytes, got %d", f.Size)
	}
	return nil
}

// plain reports whether s is one non-empty word of printable ASCII.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}
