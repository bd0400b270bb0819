// SPDX-License-Identifier: Apache-2.0

// Command imagebuilder is what scripts/build-image runs. Without --output it only fills the builder's cache with what
// does not depend on the caller; --kernel leaves the base systems out, --profile all but one. An image is of the profile
// that its configuration names.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/build"
	"github.com/kettle/attest/image/launch"
	"github.com/kettle/attest/runner/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code := run(ctx, os.Args[1:], os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes, as in the README.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func run(ctx context.Context, args []string, stderr io.Writer) int {
	r, err := parse(args, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "build-image:", err)
		return exitUsage
	}
	mirror := build.FindMirror(ctx, os.Getenv)
	switch {
	case r.kernelOnly:
		_, err = build.FetchKernel(ctx, r.image.Cache, mirror)
	case r.image.Output == "":
		err = build.Prefetch(ctx, r.image.Cache, mirror, r.profiles...)
	default:
		r.image.Mirror = mirror
		_, err = build.Build(ctx, r.image)
	}
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "build-image: interrupted")
		return exitInterrupted
	case err != nil:
		fmt.Fprintln(stderr, "build-image:", err)
		return exitFailed
	}
	return exitDone
}

// request is what the command line asks for.
type request struct {
	image      build.Config
	kernelOnly bool
	profiles   []build.Profile // base systems to put into the cache
}

func parse(args []string, stderr io.Writer) (r request, err error) {
	c := &r.image
	var profile, release string
	flags := flag.NewFlagSet("build-image", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&r.kernelOnly, "kernel", false, "only fetch the kernel")
	flags.StringVar(&profile, "profile", "", "only this profile's base system: strict or docker (default: both)")
	flags.StringVar(&c.Output, "output", "", "folder for the image")
	flags.StringVar(&c.Settings, "settings", "", "folder with config.yaml and the files that it names")
	flags.StringVar(&c.Runner, "runner", "", "folder of the runner, with bin/Runner.Listener")
	flags.StringVar(&release, "release", "", `file that names the runner: {"version":"2.336.0","released":"2026-08-17"}`)
	flags.StringVar(&c.Kettled, "kettled", "", "the static program kettled")
	flags.StringVar(&c.Action, "action", "", "the static program kettle-action")
	flags.StringVar(&c.Hook, "hook", "", "started.sh")
	flags.StringVar(&c.GoRoot, "goroot", "", "the Go toolchain that jobs get")
	flags.StringVar(&c.Firmware, "firmware", "", "firmware file (default: QEMU's)")
	if err := flags.Parse(args); err != nil {
		return r, err
	}
	switch {
	case flags.NArg() > 0:
		return r, fmt.Errorf("unknown argument %q", flags.Arg(0))
	case r.kernelOnly && (c.Output != "" || profile != ""):
		return r, errors.New("--kernel excludes --output and --profile")
	case c.Output != "" && profile != "":
		return r, errors.New("--output and --profile exclude each other: the configuration names the profile")
	}
	if c.Cache, err = build.CacheDir(os.Getenv); err != nil {
		return r, err
	}
	c.Progress = func(s build.Step) {
		how := "made"
		if s.Cached {
			how = "cached"
		}
		fmt.Fprintf(stderr, "  %-9s %-7s %6.1f s\n", s.Name, how, s.Took.Seconds())
	}
	if release != "" {
		c.Extra = append(c.Extra, build.Tree{Source: release, Target: image.ToolsDir + "/runner.json"})
	}
	if c.Output != "" {
		return r, complete(c)
	}
	r.profiles = []build.Profile{build.Strict, build.Docker}
	if profile != "" {
		r.profiles = []build.Profile{build.Profile(profile)}
		return r, r.profiles[0].Validate()
	}
	return r, nil
}

// complete adds what the command line does not say: the profile of the configuration, and QEMU's firmware.
func complete(c *build.Config) (err error) {
	if c.Firmware == "" {
		if c.Firmware, err = launch.FindFirmware(); err != nil {
			return err
		}
	}
	name := filepath.Join(c.Settings, filepath.Base(image.ConfigFile))
	text, err := os.ReadFile(name) //nolint:gosec // the caller's folder.
	if err != nil {
		return err
	}
	measured, err := config.Parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	c.Profile = build.Profile(measured.Sandbox.Profile)
	return nil
}
