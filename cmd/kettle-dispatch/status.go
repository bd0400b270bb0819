// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/cmd/internal/commands"
	"github.com/kettle/attest/dispatch"
)

// fleetSchema is the schema of what status and drain print as JSON.
const fleetSchema = "kettle.fleet/v1"

type fleetJSON struct {
	Schema       string            `json:"schema"`
	Environments []dispatch.Status `json:"environments"`
}

// statusFlags are the flags of status as written.
type statusFlags struct {
	state, environment string
	all, json          bool
}

func (a *app) statusCommand() *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use:   "status --state DIR",
		Short: "How the machines of a state folder stand",
		Long: `status shows each machine of a state folder that is not over and done with: what its launcher says of it when there is
one, and what its files tell when there is none. State, runner, jobs and alarms are what the machine itself claims.

The step says where the launcher stands: starting, following, reaping, reaped, or left. left means that nobody sees to
it and a runner may be registered still: run kettle-dispatch reap.`,
		Example: `  kettle-dispatch status --state /var/lib/kettle
  kettle-dispatch status --state /var/lib/kettle --json | jq -r '.environments[] | select(.step == "left") | .environment'`,
		Args: cobra.NoArgs,
		RunE: a.Does(func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context(), f) }),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.state, "state", "", "the launchers' folder (required)")
	flags.StringVar(&f.environment, "environment", "", "only this machine: 16 hexadecimal digits")
	flags.BoolVar(&f.all, "all", false, "those that are reaped as well")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	required(cmd, "state")
	return cmd
}

func (a *app) status(ctx context.Context, f statusFlags) error {
	all, err := dispatch.Survey(f.state)
	if err != nil {
		return err
	}
	shown := []dispatch.Status{}
	for _, s := range all {
		if f.environment != "" && s.Environment != f.environment || s.Step == dispatch.Reaped && !f.all && f.environment == "" {
			continue
		}
		if s.Step == dispatch.Following {
			if said, err := dispatch.Ask(ctx, f.state, s.Environment, false); err == nil {
				s = said
			} else {
				s.Outcome = "its launcher does not answer"
			}
		}
		shown = append(shown, s)
	}
	if f.environment != "" && len(shown) == 0 {
		return fmt.Errorf("no environment %s in %s", f.environment, f.state)
	}
	return a.show(shown, f.json)
}

// show prints environments for a person or a script.
func (a *app) show(all []dispatch.Status, asJSON bool) error {
	if asJSON {
		return commands.WriteJSON(a.io.Out, fleetJSON{Schema: fleetSchema, Environments: all})
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(a.io.Out, "no machines")
		return err
	}
	table := tabwriter.NewWriter(a.io.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ENVIRONMENT\tSTEP\tSTATE\tSINCE\tRUNNER\tALARMS")
	for _, s := range all {
		name := "-"
		if s.Runner != nil {
			name = s.Runner.Name
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Environment, s.Step, word(string(s.State)), since(s.Since, time.Now()), cli.Clean(name), alarms(s))
	}
	return table.Flush()
}

// oneLine says how one environment stands.
func oneLine(s dispatch.Status, now time.Time) string {
	line := fmt.Sprintf("%s  %s", s.Environment, s.Step)
	if s.State != "" {
		line += fmt.Sprintf("  %s for %s", s.State, since(s.Since, now))
	}
	if s.Draining {
		line += "  draining"
	}
	if len(s.Alarms) > 0 {
		line += "  alarms: " + alarms(s)
	}
	return cli.Clean(line)
}

func alarms(s dispatch.Status) string {
	words := make([]string, 0, len(s.Alarms))
	for _, a := range s.Alarms {
		words = append(words, cli.Clean(string(a)))
	}
	return word(strings.Join(words, ", "))
}

func word(s string) string {
	if s == "" {
		return "-"
	}
	return cli.Clean(s)
}

func since(t *time.Time, now time.Time) string {
	if t == nil {
		return "-"
	}
	return now.Sub(*t).Round(time.Second).String()
}
