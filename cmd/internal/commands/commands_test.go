// SPDX-License-Identifier: Apache-2.0

package commands_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/cmd/internal/commands"
)

func TestExecute(t *testing.T) {
	t.Parallel()
	own := errors.New("the command's own")
	for name, tc := range map[string]struct {
		args  []string
		usage bool
		want  error
	}{
		"runs":            {[]string{"do", "it"}, false, nil},
		"its own error":   {[]string{"do", "not"}, false, own},
		"unknown command": {[]string{"undo"}, true, nil},
		"unknown flag":    {[]string{"do", "it", "--fast"}, true, nil},
		"no argument":     {[]string{"do"}, true, nil},
	} {
		tree, root, out := new(commands.Tree), &cobra.Command{Use: "program"}, new(bytes.Buffer)
		root.AddCommand(&cobra.Command{Use: "do", Args: cobra.ExactArgs(1), RunE: tree.Does(func(cmd *cobra.Command, args []string) error {
			if args[0] != "it" {
				return own
			}
			return commands.WriteJSON(cmd.OutOrStdout(), map[string]string{"did": "<it>"})
		})})
		err := tree.Execute(t.Context(), root, &cli.IO{In: new(bytes.Buffer), Out: out, Err: new(bytes.Buffer)}, tc.args)
		var usage *cli.UsageError
		if errors.As(err, &usage) != tc.usage || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
		if done := err == nil; done != (out.String() == "{\"did\":\"<it>\"}\n") {
			t.Errorf("%s: printed %q", name, out)
		}
	}
}
