// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kettle/attest/image"
)

// Config says what to build. Every field without "optional" is required.
type Config struct {
	Output   string // folder for the image's files; made when absent
	Cache    string // folder for what can be used again, see [CacheDir]
	Kettled  string // file: the static program that becomes the initrd's /init
	Settings string // folder: the measured configuration, see [Initrd]
	Profile  Profile
	Firmware string // file: what QEMU starts first
	GoRoot   string // folder: the Go toolchain that jobs use
	Action   string // file: kettle-action
	Hook     string // file: started.sh
	Runner   string // folder: the runner, with bin/Runner.Listener
	Extra    []Tree // optional: more files for jobs
	Mirror   Mirror

	Progress func(Step) // optional; called from several goroutines, one at a time
}

// Step is one finished part of a build.
type Step struct {
	Name   string // "kernel", "base", "root", "initrd" or "manifest"
	Took   time.Duration
	Cached bool
}

// Validate reports every field that is absent, joined.
func (c *Config) Validate() error {
	var faults []error
	for _, f := range []struct{ name, value string }{
		{"output", c.Output}, {"cache", c.Cache}, {"kettled", c.Kettled}, {"settings", c.Settings}, {"firmware", c.Firmware},
		{"go root", c.GoRoot}, {"action", c.Action}, {"hook", c.Hook}, {"runner", c.Runner},
		{"mirror archive", c.Mirror.Archive}, {"mirror security", c.Mirror.Security},
	} {
		if f.value == "" {
			faults = append(faults, fmt.Errorf("%s: absent", f.name))
		}
	}
	if err := c.Profile.Validate(); err != nil {
		faults = append(faults, err)
	}
	for _, t := range c.Extra {
		if t.Source == "" || !filepath.IsAbs(t.Target) || t.Owner < 0 {
			faults = append(faults, fmt.Errorf("extra: want a source, an absolute target and an owner, got %q, %q, %d", t.Source, t.Target, t.Owner))
		}
	}
	return errors.Join(faults...)
}

// Names of the image's files.
const (
	kernelFile   = "vmlinuz"
	initrdFile   = "initrd.cpio"
	rootFile     = "root.erofs"
	firmwareFile = "firmware.bin"
	packagesFile = "packages.txt"
)

// Build makes the image and gives its manifest, which it also writes, last, as [image.ManifestName]. Only one build
// uses a cache at a time; another waits. What is unchanged comes from the cache: a new kettled or configuration makes
// a new initrd and command line only.
func Build(ctx context.Context, c Config) (m *image.Manifest, err error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("building the image: %w", err)
	}
	if err := os.MkdirAll(c.Output, 0o755); err != nil { //nolint:gosec // nothing in an image is secret.
		return nil, fmt.Errorf("building the image: %w", err)
	}
	unlock, err := lock(ctx, c.Cache)
	if err != nil {
		return nil, fmt.Errorf("building the image: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := os.Remove(c.path(image.ManifestName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("building the image: %w", err)
	}
	m, err = c.build(ctx)
	if err != nil {
		return nil, fmt.Errorf("building the image: %w", err)
	}
	return m, nil
}

func (c *Config) path(name string) string { return filepath.Join(c.Output, name) }

func (c *Config) build(ctx context.Context) (*image.Manifest, error) {
	progress := newReporter(c.Progress)
	kernel, bases, err := prefetch(ctx, c.Cache, c.Mirror, progress, c.Profile)
	if err != nil {
		return nil, err
	}
	b := bases[0]
	begin := time.Now()
	root, cached, err := makeRoot(ctx, c.Cache, b, c.trees())
	if err := progress.done(Step{Name: "root", Took: time.Since(begin), Cached: cached}, err); err != nil {
		return nil, err
	}
	begin = time.Now()
	config, err := c.writeInitrd(ctx, kernel)
	if err := progress.done(Step{Name: "initrd", Took: time.Since(begin)}, err); err != nil {
		return nil, err
	}
	begin = time.Now()
	m, err := c.assemble(kernel, b, root, config)
	return m, progress.done(Step{Name: "manifest", Took: time.Since(begin)}, err)
}

// trees is what the root gets beyond its base.
func (c *Config) trees() []Tree {
	return append([]Tree{
		GoTree(c.GoRoot),
		{Source: c.Action, Target: image.ToolsDir + "/kettle-action"},
		{Source: c.Hook, Target: image.ToolsDir + "/started.sh"},
		{Source: c.Runner, Target: image.ToolsDir + "/runner"},
	}, c.Extra...)
}

func (c *Config) writeInitrd(ctx context.Context, kernel *Kernel) (config image.SHA256, err error) {
	out, err := os.Create(c.path(initrdFile))
	if err != nil {
		return config, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	return WriteInitrd(ctx, out, Initrd{Init: c.Kettled, Config: c.Settings, Modules: kernel.Modules, Profile: c.Profile})
}

// assemble puts the other files beside the initrd and writes the manifest.
func (c *Config) assemble(kernel *Kernel, b base, root string, config image.SHA256) (*image.Manifest, error) {
	m := &image.Manifest{SchemaName: image.Schema, KernelVersion: kernel.Version}
	m.Toolchain.Recipe = b.recipe
	packages := filepath.Join(b.tree, packageList)
	for _, f := range []struct{ source, name string }{
		{kernel.Image, kernelFile}, {c.Firmware, firmwareFile}, {root, rootFile}, {packages, packagesFile},
	} {
		if err := copyOver(f.source, c.path(f.name)); err != nil {
			return nil, err
		}
	}
	var list image.File
	for _, f := range []struct {
		name string
		file *image.File
	}{
		{kernelFile, &m.Kernel}, {initrdFile, &m.Initrd}, {firmwareFile, &m.Firmware}, {rootFile, &m.Root}, {packagesFile, &list},
	} {
		var err error
		if *f.file, err = describe(c.path(f.name)); err != nil {
			return nil, err
		}
	}
	m.Toolchain.Packages = list.SHA256
	goVersion, err := os.ReadFile(filepath.Join(c.GoRoot, "VERSION"))
	if err != nil {
		return nil, err
	}
	m.Toolchain.Go, _, _ = strings.Cut(string(goVersion), "\n")
	if m.RootDigest, err = RootDigest(c.path(rootFile)); err != nil {
		return nil, err
	}
	m.CommandLine = image.CommandLine{Config: config, Root: m.RootDigest}.String()
	data, err := m.Marshal()
	if err != nil {
		return nil, err
	}
	return m, writeWhole(c.path(image.ManifestName), data)
}

// copyOver copies to a new file that then takes the name.
func copyOver(source, target string) (err error) {
	out, err := os.CreateTemp(filepath.Dir(target), ".new-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(out.Name()))
		}
	}()
	if err := errors.Join(copyFile(out, source), out.Chmod(0o644), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), target)
}

func writeWhole(path string, data []byte) error {
	if err := os.WriteFile(path+".new", data, 0o644); err != nil { //nolint:gosec // a manifest is public.
		return err
	}
	return os.Rename(path+".new", path)
}
