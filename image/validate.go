// SPDX-License-Identifier: Apache-2.0

package image

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Names of images and profiles, and of components, of which some hold a file's name.
var (
	shortName     = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}$`)
	componentName = regexp.MustCompile(`^[a-z][a-z-]{0,30}(/[A-Za-z0-9][A-Za-z0-9._-]{0,63})?$`)
)

// maxComponents bounds the components of a manifest.
const maxComponents = 256

// Validate reports every field that is absent or contradicts another, joined.
func (m *Manifest) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(m.SchemaName == Schema, "schema: want %q, got %.40q", Schema, m.SchemaName)
	check(shortName.MatchString(m.Name), "name: want lower-case letters, digits, dots and dashes, got %.80q", m.Name)
	check(m.Profile == "strict" || m.Profile == "docker", "profile: want strict or docker, got %.40q", m.Profile)
	check(m.Build == Production || m.Build == Debug, "build: want %s or %s, got %.40q", Production, Debug, m.Build)
	check(plain(m.KernelVersion), "kernelVersion: absent or not one printable word")
	check(plain(m.Toolchain.Go), "toolchain.go: absent or not one printable word")
	check(m.Toolchain.Packages != SHA256{} && m.Toolchain.Packages == m.Files.Packages.SHA256, "toolchain.packages: want the digest of the file")
	check(m.Toolchain.Recipe != SHA256{}, "toolchain.recipe: absent")
	check(m.Toolchain.Lock != SHA256{}, "toolchain.lock: absent")
	return errors.Join(append(faults, m.validateFiles(), m.validateCommandLine(), m.validateComponents(), m.validateDisk())...)
}

func (m *Manifest) validateFiles() error {
	f := m.Files
	var faults []error
	seen := map[string]string{ManifestName: "the manifest"}
	for _, f := range []struct {
		role string
		file File
	}{
		{"firmware", f.Firmware}, {"initrd", f.Initrd}, {"kernel", f.Kernel}, {"packages", f.Packages}, {"root", f.Root}, {"sbom", f.SBOM}, {"uki", f.UKI},
	} {
		if err := f.file.validate(); err != nil {
			faults = append(faults, fmt.Errorf("files.%s: %w", f.role, err))
		}
		if other, twice := seen[f.file.Name]; twice {
			faults = append(faults, fmt.Errorf("files.%s: the same file name as %s", f.role, other))
		}
		seen[f.file.Name] = f.role
	}
	return errors.Join(faults...)
}

func (f File) validate() error {
	switch {
	case f.Name == "" || f.Name != path.Base(f.Name) || f.Name == "." || f.Name == ".." || !plain(f.Name):
		return fmt.Errorf("name: want a base name of printable characters, got %.80q", f.Name)
	case f.SHA256 == SHA256{}:
		return errors.New("sha256: absent")
	case f.Size <= 0:
		return fmt.Errorf("size: want more than 0 bytes, got %d", f.Size)
	}
	return nil
}

// validateCommandLine holds what is said twice together: a reader may take either.
func (m *Manifest) validateCommandLine() error {
	line, err := ParseCommandLine(m.CommandLine)
	if err != nil {
		return fmt.Errorf("commandLine: %w", err)
	}
	var faults []error
	if line.String() != m.CommandLine {
		faults = append(faults, errors.New("commandLine: it ends in a newline"))
	}
	if line.Root != m.Verity {
		faults = append(faults, errors.New("commandLine: kettle.root is not what verity says"))
	}
	if line.Debug != (m.Build == Debug) {
		faults = append(faults, fmt.Errorf("commandLine: it is not that of a %.40q build", m.Build))
	}
	if c, ok := m.Component(ComponentConfiguration); ok && c.SHA256 != line.Config {
		faults = append(faults, errors.New("commandLine: kettle.config is not the digest of the configuration"))
	}
	return errors.Join(faults...)
}

func (m *Manifest) validateComponents() error {
	if len(m.Components) > maxComponents {
		return fmt.Errorf("components: %d, at most %d are allowed", len(m.Components), maxComponents)
	}
	var faults []error
	paths := map[string]string{}
	for _, c := range m.Components {
		if err := c.validate(); err != nil {
			faults = append(faults, fmt.Errorf("components: %.80q: %w", c.Name, err))
		}
		if other, twice := paths[c.Path]; twice {
			faults = append(faults, fmt.Errorf("components: %.80q: the same path as %q", c.Name, other))
		}
		paths[c.Path] = c.Name
	}
	byName := func(a, b Component) int { return cmp.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(m.Components, byName) || len(slices.CompactFunc(slices.Clone(m.Components), func(a, b Component) bool { return a.Name == b.Name })) != len(m.Components) {
		faults = append(faults, errors.New("components: want them in order of their names, each once"))
	}
	for _, name := range []string{ComponentKettled, ComponentAction, ComponentRunner, ComponentConfiguration, ComponentPolicy} {
		if _, ok := m.Component(name); !ok {
			faults = append(faults, fmt.Errorf("components: %s: absent", name))
		}
	}
	return errors.Join(faults...)
}

func (c Component) validate() error {
	switch {
	case !componentName.MatchString(c.Name):
		return errors.New("name: want a word, or one with a file's name behind a slash")
	case !plain(c.Path) || !path.IsAbs(c.Path) || path.Clean(c.Path) != c.Path || c.Path == "/":
		return fmt.Errorf("path: want an absolute path, got %.80q", c.Path)
	case c.SHA256 == SHA256{}:
		return errors.New("sha256: absent")
	case c.Version != "" && !plain(c.Version):
		return fmt.Errorf("version: want one printable word, got %.80q", c.Version)
	case strings.HasPrefix(c.Name, ConfigurationPrefix) && c.Path != ConfigDir+"/"+path.Base(c.Name):
		return fmt.Errorf("path: want %s, got %.80q", ConfigDir+"/"+path.Base(c.Name), c.Path)
	}
	return nil
}

// validateDisk wants the partitions in order, apart, and large enough.
func (m *Manifest) validateDisk() error {
	d, end := m.Disk, int64(0)
	for _, p := range []struct {
		name  string
		part  Range
		least int64
	}{{"esp", d.ESP, m.Files.UKI.Size}, {"root", d.Root, m.Files.Root.Size}, {"bundle", d.Bundle, 1}} {
		if p.part.Offset < max(end, 1) || p.part.Size < p.least || p.part.Size <= 0 || p.part.Size > d.Size || p.part.Offset > d.Size-p.part.Size {
			return fmt.Errorf("disk.%s: want room for %d bytes behind byte %d of %d, got %d at %d", p.name, p.least, end, d.Size, p.part.Size, p.part.Offset)
		}
		end = p.part.Offset + p.part.Size
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
