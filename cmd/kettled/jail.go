// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/egress"
	"github.com/kettle/attest/runner/sandbox"
)

// Limits of the gate that no configuration needs to change yet.
const (
	gateConnections = 256
	gateBytes       = 1 << 40
	gateHello       = 10 * time.Second
	gateDial        = 30 * time.Second
	gateIdle        = 10 * time.Minute // the runner's long polls are quiet for most of a minute
)

// jail is the sandbox with its gate.
type jail struct {
	box     *sandbox.Sandbox
	gate    egress.Config
	opened  chan *egress.Gate // the gate, once the sandbox has a network namespace
	current *egress.Gate      // owned by the run loop
	exited  chan int
}

var (
	_ runner.Sandbox = (*jail)(nil)
	_ runner.Gate    = (*jail)(nil)
)

// newJail prepares a fresh sandbox. Nothing runs in it yet.
func newJail(ctx context.Context, m *measured, name, doorDir string) (*jail, error) {
	c := m.config
	scratch := filepath.Join(image.ScratchDir, "sandbox")
	if err := os.Mkdir(scratch, 0o711); err != nil { //nolint:gosec // searchable, as the sandbox demands.
		return nil, fmt.Errorf("making the sandbox's scratch folder: %w", err)
	}
	l := c.Sandbox.Limits
	box, err := sandbox.Create(ctx, sandbox.Config{
		ID: name, Runtime: "/usr/bin/crun", Image: "/", Runner: image.ToolsDir + "/runner", Init: []string{"/usr/bin/catatonit", "--"},
		Scratch: scratch, Door: doorDir, CgroupRoot: "/sys/fs/cgroup", Profile: sandbox.Profile(c.Sandbox.Profile),
		Limits:  sandbox.Limits{Memory: l.MemoryMiB << 20, Processes: l.Processes, Files: 1 << 16},
		Gateway: egress.Address().Addr(), Hosts: c.GitHub.Hosts, Authorities: m.github, Output: io.Discard,
	})
	if err != nil {
		return nil, err
	}
	return &jail{
		box: box, opened: make(chan *egress.Gate, 1), exited: make(chan int, 1),
		gate: egress.Config{
			Hosts: c.GitHub.Hosts, Dialer: &net.Dialer{},
			Limits: egress.Limits{Connections: gateConnections, Bytes: gateBytes, Hello: gateHello, Dial: gateDial, Idle: gateIdle},
		},
	}, nil
}

func (j *jail) root() string { return j.box.Root() }

func (j *jail) contains(pid int) (bool, error) { return j.box.Contains(pid) }

// Start implements [runner.Sandbox]: the gate is open before the runner program runs.
func (j *jail) Start(ctx context.Context, jit secret.String) error {
	argv := []string{sandbox.RunnerRoot + "/bin/Runner.Listener", "run"}
	env := []string{
		"ACTIONS_RUNNER_INPUT_JITCONFIG=" + jit.Reveal(),
		"ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE=1",
	}
	if err := j.box.Load(ctx, argv, env); err != nil {
		return err
	}
	netns, err := j.box.NetNS()
	if err != nil {
		return err
	}
	defer netns.Close()
	if j.current, err = egress.Open(ctx, netns, j.gate); err != nil {
		return err
	}
	j.opened <- j.current
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

// serveGate carries the sandbox's connections until ctx ends.
func (j *jail) serveGate(ctx context.Context) error {
	select {
	case gate := <-j.opened:
		return gate.Serve(ctx)
	case <-ctx.Done():
		return nil
	}
}

// Exited implements [runner.Sandbox].
func (j *jail) Exited() <-chan int { return j.exited }

// Freeze implements [runner.Sandbox].
func (j *jail) Freeze(ctx context.Context) error { return j.box.Freeze(ctx) }

// Thaw implements [runner.Sandbox].
func (j *jail) Thaw(ctx context.Context) error { return j.box.Thaw(ctx) }

// Kill implements [runner.Sandbox].
func (j *jail) Kill(ctx context.Context) error { return j.box.Kill(ctx) }

// Leftovers implements [runner.Sandbox].
func (j *jail) Leftovers() *statement.Processes { return nil }

// Changes implements [runner.Sandbox].
func (j *jail) Changes(context.Context) (*statement.Disk, []byte, error) {
	return nil, nil, errors.New("the changes are not collected")
}

// Dispatched implements [runner.Gate].
func (j *jail) Dispatched() {}

// Flows implements [runner.Gate].
func (j *jail) Flows() []statement.Flow { return nil }

func (j *jail) close(ctx context.Context) error {
	var err error
	if j.current != nil {
		err = j.current.Close()
	}
	return errors.Join(err, j.box.Close(ctx))
}
