// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/locks"
	"github.com/kettle/attest/image/uki"
)

// Config says what to build. Every field without "optional" is required.
type Config struct {
	Output   string      // folder for the image's files; made when absent
	Name     string      // optional: what people call the image; without it, kettle- and the profile
	Cache    string      // folder for what can be used again, see [CacheDir]
	Kettled  string      // file: the static program that becomes the initrd's /init
	Settings string      // folder: the measured configuration, see [Initrd]
	Policy   string      // base name of the policy in Settings
	Profile  Profile     // that of the configuration
	Lock     *locks.Lock // optional: see [System]
	Debug    bool        // optional: a debug build, which shows in its measurement
	Firmware string      // file: what QEMU starts first
	Action   string      // file: kettle-action
	Hook     string      // file: started.sh
	Runner   Runner
	GoRoot   string // optional: folder of a Go toolchain for jobs
	Extra    []Tree // optional: more files for jobs
	Mirror   Mirror
	Formats  []Format // optional: in which forms the disk is written
	// SecureBoot, if not nil, signs the UKI on the disk; the other files stay as they are.
	SecureBoot *uki.Keys

	Watch Watch // optional
}

// Step is one finished part of a build.
type Step struct {
	Name   string // "packages", "kernel", "base", "root", "initrd", "uki", "manifest", or a format of the disk
	Took   time.Duration
	Cached bool
	Note   string // what people should know about it, or ""
}

// fileName is what the name of a file beside the configuration looks like.
var fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// Validate reports every field that is absent, joined.
func (c *Config) Validate() error {
	var faults []error
	for _, f := range []struct{ name, value string }{
		{"output", c.Output}, {"cache", c.Cache}, {"kettled", c.Kettled}, {"settings", c.Settings}, {"policy", c.Policy}, {"firmware", c.Firmware},
		{"action", c.Action}, {"hook", c.Hook}, {"runner folder", c.Runner.Folder}, {"runner version", c.Runner.Version},
		{"runner release", c.Runner.Release}, {"mirror archive", c.Mirror.Archive}, {"mirror security", c.Mirror.Security},
	} {
		if f.value == "" {
			faults = append(faults, fmt.Errorf("%s: absent", f.name))
		}
	}
	if err := c.Profile.Validate(); err != nil {
		faults = append(faults, err)
	}
	if c.Policy != "" && !fileName.MatchString(c.Policy) {
		faults = append(faults, fmt.Errorf("policy: want a file name, got %q", c.Policy))
	}
	for _, t := range c.Extra {
		if t.Source == "" || !filepath.IsAbs(t.Target) || t.Owner < 0 {
			faults = append(faults, fmt.Errorf("extra: want a source, an absolute target and an owner, got %q, %q, %d", t.Source, t.Target, t.Owner))
		}
	}
	for _, f := range c.Formats {
		if f.File() == "" {
			faults = append(faults, fmt.Errorf("format: want %v, got %q", Formats(), f))
		}
	}
	return errors.Join(faults...)
}

// Names of the image's files.
const (
	kernelFile   = "vmlinuz"
	initrdFile   = "initrd.cpio"
	rootFile     = "root.erofs"
	ukiFile      = "uki.efi"
	signedFile   = "uki.signed.efi"
	firmwareFile = "firmware.bin"
	packagesFile = "packages.txt"
	sbomFile     = "sbom.spdx.json"
)

// Build makes the image and gives its manifest, which it also writes, last but for the disk, as [image.ManifestName]. Only
// one build uses a cache at a time; another waits. What is unchanged comes from the cache: a new kettled or configuration
// makes a new initrd, UKI and disk only.
//
// The files are a function of the lock, the programs and the folders that it is given: no clock, time zone, user, umask,
// path or name of this machine changes a bit.
func Build(ctx context.Context, c Config) (m *image.Manifest, err error) {
	if c.Name == "" {
		c.Name = "kettle-" + string(c.Profile)
	}
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
	if err := c.forget(); err != nil {
		return nil, fmt.Errorf("building the image: %w", err)
	}
	m, err = c.build(ctx)
	if err != nil {
		return nil, fmt.Errorf("building the image: %w", err)
	}
	return m, nil
}

func (c *Config) path(name string) string { return filepath.Join(c.Output, name) }

// forget removes what an earlier build left that this one may not replace: nobody shall take it for this one's.
func (c *Config) forget() error {
	names := []string{image.ManifestName, signedFile}
	for _, f := range Formats() {
		names = append(names, f.File())
	}
	for _, name := range names {
		if err := os.Remove(c.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (c *Config) build(ctx context.Context) (*image.Manifest, error) {
	progress := newReporter(c.Watch)
	kernel, bases, err := prefetch(ctx, c.Cache, c.Mirror, progress, System{Profile: c.Profile, Lock: c.Lock})
	if err != nil {
		return nil, err
	}
	p := &parts{Config: c, kernel: kernel, base: bases[0]}
	step := func(name string, do func() (cached bool, err error)) {
		if err != nil {
			return
		}
		begin := time.Now()
		var cached bool
		cached, err = do()
		err = progress.done(Step{Name: name, Took: time.Since(begin), Cached: cached}, err)
	}
	step("root", func() (cached bool, err error) {
		p.root, cached, err = makeRoot(ctx, c.Cache, p.base, c.trees())
		return cached, err
	})
	step("initrd", func() (bool, error) { return false, p.writeInitrd(ctx) })
	step("uki", func() (bool, error) { return false, p.writeUKI(ctx) })
	var m *image.Manifest
	step("manifest", func() (_ bool, err error) {
		m, err = p.describe(ctx)
		return false, err
	})
	for _, f := range Formats() {
		if c.wants(f) {
			step(string(f), func() (bool, error) { return false, p.writeDisk(ctx, f) })
		}
	}
	return m, err
}

// trees is what the root gets beyond its base.
func (c *Config) trees() []Tree {
	trees := []Tree{
		{Source: c.Action, Target: image.ToolsDir + "/kettle-action"},
		{Source: c.Hook, Target: image.ToolsDir + "/started.sh"},
		{Source: c.Runner.Folder, Target: image.ToolsDir + "/runner"},
		{Source: c.Runner.Release, Target: image.ToolsDir + "/runner.json"},
	}
	if c.GoRoot != "" {
		trees = append(trees, GoTrees(c.GoRoot)...)
	}
	return append(trees, c.Extra...)
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
