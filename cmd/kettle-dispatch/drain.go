// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/dispatch"
)

// drainFlags are the flags of drain as written.
type drainFlags struct {
	state, environment string
	all, wait, json    bool
}

func (a *app) drainCommand() *cobra.Command {
	var f drainFlags
	cmd := &cobra.Command{
		Use:   "drain --state DIR",
		Short: "Have a machine end as soon as no job is lost by it",
		Long: `drain asks the launcher of a machine to drain it. The machine then deletes its runner at GitHub first: when GitHub takes
that, no job can come any more and it ends; when GitHub says that the runner has a job, it ends after that, or when the
configuration's timeouts.drain is over.

Where more than one machine lives, say which, or --all.`,
		Example: `  kettle-dispatch drain --state /var/lib/kettle --wait
  kettle-dispatch drain --state /var/lib/kettle --environment 0123456789abcdef`,
		Args: cobra.NoArgs,
		RunE: a.Does(func(cmd *cobra.Command, _ []string) error { return a.drain(cmd.Context(), f) }),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.state, "state", "", "the launchers' folder (required)")
	flags.StringVar(&f.environment, "environment", "", "only this machine: 16 hexadecimal digits")
	flags.BoolVar(&f.all, "all", false, "every machine that lives")
	flags.BoolVar(&f.wait, "wait", false, "come back when the launchers have ended")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	required(cmd, "state")
	cmd.MarkFlagsMutuallyExclusive("environment", "all")
	return cmd
}

func (a *app) drain(ctx context.Context, f drainFlags) error {
	names, err := living(f.state)
	if err != nil {
		return err
	}
	switch {
	case f.environment != "" && !slices.Contains(names, f.environment):
		return fmt.Errorf("no launcher of environment %s lives; kettle-dispatch status shows those that do", f.environment)
	case f.environment != "":
		names = []string{f.environment}
	case len(names) == 0:
		return errors.New("no launcher lives in " + f.state + "; if status shows environments that are left, run kettle-dispatch reap")
	case len(names) > 1 && !f.all:
		return cli.Usagef("%d launchers live in %s: name one with --environment, or all with --all", len(names), f.state)
	}
	drained := []dispatch.Status{}
	var faults []error
	for _, name := range names {
		s, err := dispatch.Ask(ctx, f.state, name, true)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		drained = append(drained, s)
	}
	if f.wait {
		faults = append(faults, a.await(ctx, f.state, names))
	}
	return errors.Join(append(faults, a.show(drained, f.json))...)
}

// living names the environments that a launcher holds.
func living(state string) ([]string, error) {
	all, err := dispatch.Survey(state)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range all {
		if s.Step == dispatch.Following {
			names = append(names, s.Environment)
		}
	}
	return names, nil
}

// await comes back when none of these launchers lives.
func (a *app) await(ctx context.Context, state string, names []string) error {
	progress := a.io.Progress()
	defer progress.Done()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := living(state)
		if err != nil {
			return err
		}
		now = slices.DeleteFunc(now, func(n string) bool { return !slices.Contains(names, n) })
		if len(now) == 0 {
			return nil
		}
		progress.Say("waiting for %d launchers to end", len(now))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
