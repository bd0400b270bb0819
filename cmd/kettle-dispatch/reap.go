// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/cmd/internal/commands"
	"github.com/kettle/attest/dispatch"
)

// reapingSchema is the schema of what reap prints as JSON.
const reapingSchema = "kettle.reaping/v1"

type reapingJSON struct {
	Schema string             `json:"schema"`
	Reaped []*dispatch.Record `json:"reaped"`
	Alive  []string           `json:"alive"`
	Left   []leftJSON         `json:"left"`
}

type leftJSON struct {
	Environment string `json:"environment"`
	Error       string `json:"error"`
}

// reapFlags are the flags of reap as written.
type reapFlags struct {
	placeFlags
	log      string
	patience time.Duration
	json     bool
}

func (a *app) reapCommand() *cobra.Command {
	var f reapFlags
	cmd := &cobra.Command{
		Use:   "reap --settings DIR --credential FILE --state DIR",
		Short: "Remove what machines of dead launchers have left",
		Long: `reap goes through the machines of a state folder whose launcher has gone without tidying up, because it was killed or the
host went down. For each it has GitHub list the runners with the machine's prefix, removes them, and asks again until
there are none. Machines whose launcher lives are left alone, and so is every runner without such a prefix.

It ends with 0 when nothing is left, with 7 when GitHub did not let it finish, and with 1 when something else did not.
Running it again does no harm: run it at each start of the host.`,
		Example: `  kettle-dispatch reap --settings settings --credential token --state /var/lib/kettle
  kettle-dispatch reap … --patience 1h --json`,
		Args: cobra.NoArgs,
		RunE: a.Does(func(cmd *cobra.Command, _ []string) error { return a.reap(cmd.Context(), &f) }),
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.DurationVar(&f.patience, "patience", 10*time.Minute, "how long to bear, for each machine, with a GitHub that does not answer or calls a runner busy")
	flags.StringVar(&f.log, "log", "off", "log on the error stream: off, text or json")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

func (a *app) reap(ctx context.Context, f *reapFlags) error {
	if f.patience <= 0 {
		return cli.Usagef("--patience %s: want more than nothing", f.patience)
	}
	p, err := f.open()
	if err != nil {
		return err
	}
	defer p.client.Close()
	limits := a.limits
	limits.Patience, limits.Busy = f.patience, f.patience
	reaper := p.reaper(limits)
	if reaper.Logger, err = logger(a.io.Err, f.log); err != nil {
		return err
	}
	progress := a.io.Progress()
	progress.Say("asking GitHub")
	found, err := reaper.Recover(ctx, f.state)
	progress.Done()
	if err != nil {
		return err
	}
	if err := a.showReaping(found, f.json); err != nil {
		return err
	}
	if ctx.Err() != nil && len(found.Left) > 0 {
		return errors.Join(found.Err(), ctx.Err())
	}
	return remote(found.Err())
}

func (a *app) showReaping(r dispatch.Recovery, asJSON bool) error {
	if asJSON {
		out := reapingJSON{Schema: reapingSchema, Reaped: r.Reaped, Alive: r.Alive, Left: []leftJSON{}}
		if out.Reaped == nil {
			out.Reaped = []*dispatch.Record{}
		}
		if out.Alive == nil {
			out.Alive = []string{}
		}
		for _, l := range r.Left {
			out.Left = append(out.Left, leftJSON{Environment: l.Environment, Error: cli.CleanLines(l.Err.Error())})
		}
		return commands.WriteJSON(a.io.Out, out)
	}
	for _, record := range r.Reaped {
		fmt.Fprintf(a.io.Out, "%s  reaped: %d removed\n", record.Environment, record.Removed)
	}
	for _, name := range r.Alive {
		fmt.Fprintf(a.io.Out, "%s  left alone: its launcher lives\n", name)
	}
	for _, l := range r.Left {
		fmt.Fprintf(a.io.Out, "%s  left\n", l.Environment)
	}
	if len(r.Reaped)+len(r.Alive)+len(r.Left) == 0 {
		fmt.Fprintln(a.io.Out, "nothing to reap")
	}
	return nil
}
