// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

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
	// Runtimes give a container's standard streams to its first process's user.
	if err := os.Chown(filepath.Join(pipes, outputPipe), idBase+User, idBase+User); err != nil {
		return fmt.Errorf("giving the runner program its output: %w", err)
	}
	inside, err := s.cgroup.contains(pid)
	if err != nil || !inside {
		return errors.Join(fmt.Errorf("checking the sandbox's first process: it is not in %s", s.cgroup.path), err)
	}
	if s.config.Profile == Docker {
		return s.cgroup.delegate(pid)
	}
	return nil
}

// make has the first runtime make the container that is able to.
func (s *Sandbox) make(ctx context.Context, out *output) (pid int, err error) {
	bundle := s.config.state("bundle")
	var errs []error
	for _, r := range s.runtimes {
		if err := os.Mkdir(r.root, 0o700); err != nil {
			return 0, fmt.Errorf("making the runtime's folder: %w", err)
		}
		pid, err := r.create(ctx, bundle, out.write)
		if err == nil {
			s.runtime = r
			s.log.InfoContext(ctx, "runtime chosen", slog.String("runtime", r.String()))
			return pid, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			return 0, errors.Join(errs...)
		}
		s.log.WarnContext(ctx, "runtime passed over", slog.String("program", r.program), slog.Any("why", err))
		if err := s.abandon(context.WithoutCancel(ctx)); err != nil {
			return 0, errors.Join(append(errs, err)...)
		}
	}
	return 0, errors.Join(errs...)
}

// abandon clears away what a runtime that failed may have left, but for the group with the limits.
func (s *Sandbox) abandon(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	return errors.Join(s.cgroup.kill(ctx), s.cgroup.removeInner())
}
