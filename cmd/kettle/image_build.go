// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/cmd/internal/commands"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/build"
	"github.com/kettle/attest/image/launch"
	"github.com/kettle/attest/image/locks"
	"github.com/kettle/attest/image/uki"
	"github.com/kettle/attest/runner/config"
	"github.com/kettle/attest/runner/program"
)

const buildSchema = "kettle.build/v1"

// buildFlags are the flags as written.
type buildFlags struct {
	supplyFlags
	output, name, settings, kind            string
	runner, release                         string
	kettled, action, hook, firmware, goroot string
	secureBootKey, secureBootCert           string
	formats, trees                          []string
	json                                    bool
}

// buildJSON is the output of the command.
type buildJSON struct {
	Schema   string          `json:"schema"`
	Output   string          `json:"output"`   // folder
	Manifest json.RawMessage `json:"manifest"` // as in image.json
	Steps    []stepJSON      `json:"steps"`
}

func (a *app) imageBuildCommand() *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:   "build --settings DIR --runner FILE|DIR --output DIR [--build production|debug] [--format raw,...]",
		Short: "Build an image",
		Long: `build makes an image: a kernel, an initrd whose only program is kettled, and a read-only root file system of Debian packages
under dm-verity, which the measured command line names together with the configuration. The same inputs give the same bytes,
on whatever machine, at whatever time, for whatever user.

In the output folder:

  vmlinuz, initrd.cpio, root.erofs   what a direct boot starts; the root holds its hash tree
  uki.efi                            kernel, initrd and command line in one EFI program
  firmware.bin                       the firmware that a direct boot is measured with
  packages.txt, sbom.spdx.json       what is inside: Debian's packages; everything, as SPDX 2.3
  image.json                         all of these by digest, and the components: what gets attested
  disk.raw, .qcow2, .vhd, .tar.gz    the disk in the forms of --format

Debian's packages are those of a lock: names, versions and digests, resolved by apt against Debian's signed archive. Each
profile's published lock is part of this program; see kettle image lock. They are fetched by digest and installed without a
network. What is unchanged since the last build comes from the cache.

The runner is GitHub's own release, pinned by a file:

  {"schema":"kettle.runner/v1","version":"2.336.0","released":"2026-08-17","size":235000000,
   "url":"https://github.com/actions/runner/releases/download/v2.336.0/actions-runner-linux-x64-2.336.0.tar.gz",
   "sha256":"<as the release page says it>"}

or a folder with bin/Runner.Listener, then with --release. It brings its own Node.js; jobs find git, curl, sudo, tar, zstd and jq,
with the profile docker also container engines and compilers. More goes in with --tree, or as packages of a lock.

A debug build says so on its command line: its kernel speaks on the serial line, and every verifier refuses it.

It takes root where the base system or the root file system changed: their files belong to several users.`,
		Example: `  kettle image build --settings settings --runner runner.lock --output out
  kettle image build --settings settings --runner runner.lock --output out --format raw,vhd --json
  kettle image build --settings settings --runner runner.lock --output out --go "$(go env GOROOT)" --tree cache=/var/cache/build:1001`,
		Args: cobra.NoArgs,
		RunE: a.Does(func(cmd *cobra.Command, _ []string) error { return a.imageBuild(cmd.Context(), f) }),
	}
	f.define(cmd)
	return cmd
}

func (f *buildFlags) define(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.output, "output", "o", "", "folder for the image (required)")
	flags.StringVar(&f.settings, "settings", "", "folder with config.yaml, which names the profile, and the files that it names (required)")
	flags.StringVar(&f.runner, "runner", "", "file that pins a release of the runner, or folder with bin/Runner.Listener (required)")
	flags.StringVar(&f.release, "release", "", `with a folder: file that says what it holds, {"version":"2.336.0","released":"2026-08-17"}`)
	flags.StringVar(&f.kind, "build", image.Production, "production or debug")
	flags.StringVar(&f.name, "name", "", "what to call the image (default kettle- and the profile)")
	flags.StringSliceVar(&f.formats, "format", []string{string(build.Raw)}, "forms of the disk: raw, qcow2, vhd, tar.gz, or none; several with commas")
	flags.StringVar(&f.kettled, "kettled", "", "the static program kettled (default: beside this program)")
	flags.StringVar(&f.action, "action", "", "the static program kettle-action (default: beside this program)")
	flags.StringVar(&f.hook, "hook", "", "started.sh, the started hook (default: beside this program)")
	flags.StringVar(&f.firmware, "firmware", "", "firmware of a direct boot (default: QEMU's)")
	flags.StringVar(&f.goroot, "go", "", "folder of a Go toolchain for jobs, which goes to /usr/local/go without its tests")
	flags.StringArrayVar(&f.trees, "tree", nil, "more files for jobs, as FROM=TO or FROM=TO:UID; again for more")
	flags.StringVar(&f.secureBootKey, "secure-boot-key", "", "PEM file of a key that signs the UKI on the disk")
	flags.StringVar(&f.secureBootCert, "secure-boot-cert", "", "PEM file of its certificate")
	flags.BoolVar(&f.json, "json", false, "print one JSON object")
	f.supplyFlags.define(cmd)
	fixed := func(flag string, values ...string) {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	fixed("build", image.Production, image.Debug)
	fixed("format", "raw", "qcow2", "vhd", "tar.gz", "none")
}

