// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroup is the sandbox's place in the hierarchy of cgroup v2 (kernel: Documentation/admin-guide/cgroup-v2.rst).
type cgroup struct {
	root string // where the file system is mounted
	path string // absolute inside it
}

func (g cgroup) file(name string) string { return filepath.Join(g.root, g.path, name) }

// event is one line of cgroup.events.
type event struct{ key, value string }

// set writes one control file and waits until cgroup.events says what follows from it. The kernel signals every change
// of that file as POLLPRI.
func (g cgroup) set(ctx context.Context, name, value string, want event) error {
	events, err := os.Open(g.file("cgroup.events"))
	if err != nil {
		return fmt.Errorf("opening the sandbox's events: %w", err)
	}
	defer func() { _ = events.Close() }()
	if err := writeControl(g.file(name), value); err != nil {
		return fmt.Errorf("setting the sandbox's %s: %w", name, err)
	}
	for {
		got, err := readEvents(events)
		if err != nil {
			return fmt.Errorf("reading the sandbox's events: %w", err)
		}
		if got[want.key] == want.value {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("waiting for %s %s of the sandbox: %w", want.key, want.value, err)
		}
		const pause = 20 * time.Millisecond                                  // how late the end of ctx may be seen
		fds := []unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}} //nolint:gosec // a descriptor.
		if _, err := unix.Poll(fds, int(pause.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("waiting for the sandbox's events: %w", err)
		}
	}
}

// writeControl writes without creating: a control file that is missing is an error.
func writeControl(name, value string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0) //nolint:gosec // the cgroup file system.
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func readEvents(f *os.File) (map[string]string, error) {
	raw, err := io.ReadAll(io.NewSectionReader(f, 0, 4096))
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			all[key] = value
		}
	}
	return all, nil
}

// contains reads the process's cgroup (proc_pid_cgroup(5)): "0::" and its path.
func (g cgroup) contains(pid int) (bool, error) {
	if pid <= 0 {
		return false, fmt.Errorf("reading the cgroup of process %d: no such process", pid)
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return false, fmt.Errorf("reading the cgroup of process %d: %w", pid, err)
	}
	return g.within(string(raw)), nil
}

func (g cgroup) within(listing string) bool {
	for line := range strings.Lines(listing) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return path == g.path || strings.HasPrefix(path, g.path+"/")
		}
	}
	return false
}

// remove takes the empty group away, with the groups that the job may have made in it.
func (g cgroup) remove() error {
	var dirs []string
	err := filepath.WalkDir(filepath.Join(g.root, g.path), func(name string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, name)
		}
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
		err = unix.Rmdir(dirs[i])
	}
	if err != nil {
		return fmt.Errorf("removing the sandbox's cgroup: %w", err)
	}
	return nil
}
