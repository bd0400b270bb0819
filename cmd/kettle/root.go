// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/cmd/internal/commands"
)

// app is what the commands share.
type app struct {
	commands.Tree
	io *cli.IO
}

// run executes one command line.
func run(ctx context.Context, streams *cli.IO, args []string) error {
	a := &app{io: streams}
	root := &cobra.Command{
		Use:   "kettle",
		Short: "Verify what an attested runner built",
		Long: `kettle checks that an artifact came out of one GitHub Actions job that ran in a measured virtual machine,
offline and link by link, from the artifact to the CPU vendor's root:

  artifact ← provenance ← statement key ← hardware quote ← root

Exit codes:
  0    done; verified
  1    failure: input or output, internal
  2    usage or configuration
  3    refused: evidence, signature, digest or binding invalid
  4    refused: evidence or endorsements missing or expired
  5    refused: policy not met
  6    this program cannot judge that kind of evidence
  7    a remote refused or could not be reached
  130  interrupted`,
		Example: `  kettle verify widget.tar.gz --policy policy.yaml --trusted-root github.json
  kettle inspect widget.tar.gz.intoto.jsonl
  kettle evidence verify report.bin --certificate vcek.der`,
	}
	root.AddCommand(a.verifyCommand(), a.inspectCommand(), a.evidenceCommand(), a.imageCommand(), a.conformanceCommand()) //nolint:contextcheck // cobra hands the context of ExecuteContext to each command.
	return a.Execute(ctx, root, streams, args)
}

// parseTime reads a time in RFC 3339, or a date, which means its first moment in UTC. Nothing written means now.
func parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil && !t.IsZero() { // the zero time would stand for now
			return t, nil
		}
	}
	return time.Time{}, cli.Usagef("--at %q: want a time as 2026-01-02T15:04:05Z, or a date as 2026-01-02", s)
}
