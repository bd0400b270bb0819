// SPDX-License-Identifier: Apache-2.0

// Package sandbox runs the runner program and its job where they can reach neither kettled nor the hardware.
//
// It writes an OCI configuration (runtime-spec 1.2) and has crun make a container of it: its own user, pid, mount, net,
// ipc, uts and cgroup namespaces; 2^18 ids that own nothing outside; the image read-only and id-mapped below an overlay
// on scratch; a seccomp deny-list; no device but the harmless six; a cgroup with limits. The network namespace is empty
// but for its loopback interface.
//
// It guarantees that [Sandbox.Freeze] returns only after the kernel reports every process of the sandbox frozen, that
// [Sandbox.Kill] returns only after none is left, and that [Sandbox.Contains] recognises the sandbox's processes by
// their cgroup. It trusts the kernel, crun and the image; it does not trust anything that runs inside. One kernel is
// shared: a job that can break the kernel breaks the sandbox, and docs/threat-model.md says what limits that.
//
// A sandbox goes one way: [Create], [Sandbox.Load], [Sandbox.Start], [Sandbox.Wait] or [Sandbox.Kill], [Sandbox.Close].
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
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

// The range of ids outside that the sandbox's ids 0 to 2^18-1 stand for. Nothing else may own files or run there.
const (
	idBase = 1 << 20
	idSize = 1 << 18
)

// Errors of a sandbox that is asked for something in the wrong order.
var (
	ErrNotLoaded = errors.New("sandbox has no process yet")
	ErrClosed    = errors.New("sandbox is closed")
)

// Sandbox is one container. Its methods may be called from several goroutines, but Load, Start and Close by one owner.
type Sandbox struct {
	config Config
	crun   crun
	cgroup cgroup
	log    *slog.Logger

	mu      sync.Mutex // guards the fields below
	init    *process   // the container's first process, once loaded
	mounted []string   // mount points, in order
	closed  bool
}

// Create mounts the sandbox's root and fills it: a fresh copy of the runner, host names, an empty resolver. Nothing runs
// yet. On an error nothing is left behind.
func Create(ctx context.Context, config Config) (_ *Sandbox, err error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("checking the sandbox configuration: %w", err)
	}
	s := &Sandbox{
		config: config,
		crun:   crun{program: config.Runtime, root: filepath.Join(config.Scratch, "crun"), id: config.name()},
		cgroup: cgroup{root: config.CgroupRoot, path: config.cgroupPath()},
		log:    config.Logger,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(context.WithoutCancel(ctx)))
		}
	}()
	if err := s.layout(); err != nil {
		return nil, err
	}
	if err := s.mountRoot(); err != nil {
		return nil, err
	}
	if err := s.fill(ctx); err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "sandbox created", slog.String("root", s.Root()))
	return s, nil
}

// layout makes the directories of the scratch folder. crun resolves mount sources inside the new user namespace, where
// nobody owns them, so that the way to them must be open for everybody; what is private is not on that way.
func (s *Sandbox) layout() error {
	if err := os.Chmod(s.config.Scratch, 0o711); err != nil { //nolint:gosec // searchable, not readable.
		return fmt.Errorf("opening the scratch folder: %w", err)
	}
	for dir, mode := range map[string]os.FileMode{
		"image": 0o711, "upper": 0o755, "work": 0o700, "root": 0o711, "bundle": 0o700, "crun": 0o700,
	} {
		if err := os.Mkdir(filepath.Join(s.config.Scratch, dir), mode); err != nil {
			return fmt.Errorf("making the sandbox's folders: %w", err)
		}
	}
	return nil
}

// Root is the sandbox's root directory as kettled sees it: the merged overlay. What the sandbox mounts over it (/proc,
// /dev, /sys, /run) does not show here.
func (s *Sandbox) Root() string { return filepath.Join(s.config.Scratch, "root") }

