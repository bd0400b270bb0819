// SPDX-License-Identifier: Apache-2.0

// Command kettled is the build agent of an attested runner image. It is the initramfs's only program, then PID 1 and
// the supervisor on the verified root: it registers one ephemeral GitHub Actions runner, runs its one job in a sandbox,
// attests what the job made, and powers the machine off. It takes no arguments; its configuration is in the measured
// image.
package main

import (
	"context"

	"github.com/kettle/attest/runner/boot"
)

func main() {
	ctx := context.Background()
	env, err := boot.Enter(ctx)
	if err != nil {
		boot.PowerOff("kettled stopped: " + err.Error())
	}
	boot.PowerOff(supervise(ctx, env))
}
