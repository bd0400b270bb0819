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
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
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
		s.layout, s.mountImage, s.mountShown, func() error { return s.fill(ctx) }, s.mountRoot, s.openDevices,
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
		{s.config.state("bundle"), 0o700}, {s.config.state("init"), 0o711}, {s.config.state("door"), 0o711}, {s.config.state("shown"), 0o711},
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

// Load makes the container and its first process, which waits for [Sandbox.Start] before it executes argv as the
// runner's user. env is added to the fixed environment and may not change it.
func (s *Sandbox) Load(ctx context.Context, argv, env []string) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case s.group:
		return errors.New("loading the sandbox: it was loaded before")
	}
	full, err := environment(env)
	if err != nil {
		return err
	}
	if err := becomeSubreaper(); err != nil {
		return err
	}
	supplementary, err := groups(filepath.Join(s.config.layer("image"), "etc/group"))
	if err != nil {
		return err
	}
	if err := s.cgroup.create(s.config.Limits); err != nil {
		return err
	}
	s.group = true
	if err := s.config.writeInit(argv, full); err != nil {
		return err
	}
	spec := s.config.state("bundle/config.json")
	if err := writeSpec(spec, s.config.spec(full, supplementary)); err != nil {
		return err
	}
	// The configuration holds the runner's credential; the runtime has read it when it returns. From then on the
	// credential is in the memory of the sandbox's processes only.
	defer func() { err = errors.Join(err, os.Remove(spec)) }()
	if err := s.loadProcess(ctx); err != nil {
		return err
	}
	s.log.InfoContext(ctx, "sandbox loaded", slog.Int("pid", s.init.pid), slog.String("runtime", s.runtime.String()))
	return s.runtime.disown(s.config.spec(fixedEnvironment[:], supplementary))
}

// loadProcess makes the container and puts its first process where it belongs.
func (s *Sandbox) loadProcess(ctx context.Context) error {
	pipes := s.config.state("init")
	out, err := newOutput(filepath.Join(pipes, outputPipe), s.config.Output)
	if err != nil {
		return err
	}
	// Kettled holds both ends, so that reading does not end with one writer.
	report, err := os.OpenFile(filepath.Join(pipes, endPipe), os.O_RDWR|unix.O_NONBLOCK, 0) //nolint:gosec // our own file.
	if err != nil {
		return errors.Join(fmt.Errorf("opening the pipe for the exit code: %w", err), out.finish())
	}
	pid, err := s.make(ctx, out)
	if err != nil {
		return errors.Join(err, report.Close(), out.finish())
	}
	s.init = adopt(pid, out, report)
	inside, err := s.cgroup.contains(pid)
	if err != nil || !inside {
		return errors.Join(fmt.Errorf("checking the sandbox's first process: it is not in %s", s.cgroup.path), err)
	}
	if s.config.Profile == Docker {
		return s.cgroup.delegate(pid)
	}
	return nil
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

// Kill ends every process of the sandbox, frozen or not, and returns when none is left. The first call notes what still
// ran, see [Sandbox.Leftovers]. It may be repeated, and is done at once when nothing was loaded.
func (s *Sandbox) Kill(ctx context.Context) error {
	p, err := s.first()
	if err != nil {
		return nil //nolint:nilerr // no process, nothing to kill.
	}
	s.look(ctx)
	if err := s.cgroup.kill(ctx); err != nil && !errors.Is(err, os.ErrNotExist) { // removed before
		return err
	}
	select {
	case <-p.gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the sandbox's first process: %w", ctx.Err())
	}
}

// look notes once what still runs.
func (s *Sandbox) look(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.surveyed {
		return
	}
	s.leftCount, s.left = s.survey(ctx)
	s.surveyed = true
}

// thawTime bounds thawing and killTime the killing in Close, where the caller's patience is already spent.
const (
	thawTime = 5 * time.Second
	killTime = 10 * time.Second
)

// Close kills what still runs and removes container, mounts and kettled's own files. It may be repeated. What the job has
// written stays where [Sandbox.Volumes] says: there is no bound on the time that it takes to remove that, and it is gone
// with the machine.
func (s *Sandbox) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	errs := []error{s.Kill(ctx)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if s.group {
		errs = append(errs, s.cgroup.remove())
	}
	errs = append(errs, s.unmount())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("closing the sandbox: %w", err)
	}
	s.closed = true
	return s.removeFiles()
}

// removeFiles removes what nobody wrote to but kettled: its own folders, and all of scratch when nothing ever ran there.
func (s *Sandbox) removeFiles() error {
	folders := []string{s.config.State}
	if s.init == nil {
		folders = append(folders, s.config.Scratch)
	}
	var errs []error
	for _, folder := range folders {
		entries, err := os.ReadDir(folder)
		errs = append(errs, err)
		for _, e := range entries {
			errs = append(errs, os.RemoveAll(filepath.Join(folder, e.Name())))
		}
	}
	return errors.Join(errs...)
}
