// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

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
