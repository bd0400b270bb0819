// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/cmd/internal/cli"
)

func (a *app) simulatorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "simulator DIR",
		Short: "Make the root of a simulated secure processor",
		Long: `simulator makes a folder with the root that a simulated secure processor's quotes end in, and the key to sign them.

Its roots.pem goes into the image's settings (platforms.roots), and to whoever is to be convinced (kettle verify --root);
the folder goes to kettle-dispatch run --simulator. Whoever has the key can forge every quote of it: this is for trying
things out. An existing folder is never overwritten.`,
		Example: `  kettle-dispatch simulator sim && cp sim/roots.pem settings/simulator.pem`,
		Args:    cobra.ExactArgs(1),
		RunE: a.Does(func(_ *cobra.Command, args []string) error {
			authority, err := sim.NewAuthority(time.Now())
			if err != nil {
				return fmt.Errorf("making the simulator's root: %w", err)
			}
			if err := authority.Save(args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.io.Out, "%s\n", cli.Clean(filepath.Join(args[0], "roots.pem")))
			return err
		}),
	}
}