func (a *app) imageBuild(ctx context.Context, f buildFlags) error {
	c, runner, err := f.config()
	if err != nil {
		return err
	}
	if err := f.supply(ctx, &c.Cache, &c.Mirror, &c.Lock, string(c.Profile)); err != nil {
		return err
	}
	show := newStepLog(a.io)
	defer show.end()
	c.Watch = show.watch()
	if runner != nil {
		if c.Runner, err = build.FetchRunner(ctx, c.Cache, runner, func(done, all int64) { c.Watch.Moving("runner", done, all) }); err != nil {
			return buildFailure(err)
		}
	}
	m, err := build.Build(ctx, c)
	show.end()
	if err != nil {
		return buildFailure(err)
	}
	if f.json {
		data, err := m.Marshal()
		if err != nil {
			return err //nolint:wrapcheck // it says what was written.
		}
		return commands.WriteJSON(a.io.Out, buildJSON{buildSchema, c.Output, data, show.steps})
	}
	return a.showImage(c.Output, m)
}

// showImage prints what was made, and what one does with it.
func (a *app) showImage(output string, m *image.Manifest) error {
	w := tabwriter.NewWriter(a.io.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "image\t%s, %s, %s build\n", m.Name, m.Profile, m.Build)
	fmt.Fprintf(w, "kernel\t%s\t%s\n", m.KernelVersion, m.Files.Kernel.SHA256)
	fmt.Fprintf(w, "initrd\t%s\t%s\n", cli.Bytes(m.Files.Initrd.Size), m.Files.Initrd.SHA256)
	fmt.Fprintf(w, "root\t%s\t%s\n", cli.Bytes(m.Files.Root.Size), m.Files.Root.SHA256)
	fmt.Fprintf(w, "UKI\t%s\t%s\n", cli.Bytes(m.Files.UKI.Size), m.Files.UKI.SHA256)
	fmt.Fprintf(w, "lock\t\t%s\n", m.Toolchain.Lock)
	fmt.Fprintf(w, "manifest\t%s\n", filepath.Join(output, image.ManifestName))
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	return nil
}

// config makes the builder's configuration. runner is what is to be fetched, nil where the runner is a folder.
func (f *buildFlags) config() (c build.Config, runner *locks.Runner, err error) {
	for _, required := range []struct{ flag, value string }{{"settings", f.settings}, {"runner", f.runner}, {"output", f.output}} {
		if required.value == "" {
			return c, nil, cli.Usagef("--%s is required", required.flag)
		}
	}
	c = build.Config{
		Output: f.output, Name: f.name, Settings: f.settings, Debug: f.kind == image.Debug, GoRoot: f.goroot,
		Kettled: f.kettled, Action: f.action, Hook: f.hook, Firmware: f.firmware,
	}
	if f.kind != image.Production && f.kind != image.Debug {
		return c, nil, cli.Usagef("--build %.20q: want %s or %s", f.kind, image.Production, image.Debug)
	}
	if (f.secureBootKey == "") != (f.secureBootCert == "") {
		return c, nil, cli.Usagef("--secure-boot-key and --secure-boot-cert need each other")
	}
	if f.secureBootKey != "" {
		c.SecureBoot = &uki.Keys{Key: f.secureBootKey, Certificate: f.secureBootCert}
	}
	if c.Formats, err = parseFormats(f.formats); err != nil {
		return c, nil, err
	}
	if c.Extra, err = parseTrees(f.trees); err != nil {
		return c, nil, err
	}
	if err := readSettings(&c); err != nil {
		return c, nil, err
	}
	if runner, err = f.readRunner(&c); err != nil {
		return c, nil, err
	}
	return c, runner, f.fillIn(&c)
}

func parseFormats(names []string) ([]build.Format, error) {
	if len(names) == 1 && names[0] == "none" {
		return nil, nil
	}
	var formats []build.Format
	for _, n := range names {
		if !slices.Contains(build.Formats(), build.Format(n)) {
			return nil, cli.Usagef("--format %.20q: want raw, qcow2, vhd, tar.gz or, alone, none", n)
		}
		formats = append(formats, build.Format(n))
	}
	return formats, nil
}