// Load makes the container and its first process, which waits for [Sandbox.Start] before it executes argv as the
// runner's user. env is added to the fixed environment and may not change it.
func (s *Sandbox) Load(ctx context.Context, argv, env []string) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case s.init != nil:
		return errors.New("loading the sandbox: it has a process already")
	}
	full, err := environment(env)
	if err != nil {
		return err
	}
	if err := becomeSubreaper(); err != nil {
		return err
	}
	bundle := filepath.Join(s.config.Scratch, "bundle")
	if err := writeSpec(filepath.Join(bundle, "config.json"), s.config.spec(argv, full)); err != nil {
		return err
	}
	// The configuration holds the runner's credential; crun has read it when it returns. From then on the credential is
	// in the memory of the sandbox's processes only.
	defer func() { err = errors.Join(err, os.Remove(filepath.Join(bundle, "config.json"))) }()
	out, err := newOutput(s.config.Output)
	if err != nil {
		return err
	}
	pid, err := s.crun.create(ctx, bundle, out.write)
	if err := errors.Join(err, out.started()); err != nil {
		return errors.Join(err, s.abandon(context.WithoutCancel(ctx)))
	}
	s.init = adopt(pid, out)
	if err := s.crun.disown(s.config.spec(argv, fixedEnvironment[:])); err != nil {
		return err
	}
	inside, err := s.cgroup.contains(pid)
	if err != nil || !inside {
		return errors.Join(fmt.Errorf("checking the sandbox's first process: it is not in %s", s.cgroup.path), err)
	}
	s.log.InfoContext(ctx, "sandbox loaded", slog.Int("pid", pid))
	return nil
}

// abandon clears away what a crun that failed may have left.
func (s *Sandbox) abandon(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	killErr := s.cgroup.set(ctx, "cgroup.kill", "1", event{"populated", "0"})
	if errors.Is(killErr, os.ErrNotExist) {
		killErr = nil
	}
	return errors.Join(killErr, s.crun.remove(ctx), s.cgroup.remove())
}

// Start lets the first process run.
func (s *Sandbox) Start(ctx context.Context) error {
	if _, err := s.first(); err != nil {
		return err
	}
	if err := s.crun.start(ctx); err != nil {
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

// Done is closed when the first process has ended and its output is written. It is nil before Load.
func (s *Sandbox) Done() <-chan struct{} {
	p, err := s.first()
	if err != nil {
		return nil
	}
	return p.done
}

// Wait returns the exit code of the first process once it has ended: 128 and the number for a signal. With it, the
// kernel has killed everything else in its pid namespace.
func (s *Sandbox) Wait(ctx context.Context) (int, error) {
	p, err := s.first()
	if err != nil {
		return 0, err
	}
	select {
	case <-p.done:
		return p.code, p.err
	case <-ctx.Done():
		return 0, fmt.Errorf("waiting for the sandbox: %w", ctx.Err())
	}
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

// Kill ends every process of the sandbox, frozen or not, and returns when none is left. It may be repeated, and is done
// at once when nothing was loaded.
func (s *Sandbox) Kill(ctx context.Context) error {
	p, err := s.first()
	if err != nil {
		return nil //nolint:nilerr // no process, nothing to kill.
	}
	if err := s.cgroup.set(ctx, "cgroup.kill", "1", event{"populated", "0"}); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the sandbox's first process: %w", ctx.Err())
	}
}

// thawTime bounds thawing and killTime the killing in Close, where the caller's patience is already spent.
const (
	thawTime = 5 * time.Second
	killTime = 10 * time.Second
)

// Close kills what still runs and removes container, mounts and files. It may be repeated.
func (s *Sandbox) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	errs := []error{s.Kill(ctx)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if s.init != nil {
		errs = append(errs, s.crun.remove(ctx), s.cgroup.remove())
	}
	errs = append(errs, s.unmount())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("closing the sandbox: %w", err)
	}
	s.closed = true
	for _, dir := range []string{"image", "upper", "work", "root", "bundle", "crun"} {
		errs = append(errs, os.RemoveAll(filepath.Join(s.config.Scratch, dir)))
	}
	return errors.Join(errs...)
}
