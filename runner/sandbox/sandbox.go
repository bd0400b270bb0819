// SPDX-License-Identifier: Apache-2.0

// Package sandbox runs the runner program and its job where they can reach neither kettled nor the hardware.
//
// It writes an OCI configuration (runtime-spec 1.2) and has crun, or else runc, make a container of it: its own user, pid,
// mount, net, ipc, uts and cgroup namespaces; 2^18 ids that own nothing outside; the image read-only and id-mapped below
// an overlay on scratch; a session keyring of its own; a seccomp deny-list; no device but the harmless six. Around it
// stands a cgroup with limits on memory, processes, CPU and disk traffic, which the job can neither see nor change. The
// network namespace is empty but for its loopback interface.
//
// It guarantees that [Sandbox.Freeze] returns only after the kernel reports every process of the sandbox frozen, that
// [Sandbox.Kill] returns only after none is left, and that [Sandbox.Contains] recognises the sandbox's processes by
// their cgroup, those of nested containers included. It trusts the kernel, the runtime and the image; it does not trust
// anything that runs inside, whoever it is there. One kernel is shared: a job that can break the kernel breaks the
// sandbox, and docs/threat-model.md says what limits that. The docker profile lets a job speak to more of the kernel than
// the strict one does.
//
// A sandbox goes one way: [Create], [Sandbox.Load], [Sandbox.Start], [Sandbox.Wait] or [Sandbox.Kill], [Sandbox.Close].
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
)

// Paths inside the sandbox.
const (
	Home       = "/home/runner"                // of the runner's user
	RunnerRoot = "/home/runner/actions-runner" // the runner program's fresh copy and working directory
	HookPath   = "/usr/lib/kettle/started.sh"  // the started hook
	doorMount  = "/run/kettle"                 // kettled's directory, read-only
)

// User is the uid and gid of the runner program inside the sandbox.
const User = 1001

// Errors of a sandbox that is asked for something in the wrong order.
var (
	ErrNotLoaded = errors.New("sandbox has no process yet")
	ErrClosed    = errors.New("sandbox is closed")
)

// Sandbox is one container. Its methods may be called from several goroutines, but Load, Start and Close by one owner.
type Sandbox struct {
	config   Config
	runtimes []ociRuntime // able to make it, in order
	cgroup   cgroup
	log      *slog.Logger

	mu        sync.Mutex // guards the fields below
	runtime   ociRuntime // that made it
	init      *process   // the container's first process, once loaded
	group     bool       // the cgroup is there
	mounted   []string   // mount points, in order
	surveyed  bool       // leftCount and left are final
	leftCount int
	left      []Process
	closed    bool
}

func cgroupOf(c Config) cgroup { return cgroup{root: c.CgroupRoot, path: parent + "/" + c.name()} }

// Create mounts the sandbox's root and fills it: a fresh copy of the runner, host names, a resolver. Nothing runs yet. On
// an error nothing is left behind.
func Create(ctx context.Context, config Config) (_ *Sandbox, err error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("checking the sandbox configuration: %w", err)
	}
	s := &Sandbox{config: config, cgroup: cgroupOf(config), log: config.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.runtimes, err = probe(ctx, config, s.log); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(context.WithoutCancel(ctx)))
		}
	}()
	for _, step := range []func() error{
		s.layout, s.mountImage, func() error { return s.fill(ctx) }, s.mountRoot, s.openDevices,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	s.log.InfoContext(ctx, "sandbox created", slog.String("root", s.Root()))
	return s, nil
}

