// SPDX-License-Identifier: Apache-2.0

// Package commands runs a tree of commands for a program: streams, usage errors, JSON output. It is apart from package
// cli, which programs without a tree of commands use too. It guarantees that an error before a command's own code runs is
// one of usage. It trusts its callers.
package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/cmd/internal/cli"
)

// Tree is one run of a program. The zero value is ready; it is used once.
type Tree struct {
	started bool // a command's own code runs: from here on an error is no longer one of usage
}

// Does marks that a command's own code runs.
func (t *Tree) Does(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		t.started = true
		return f(cmd, args)
	}
}

// Execute runs one command line on the given streams. Errors of cobra's own are [cli.UsageError].
func (t *Tree) Execute(ctx context.Context, root *cobra.Command, streams *cli.IO, args []string) error {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetArgs(args)
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	err := root.ExecuteContext(ctx)
	if err != nil && !t.started {
		return &cli.UsageError{Err: err}
	}
	return err
}

// WriteJSON prints one JSON object on a line.
func WriteJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	return nil
}
