// SPDX-License-Identifier: Apache-2.0

// Command kettle verifies what an attested runner built, and looks into bundles and evidence. It is offline: it opens
// the files it is told to open and nothing else.
package main

import (
	"context"
	"os"

	"github.com/kettle/attest/cmd/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), "kettle", func(ctx context.Context, streams *cli.IO) error {
		return run(ctx, streams, os.Args[1:])
	}))
}
