// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroup is the sandbox's place in the hierarchy of cgroup v2 (kernel: Documentation/admin-guide/cgroup-v2.rst): two
// groups, one in the other. The outer one has the limits, is frozen and killed, and belongs to kettled. The inner one is
// the root of the sandbox's cgroup namespace: the job cannot even see the outer one.
type cgroup struct {
	root string // where the file system is mounted
	path string // of the outer group, absolute inside it
}

// parent holds the sandboxes of this machine.
const parent = "/kettle"

func (g cgroup) file(name string) string { return filepath.Join(g.root, g.path, name) }

// inner is the path of the inner group.
func (g cgroup) inner() string { return g.path + "/box" }

// create makes the outer group with its limits.
func (g cgroup) create(l Limits) error {
	controls, err := l.controls()
	if err != nil {
		return err
	}
	above := filepath.Join(g.root, parent)
	if err := os.Mkdir(above, 0o755); err != nil && !errors.Is(err, os.ErrExist) { //nolint:gosec // the cgroup file system.
		return fmt.Errorf("making the sandbox's cgroup: %w", err)
	}
	if err := errors.Join(enable(g.root), enable(above)); err != nil {
		return err
	}
	if err := os.Mkdir(g.file(""), 0o755); err != nil { //nolint:gosec // the cgroup file system.
		return fmt.Errorf("making the sandbox's cgroup: %w", err)
	}
	if err := enable(g.file("")); err != nil {
		return err
	}
	for _, c := range controls {
		if err := writeControl(g.file(c.file), c.value); err != nil {
			return fmt.Errorf("setting the sandbox's %s to %s: %w", c.file, c.value, err)
		}
	}
	return nil
}

// delegated are the files of a group that its owner may write to (cgroup-v2.rst, Delegation). The limits are not among
// them.
var delegated = [...]string{"", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"}

// delegate gives the inner group to the sandbox's root, which may divide it but not change its limits, and moves the
// sandbox's first process out of the way: a group that is divided has no processes of its own.
func (g cgroup) delegate(pid int) error {
	dir := filepath.Join(g.root, g.inner())
	own := filepath.Join(dir, "init")
	if err := os.Mkdir(own, 0o755); err != nil { //nolint:gosec // the cgroup file system.
		return fmt.Errorf("dividing the sandbox's cgroup: %w", err)
	}
	if err := writeControl(filepath.Join(own, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
		return fmt.Errorf("moving the sandbox's first process: %w", err)
	}
	for _, base := range []string{dir, own} {
		for _, name := range delegated {
			if err := os.Lchown(filepath.Join(base, name), idBase, idBase); err != nil {
				return fmt.Errorf("giving the sandbox its cgroup: %w", err)
			}
		}
	}
	return nil
}

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

// kill ends every process in the group and below it.
func (g cgroup) kill(ctx context.Context) error {
	return g.set(ctx, "cgroup.kill", "1", event{"populated", "0"})
}

// outOfMemory reports whether the kernel has killed the whole group because it had reached its limit. Groups inside with
// limits of their own do not count: what happens there is the job's affair.
func (g cgroup) outOfMemory() (bool, error) {
	f, err := os.Open(g.file("memory.events.local"))
	if err != nil {
		return false, fmt.Errorf("opening the sandbox's memory events: %w", err)
	}
	defer func() { _ = f.Close() }()
	got, err := readEvents(f)
	if err != nil {
		return false, fmt.Errorf("reading the sandbox's memory events: %w", err)
	}
	killed, ok := got["oom_group_kill"]
	if !ok {
		return false, errors.New("reading the sandbox's memory events: oom_group_kill is not among them")
	}
	return killed != "0", nil
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

// folders lists the directory of a group and every one below it, a parent before its children.
func folders(dir string) ([]string, error) {
	var dirs []string
	err := filepath.WalkDir(dir, func(name string, entry os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // it went away meanwhile
		}
		if err == nil && entry.IsDir() {
			dirs = append(dirs, name)
		}
		return err
	})
	return dirs, err
}

// remove takes the empty group away, with the groups that the job may have made in it.
func (g cgroup) remove() error { return removeGroup(g.file("")) }

func (g cgroup) removeInner() error { return removeGroup(filepath.Join(g.root, g.inner())) }

func removeGroup(dir string) error {
	dirs, err := folders(dir)
	for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
		err = unix.Rmdir(dirs[i])
	}
	if err != nil {
		return fmt.Errorf("removing the sandbox's cgroup: %w", err)
	}
	return nil
}
