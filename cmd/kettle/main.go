// SPDX-License-Identifier: Apache-2.0

// Command kettle verifies what an attested runner built, looks into bundles and evidence, and builds, signs and runs images.
// Whatever verifies is offline: it opens the files that it is told to open and nothing else. Only what builds an image (its
// packages), signs one (Sigstore) or runs one (the machine's own network) reaches further.
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
