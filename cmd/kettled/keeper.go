// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/config"
	"github.com/kettle/attest/runner/outputs"
	"github.com/kettle/attest/runner/sandbox"
)

// Bounds on one response that no configuration needs to change yet.
const (
	maxEntries   = 1 << 20 // directory entries that globs may look at
	snapshotTime = 9 * time.Minute
)

// snapshots is kettled's own folder on the job's disk, for clones without a name.
const snapshots = image.ScratchDir + "/snapshots"

// keeper holds outputs in the sandbox's volumes.
type keeper struct {
	config outputs.Config
	limits outputs.Limits
}

var _ runner.Keeper = keeper{}

func newKeeper(volumes []sandbox.Volume, l config.Limits) (keeper, error) {
	if err := os.Mkdir(snapshots, 0o700); err != nil {
		return keeper{}, fmt.Errorf("making the folder for snapshots: %w", err)
	}
	k := keeper{
		config: outputs.Config{
			Image: "/", Snapshots: snapshots, FileSystems: []string{"xfs"},
			IDs: outputs.IDs{First: sandbox.FirstID, Count: sandbox.IDs},
		},
		limits: outputs.Limits{
			Subjects: statement.MaxSubjects, Entries: maxEntries, Bytes: l.OutputMiB << 20, Time: snapshotTime,
			FrozenBytes: l.OutputMiB << 20, FrozenTime: l.FreezeTime,
		},
	}
	for _, v := range volumes {
		k.config.Volumes = append(k.config.Volumes, outputs.Volume{Inside: v.Inside, Outside: v.Outside})
	}
	return k, errors.Join(k.config.Validate(), k.limits.Validate())
}

// Settle implements [runner.Keeper].
func (k keeper) Settle(ctx context.Context) error { return outputs.Settle(ctx, snapshots) }

// Hold implements [runner.Keeper].
func (k keeper) Hold(ctx context.Context, o runner.Outputs) (runner.Held, error) {
	return k.hold(ctx, o, k.limits)
}

// HoldDead implements [runner.Keeper].
func (k keeper) HoldDead(ctx context.Context, o runner.Outputs) (runner.Held, error) {
	limits := k.limits
	limits.FrozenTime = limits.Time
	return k.hold(ctx, o, limits)
}

func (k keeper) hold(ctx context.Context, o runner.Outputs, limits outputs.Limits) (runner.Held, error) {
	h, err := outputs.Hold(ctx, k.config, outputs.Request{
		Workspace: o.Workspace, Patterns: o.Paths, Name: o.Name, Checksums: o.Checksums, Digest: o.Digest, ArtifactsList: o.ArtifactsList,
	}, limits)
	if err != nil {
		return nil, overBudget(err)
	}
	return held{h}, nil
}

// held are the outputs of one request.
type held struct{ *outputs.Held }

// Hash implements [runner.Held].
func (h held) Hash(ctx context.Context) ([]statement.Subject, error) {
	found, err := h.Held.Hash(ctx)
	if err != nil {
		return nil, overBudget(err)
	}
	subjects := make([]statement.Subject, 0, len(found))
	for _, f := range found {
		subjects = append(subjects, statement.Subject{Name: f.Name, Digest: statement.SHA256(f.SHA256)})
	}
	return subjects, nil
}

// overBudget says it in the runner's words too.
func overBudget(err error) error {
	if errors.Is(err, outputs.ErrOverBudget) {
		return fmt.Errorf("%w (%w)", err, runner.ErrOverBudget)
	}
	return err
}
