// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/changes"
	"github.com/kettle/attest/runner/diag"
	"github.com/kettle/attest/runner/egress"
	"github.com/kettle/attest/runner/sandbox"
)

// jail is the sandbox with its gate.
type jail struct {
	box    *sandbox.Sandbox
	gate   *gate
	logs   *logs
	exited chan int
}

var _ runner.Sandbox = (*jail)(nil)

// newJail prepares a fresh sandbox for an environment that has its door, gate and logs. Nothing runs in it yet.
// Its files lie on that block device.
func newJail(ctx context.Context, m *measured, name, disk string, e *environment) (*jail, error) {
	c := m.config
	scratch, state := filepath.Join(image.ScratchDir, "sandbox"), "/run/kettle-sandbox"
	for _, dir := range []string{scratch, state} {
		if err := os.Mkdir(dir, 0o711); err != nil { //nolint:gosec // searchable, as the sandbox demands.
			return nil, fmt.Errorf("making the sandbox's folders: %w", err)
		}
	}
	limits := c.Sandbox.Limits
	box, err := sandbox.Create(ctx, sandbox.Config{
		ID: name, Runtimes: []string{"/usr/bin/crun", "/usr/sbin/runc"}, Image: "/", Runner: image.ToolsDir + "/runner",
		Init: sandbox.Init(c.Sandbox.Init), Scratch: scratch, State: state, Door: e.door.dir, CgroupRoot: "/sys/fs/cgroup",
		Profile: sandbox.Profile(c.Sandbox.Profile),
		Limits: sandbox.Limits{
			Memory: limits.MemoryMiB << 20, Processes: limits.Processes, Files: 1 << 16, CPUs: int64(limits.CPUs * 1000),
			IO: sandbox.IO{Device: disk, Read: limits.IOMiBps << 20, Write: limits.IOMiBps << 20},
		},
		Resolver: egress.Resolver(), Authorities: m.github, Output: e.logs.console,
	})
	if err != nil {
		return nil, err
	}
	return &jail{box: box, gate: e.gate, logs: e.logs, exited: make(chan int, 1)}, nil
}

// home is the runner's home, from outside.
func (j *jail) home() (string, error) {
	for _, v := range j.box.Volumes() {
		if v.Inside == sandbox.Home {
			return v.Outside, nil
		}
	}
	return "", errors.New("the sandbox has no home for the runner")
}

func (j *jail) contains(pid int) (bool, error) { return j.box.Contains(pid) }

// Start implements [runner.Sandbox]: the gate is open before the runner program runs.
func (j *jail) Start(ctx context.Context, jit secret.String) error {
	j.logs.hide(diag.JIT(jit)...)
	argv := []string{sandbox.RunnerRoot + "/bin/Runner.Listener", "run"}
	env := []string{
		"ACTIONS_RUNNER_INPUT_JITCONFIG=" + jit.Reveal(),
		"ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE=1",
		"DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1", // the image has no ICU, and the runner program needs none
	}
	if err := j.box.Load(ctx, argv, env); err != nil {
		return err
	}
	netns, err := j.box.NetNS()
	if err != nil {
		return err
	}
	defer netns.Close()
	if err := j.gate.join(ctx, netns); err != nil {
		return err
	}
	if err := j.box.Start(ctx); err != nil {
		return err
	}
	go func() { // ends with the sandbox, which Kill and close see to
		code, err := j.box.Wait(context.WithoutCancel(ctx))
		if err != nil {
			code = -1
		}
		j.exited <- code
	}()
	return nil
}

// Runtime implements [runner.Sandbox].
func (j *jail) Runtime() string { return j.box.Runtime() }

// Exited implements [runner.Sandbox].
func (j *jail) Exited() <-chan int { return j.exited }

// Freeze implements [runner.Sandbox].
func (j *jail) Freeze(ctx context.Context) error { return j.box.Freeze(ctx) }

// Thaw implements [runner.Sandbox].
func (j *jail) Thaw(ctx context.Context) error { return j.box.Thaw(ctx) }

// Kill implements [runner.Sandbox].
func (j *jail) Kill(ctx context.Context) error { return j.box.Kill(ctx) }

// Leftovers implements [runner.Sandbox].
func (j *jail) Leftovers() *statement.Processes {
	count, named := j.box.Leftovers()
	if count == 0 {
		return nil
	}
	p := &statement.Processes{Count: count}
	for _, one := range named {
		p.Names = append(p.Names, one.Name)
	}
	return p
}

// Changes implements [runner.Sandbox].
func (j *jail) Changes(ctx context.Context) (*statement.Disk, []byte, error) {
	c := changes.Config{Lower: j.box.Image(), IDs: changes.IDs{First: sandbox.FirstID, Count: sandbox.IDs}}
	for _, v := range j.box.Volumes() {
		if v.Inside == "/" {
			c.Upper = v.Outside
		} else {
			c.Volumes = append(c.Volumes, changes.Volume{Inside: v.Inside, Outside: v.Outside})
		}
	}
	found, err := changes.Collect(ctx, c, changes.Limits{Entries: 1 << 20, HashBytes: 4 << 30, ListBytes: 32 << 20, Time: time.Minute})
	if err != nil {
		return nil, nil, err
	}
	return &statement.Disk{
		Created: found.Created, Changed: found.Changed, Deleted: found.Deleted, Complete: found.Complete(), List: found.Digest(),
	}, found.Lines(), nil
}

func (j *jail) close(ctx context.Context) error {
	return errors.Join(j.gate.close(), j.box.Close(ctx))
}
