// SPDX-License-Identifier: Apache-2.0

// Command kettle-action runs inside a job of an attested runner: action.yml and the started hook execute it. It asks
// kettled for provenance and shows the answer to the workflow. It holds no key and decides nothing.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/kettle/attest/action"
	"github.com/kettle/attest/cmd/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), "kettle-action", run))
}

// run runs the command and fits its errors to the table of exit codes.
func run(ctx context.Context, streams *cli.IO) error {
	p := action.Program{Out: streams.Out, Getenv: os.Getenv}
	err := p.Run(ctx, os.Args[1:])
	var usage *action.UsageError
	if errors.As(err, &usage) {
		err = &cli.UsageError{Err: err}
	}
	if err != nil && p.Annotates() {
		return &cli.ReportedError{Err: err}
	}
	return err
}
