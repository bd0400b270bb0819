// SPDX-License-Identifier: Apache-2.0

package soak_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
)

// processes are the runner program and all that it starts, in the place of a sandbox, and its outputs.
type processes struct {
	settings settings
	cmd      *exec.Cmd
	exited   chan int
	gone     chan struct{}
}

func newProcesses(s settings) (*processes, error) {
	p := &processes{settings: s, exited: make(chan int, 1), gone: make(chan struct{})}
	root := filepath.Join(s.Dir, "root")
	if err := os.MkdirAll(filepath.Join(root, "bin"), 0o755); err != nil {
		return nil, err
	}
	hook := filepath.Join(s.Dir, "started.sh")
	script := "#!/bin/sh\nexec " + s.Action + " --door " + filepath.Join(s.Dir, "door.sock") + " started\n"
	env := "ACTIONS_RUNNER_HOOK_JOB_STARTED=" + hook + "\nATTEST=" + s.Action + " --door " + filepath.Join(s.Dir, "door.sock") + " attest\n"
	if s.Faults != "" {
		env += "STUBRUNNER_FAULTS=" + s.Faults + "\n"
	}
	return p, errors.Join(
		os.Link(s.Listener, filepath.Join(root, "bin/Runner.Listener")),
		os.WriteFile(filepath.Join(s.Dir, "roots.pem"), []byte(s.Roots), 0o600),
		os.WriteFile(hook, []byte(script), 0o755),
		os.WriteFile(filepath.Join(root, ".env"), []byte(env), 0o600),
	)
}

func (p *processes) Start(_ context.Context, jit secret.String) error {
	root := filepath.Join(p.settings.Dir, "root")
	p.cmd = exec.Command(filepath.Join(root, "bin/Runner.Listener"), "run")
	p.cmd.Dir, p.cmd.SysProcAttr = root, &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Env = []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + root, "ACTIONS_RUNNER_INPUT_JITCONFIG=" + jit.Reveal(),
		"ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE=1", "SSL_CERT_FILE=" + filepath.Join(p.settings.Dir, "roots.pem"),
	}
	console, err := os.Create(filepath.Join(p.settings.Dir, "console"))
	if err != nil {
		return err
	}
	defer console.Close()
	p.cmd.Stdout, p.cmd.Stderr = console, console
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(p.gone)
		_ = p.cmd.Wait()
		code := p.cmd.ProcessState.ExitCode()
		if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			code = 128 + int(ws.Signal())
		}
		p.exited <- code
	}()
	return nil
}

func (p *processes) Runtime() string    { return "processes" }
func (p *processes) Exited() <-chan int { return p.exited }

func (p *processes) signal(s syscall.Signal) error {
	if p.cmd == nil || p.cmd.Process == nil {
		return nil
	}
	if err := unix.Kill(-p.cmd.Process.Pid, s); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

func (p *processes) Freeze(context.Context) error { return p.signal(unix.SIGSTOP) }
func (p *processes) Thaw(context.Context) error   { return p.signal(unix.SIGCONT) }

// Kill ends everything in this PID namespace but this process.
func (p *processes) Kill(ctx context.Context) error {
	if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	if p.cmd == nil || p.cmd.Process == nil {
		return nil
	}
	select {
	case <-p.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *processes) Leftovers() *statement.Processes { return nil }

func (p *processes) Changes(context.Context) (*statement.Disk, []byte, error) {
	return nil, nil, errors.New("there is no overlay")
}

// The keeper's side.

func (p *processes) Settle(context.Context) error { return nil }

func (p *processes) Hold(_ context.Context, o runner.Outputs) (runner.Held, error) {
	if len(o.Paths) != 1 {
		return nil, errors.New("one output is attested here")
	}
	data, err := os.ReadFile(filepath.Join(o.Workspace, o.Paths[0]))
	return output{o.Paths[0], data}, err
}

func (p *processes) HoldDead(ctx context.Context, o runner.Outputs) (runner.Held, error) {
	return p.Hold(ctx, o)
}

type output struct {
	name string
	data []byte
}

func (o output) Snapshot() bool { return true }
func (o output) Release() error { return nil }
func (o output) Hash(context.Context) ([]statement.Subject, error) {
	return []statement.Subject{{Name: o.name, Digest: statement.SHA256(sha256.Sum256(o.data))}}, nil
}

// chip is a simulated secure processor of its own, under the soak's root.
type chip struct {
	processor *sim.Processor
	leaf      []byte
	roots     []snp.Root
}

func newChip(authorityDir string) (*chip, error) {
	authority, err := sim.LoadAuthority(authorityDir)
	if err != nil {
		return nil, err
	}
	c := &chip{}
	if c.processor, err = authority.NewProcessor([48]byte{1}, time.Now()); err != nil {
		return nil, err
	}
	if c.leaf, err = snp.EndorsementKey(c.processor.Endorsements()); err != nil {
		return nil, err
	}
	if c.roots, err = snp.ParseRoots(authority.RootsPEM()); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *chip) Quote(_ context.Context, rd [64]byte) (runner.Quote, error) {
	report, err := c.processor.Report(rd)
	return runner.Quote{Evidence: evidence.Evidence{Kind: evidence.SNP, Report: report, Endorsements: evidence.Endorsements{Leaf: c.leaf}}}, err
}

func (c *chip) Extend(_ context.Context, d binding.Digest) error {
	c.processor.Extend(d)
	return nil
}

func (c *chip) Appraise(q runner.Quote, at time.Time) (runner.Self, error) {
	r, err := snp.Verify(q.Report, q.Leaf, c.roots, at)
	if err != nil {
		return runner.Self{}, err
	}
	report, id := r.ReportID(), r.ChipID()
	return runner.Self{
		Instance:    statement.Instance{Platform: r.Platform(), ReportID: hex.EncodeToString(report[:]), ChipID: hex.EncodeToString(id[:])},
		Measurement: r.Measurement(),
	}, nil
}
