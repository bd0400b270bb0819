// SPDX-License-Identifier: Apache-2.0

// Command imagebuilder is what scripts/build-image runs. Without --output it only fills the builder's cache with what
// does not depend on the caller; --kernel leaves the base system out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/kettle/attest/image/build"
	"github.com/kettle/attest/image/launch"
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
	c, kernelOnly, err := parse(args, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "build-image:", err)
		return exitUsage
	}
	c.Mirror = build.FindMirror(ctx, os.Getenv)
	switch {
	case kernelOnly:
		_, err = build.FetchKernel(ctx, c.Cache, c.Mirror)
	case c.Output == "":
		err = build.Prefetch(ctx, c.Cache, c.Mirror)
	default:
		_, err = build.Build(ctx, c)
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

func parse(args []string, stderr io.Writer) (c build.Config, kernelOnly bool, err error) {
	flags := flag.NewFlagSet("build-image", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&kernelOnly, "kernel", false, "only fetch the kernel")
	flags.StringVar(&c.Output, "output", "", "folder for the image")
	flags.StringVar(&c.Settings, "settings", "", "folder with config.yaml and the files that it names")
	flags.StringVar(&c.Runner, "runner", "", "folder of the runner, with bin/Runner.Listener")
	flags.StringVar(&c.Kettled, "kettled", "", "the static program kettled")
	flags.StringVar(&c.Action, "action", "", "the static program kettle-action")
	flags.StringVar(&c.Hook, "hook", "", "started.sh")
	flags.StringVar(&c.GoRoot, "goroot", "", "the Go toolchain that jobs get")
	flags.StringVar(&c.Firmware, "firmware", "", "firmware file (default: QEMU's)")
	if err := flags.Parse(args); err != nil {
		return c, false, err
	}
	if flags.NArg() > 0 {
		return c, false, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if kernelOnly && c.Output != "" {
		return c, false, errors.New("--kernel and --output exclude each other")
	}
	if c.Cache, err = build.CacheDir(os.Getenv); err != nil {
		return c, false, err
	}
	if c.Output != "" && c.Firmware == "" {
		if c.Firmware, err = launch.FindFirmware(); err != nil {
			return c, false, err
		}
	}
	c.Progress = func(s build.Step) {
		how := "made"
		if s.Cached {
			how = "cached"
		}
		fmt.Fprintf(stderr, "  %-9s %-7s %6.1f s\n", s.Name, how, s.Took.Seconds())
	}
	return c, kernelOnly, nil
}