// layout makes the directories of the scratch and state folders. The runtime resolves mount sources inside the new user
// namespace, where nobody owns them, so that the way to them must be open for everybody; what is private is not on that
// way.
func (s *Sandbox) layout() error {
	for _, dir := range []string{s.config.Scratch, s.config.State} {
		if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // searchable, not readable.
			return fmt.Errorf("opening the sandbox's folders: %w", err)
		}
	}
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{
		{s.config.layer("image"), 0o711}, {s.config.layer("fill"), 0o755}, {s.config.layer("upper"), 0o755},
		{s.config.layer("work"), 0o700}, {s.config.layer("root"), 0o711}, {s.config.volume(""), 0o711},
		{s.config.state("bundle"), 0o700}, {s.config.state("init"), 0o711},
	} {
		if err := os.Mkdir(d.path, d.mode); err != nil {
			return fmt.Errorf("making the sandbox's folders: %w", err)
		}
	}
	for _, layer := range []string{"fill", "upper"} {
		if err := os.Chown(s.config.layer(layer), idBase, idBase); err != nil {
			return fmt.Errorf("giving the sandbox its layers: %w", err)
		}
	}
	return s.config.makeVolumes()
}

// Root is the sandbox's root directory as kettled sees it: the merged overlay. What is mounted over it inside (/proc,
// /dev, /sys, /run and the volumes) does not show here.
func (s *Sandbox) Root() string { return s.config.layer("root") }

// Runtime names the container runtime and its version, for example "crun 1.8.1". It is empty before Load.
func (s *Sandbox) Runtime() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runtime.kind == "" {
		return ""
	}
	return s.runtime.String()
}

// Start lets the first process run.
func (s *Sandbox) Start(ctx context.Context) error {
	if _, err := s.first(); err != nil {
		return err
	}
	if err := s.runtime.start(ctx); err != nil {
		return err
	}
	s.log.InfoContext(ctx, "sandbox started")
	return nil
}

func (s *Sandbox) first() (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, ErrClosed
	case s.init == nil:
		return nil, ErrNotLoaded
	}
	return s.init, nil
}

// Done is closed when the runner program has ended, or the sandbox's first process with it. Others may still run. It is
// nil before Load.
func (s *Sandbox) Done() <-chan struct{} {
	p, err := s.first()
	if err != nil {
		return nil
	}
	return p.ended
}

// Wait returns the exit code of the runner program once it has ended: 128 and the number for a signal. What it has left
// running goes on until [Sandbox.Kill], and what it has written is complete only then. The code is what the sandbox says
// about itself: a job can end its sandbox with any.
func (s *Sandbox) Wait(ctx context.Context) (int, error) {
	p, err := s.first()
	if err != nil {
		return 0, err
	}
	select {
	case <-p.ended:
		return p.code, p.err
	case <-ctx.Done():
		return 0, fmt.Errorf("waiting for the sandbox: %w", ctx.Err())
	}
}

// OutOfMemory reports whether the kernel has killed the sandbox because it wanted more memory than its limit. It can be
// asked from Load to Close.
func (s *Sandbox) OutOfMemory() (bool, error) {
	if _, err := s.first(); err != nil {
		return false, err
	}
	return s.cgroup.outOfMemory()
}

// NetNS opens the sandbox's network namespace, which exists from Load on.
func (s *Sandbox) NetNS() (*os.File, error) {
	p, err := s.first()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", p.pid))
	if err != nil {
		return nil, fmt.Errorf("opening the sandbox's network namespace: %w", err)
	}
	return f, nil
}

// Contains reports whether the process is in the sandbox's cgroup or below it.
func (s *Sandbox) Contains(pid int) (bool, error) { return s.cgroup.contains(pid) }

// Freeze stops every process of the sandbox and returns when the kernel says that none can run any more. When ctx ends
// first, the sandbox is thawed again.
func (s *Sandbox) Freeze(ctx context.Context) error {
	if _, err := s.first(); err != nil {
		return err
	}
	if err := s.cgroup.set(ctx, "cgroup.freeze", "1", event{"frozen", "1"}); err != nil {
		return errors.Join(err, s.Thaw(context.WithoutCancel(ctx)))
	}
	return nil
}

// Thaw lets the processes run again.
func (s *Sandbox) Thaw(ctx context.Context) error {
	if _, err := s.first(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, thawTime)
	defer cancel()
	return s.cgroup.set(ctx, "cgroup.freeze", "0", event{"frozen", "0"})
}
