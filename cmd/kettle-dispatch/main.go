// SPDX-License-Identifier: Apache-2.0

// Command kettle-dispatch runs on the operator's side: it starts a measured VM for one job, follows it, and removes from
// GitHub whatever a dead VM has left. It holds the operator's credential and no secret of any job, and nothing that it says
// about a VM is evidence.
package main

import (
	"context"
	"os"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/dispatch"
	"github.com/kettle/attest/image/launch"
)

func main() {
	os.Exit(cli.Main(context.Background(), "kettle-dispatch", func(ctx context.Context, streams *cli.IO) error {
		a := &app{io: streams, limits: dispatch.DefaultLimits(), launch: func(ctx context.Context, c launch.Config) (machine, error) {
			vm, err := launch.Start(ctx, c)
			if err != nil {
				return nil, err
			}
			return vm, nil
		}}
		return a.run(ctx, os.Args[1:])
	}))
}
