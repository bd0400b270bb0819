// SPDX-License-Identifier: Apache-2.0

// Command demo runs one job in a measured virtual machine, from `runs-on: attested-cvm` to `kettle verify`, on this
// machine alone: a stand-in for GitHub, a virtual machine whose launch is measured from outside by a simulated secure
// processor, a workflow that builds and packs a real program, and the verifier. Then it tampers. scripts/demo runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(exitCode(err))
	}
}

// exitCode follows the table of the README: 2 for usage, 130 when interrupted, else 1.
func exitCode(err error) int {
	switch {
	case errors.Is(err, context.Canceled):
		return 130
	case errors.Is(err, flag.ErrHelp), errors.Is(err, errUsage):
		return 2
	}
	return 1
}

var errUsage = errors.New("usage: demo [--check README] [--hostile] [--dir DIR]")

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	check := flags.String("check", "", "compare the session with the one in this `README`, and fail when it differs")
	update := flags.String("update", "", "write the session into this `README`")
	hostile := flags.Bool("hostile", false, "also run a job that attacks its runner, and fail when an attack succeeds")
	dir := flags.String("dir", "", "keep everything in this `folder` (default: below the user's cache)")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "Runs one attested job on this machine and verifies what it made.\n\nFlags:")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 0 {
		return errUsage
	}
	d, err := newDemo(*dir)
	if err != nil {
		return err
	}
	d.attacked = *hostile
	session, err := d.play(ctx)
	if err != nil {
		return err
	}
	switch {
	case *check != "":
		return compare(*check, session)
	case *update != "":
		return rewrite(*update, session)
	}
	return nil
}