func parseTrees(texts []string) ([]build.Tree, error) {
	var trees []build.Tree
	for _, text := range texts {
		from, to, ok := strings.Cut(text, "=")
		owner := 0
		if target, id, has := strings.Cut(to, ":"); ok && has {
			n, err := strconv.ParseUint(id, 10, 16)
			to, owner, ok = target, int(n), err == nil
		}
		if !ok || from == "" || !filepath.IsAbs(to) || filepath.Clean(to) != to || to == "/" {
			return nil, cli.Usagef("--tree %.200q: want FROM=TO or FROM=TO:UID, where TO is an absolute path", text)
		}
		if _, err := os.Lstat(from); err != nil {
			return nil, cli.Usagef("--tree: %w", err)
		}
		trees = append(trees, build.Tree{Source: from, Target: to, Owner: owner})
	}
	return trees, nil
}

// readSettings takes the profile and the policy's name from the configuration.
func readSettings(c *build.Config) error {
	name := filepath.Join(c.Settings, filepath.Base(image.ConfigFile))
	text, err := os.ReadFile(name) //nolint:gosec // the caller's folder.
	if err != nil {
		return cli.Usagef("--settings: %w", err)
	}
	measured, err := config.Parse(text)
	if err != nil {
		return cli.Usagef("--settings: %s: %w", name, err)
	}
	c.Profile, c.Policy = build.Profile(measured.Sandbox.Profile), measured.Policy
	return nil
}

// readRunner reads the pin, or the folder's release.
func (f *buildFlags) readRunner(c *build.Config) (*locks.Runner, error) {
	info, err := os.Stat(f.runner)
	if err != nil {
		return nil, cli.Usagef("--runner: %w", err)
	}
	if !info.IsDir() {
		if f.release != "" {
			return nil, cli.Usagef("--release is for a folder: %s says it itself", f.runner)
		}
		data, err := readBounded(f.runner, 8<<10)
		if err != nil {
			return nil, &cli.UsageError{Err: err}
		}
		pin, err := locks.ParseRunner(data)
		if err != nil {
			return nil, cli.Usagef("--runner: %s: %w", f.runner, err)
		}
		return pin, nil
	}
	if f.release == "" {
		return nil, cli.Usagef("--release is required where --runner is a folder")
	}
	data, err := readBounded(f.release, 8<<10)
	if err != nil {
		return nil, &cli.UsageError{Err: err}
	}
	release, err := program.ParseRelease(data)
	if err != nil {
		return nil, cli.Usagef("--release: %s: %w", f.release, err)
	}
	c.Runner = build.Runner{Folder: f.runner, Release: f.release, Version: release.Version}
	return nil, nil //nolint:nilnil // there is nothing to fetch.
}

// fillIn finds what was not named: the programs of this release beside this one, and QEMU's firmware.
func (f *buildFlags) fillIn(c *build.Config) (err error) {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	for _, p := range []struct {
		flag, name string
		path       *string
	}{{"kettled", "kettled", &c.Kettled}, {"action", "kettle-action", &c.Action}, {"hook", "started.sh", &c.Hook}} {
		if *p.path == "" {
			*p.path = filepath.Join(filepath.Dir(self), p.name)
		}
		if _, err := os.Stat(*p.path); err != nil {
			return cli.Usagef("--%s: %w", p.flag, err)
		}
	}
	if c.Firmware != "" {
		return nil
	}
	if c.Firmware, err = launch.FindFirmware(); err != nil {
		return cli.Usagef("--firmware: %w", err)
	}
	return nil
}

// buildFailure gives a builder's error its exit code.
func buildFailure(err error) error {
	var remote *build.RemoteError
	var lacking *exec.Error
	switch {
	case errors.As(err, &remote):
		return &cli.RemoteError{Err: err}
	case errors.As(err, &lacking) && errors.Is(lacking, exec.ErrNotFound):
		return &lackingError{err, lacking.Name}
	}
	return err
}

// lackingError says that this machine has not got a program that a build runs.
type lackingError struct {
	err  error
	name string
}

// Error names the program and what to do.
func (e *lackingError) Error() string {
	return fmt.Sprintf("%v\nInstall %s; scripts/apt-packages lists what a build needs on Debian and Ubuntu", e.err, e.name)
}

// Unwrap gives the fault.
func (e *lackingError) Unwrap() error { return e.err }

// Unsupported gives the error its exit code.
func (*lackingError) Unsupported() bool { return true }
