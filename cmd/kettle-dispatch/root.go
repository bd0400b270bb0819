// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/cmd/internal/commands"
	"github.com/kettle/attest/dispatch"
	"github.com/kettle/attest/image/launch"
)

// machine is a VM that was started.
type machine interface {
	dispatch.Machine
	LaunchDigest() [48]byte
	Wait() error
}

// app is what the commands share.
type app struct {
	commands.Tree
	io     *cli.IO
	launch func(context.Context, launch.Config) (machine, error)
	limits dispatch.Limits
}

// run executes one command line.
func (a *app) run(ctx context.Context, args []string) error {
	root := &cobra.Command{
		Use:   "kettle-dispatch",
		Short: "Run one attested runner, and leave none behind",
		Long: `kettle-dispatch starts a measured virtual machine that registers itself as a GitHub Actions runner for one job,
follows it to its end, and removes from GitHub what a dead machine has left.

  run     start one machine for one job and stay with it
  admit   appraise machines from outside, and give only those that pass a credential
  status  how the machines of a state folder stand
  drain   have a machine end as soon as no job is lost by it
  reap    remove what machines of dead launchers have left

There is no launcher for TEE hardware yet: machines run in QEMU with a simulated secure processor, whose quotes
convince only those who name its root.

Exit codes:
  0    done; nothing is left at GitHub
  1    failure: input or output, a machine that died; nothing is left at GitHub unless the message says so
  2    usage or configuration
  5    refused: the machine is not the one that the image's manifest describes
  6    this host cannot do it
  7    GitHub refused or could not be reached: a runner may be left, run kettle-dispatch reap
  130  interrupted`,
		Example: `  kettle-dispatch run --image out/image --settings settings --simulator sim --credential token --state /var/lib/kettle
  kettle-dispatch status --state /var/lib/kettle
  kettle-dispatch drain --state /var/lib/kettle --wait
  kettle-dispatch reap --settings settings --credential token --state /var/lib/kettle`,
	}
	root.AddCommand(a.runCommand(), a.admitCommand(), a.statusCommand(), a.drainCommand(), a.reapCommand(), a.simulatorCommand()) //nolint:contextcheck // cobra hands the context of ExecuteContext to each command.
	return a.Execute(ctx, root, a.io, args)
}

// required marks flags that cobra refuses to do without.
func required(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		_ = cmd.MarkFlagRequired(name) // it exists: the line above it made it
	}
}

// remote gives errors about GitHub their exit code.
func remote(err error) error {
	if errors.Is(err, dispatch.ErrLeft) {
		return &cli.RemoteError{Err: err}
	}
	return err
}

// logger makes the log that --log asks for, on the error stream.
func logger(w io.Writer, format string) (*slog.Logger, error) {
	switch format {
	case "off":
		return slog.New(slog.DiscardHandler), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, nil)), nil
	}
	return nil, cli.Usagef("--log %q: want off, text or json", format)
}
