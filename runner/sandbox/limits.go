// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits bounds what the sandbox may use, all its processes together. A zero field is refused. How much it may write is
// the size of the file system that Config.Scratch lies on.
type Limits struct {
	Memory    int64  // bytes, files in memory included; who exceeds it is killed whole
	Processes int64  // processes and threads
	Files     uint64 // open, in one process
	CPUs      int64  // thousandths of a CPU
	IO        IO
}

// IO bounds the traffic of one block device.
type IO struct {
	Device string // for example /dev/ram0
	Read   int64  // bytes in a second
	Write  int64
}

// What a runner program cannot do without.
const (
	leastMemory, leastProcesses, leastFiles = 64 << 20, 16, 256
	leastCPUs, leastIO                      = 100, 1 << 20
)

func (l Limits) validate() error {
	var errs []error
	for _, f := range []struct {
		name       string
		got, least int64
	}{
		{"bytes of memory", l.Memory, leastMemory}, {"processes", l.Processes, leastProcesses}, {"thousandths of a CPU", l.CPUs, leastCPUs},
		{"bytes read in a second", l.IO.Read, leastIO}, {"bytes written in a second", l.IO.Write, leastIO},
	} {
		if f.got < f.least {
			errs = append(errs, fmt.Errorf("limits: want at least %d %s, got %d", f.least, f.name, f.got))
		}
	}
	if l.Files < leastFiles {
		errs = append(errs, fmt.Errorf("limits: want at least %d files, got %d", leastFiles, l.Files))
	}
	if !strings.HasPrefix(l.IO.Device, "/") {
		errs = append(errs, fmt.Errorf("limits: device %q: want an absolute path", l.IO.Device))
	}
	return errors.Join(errs...)
}

// Bounds on the groups that a job makes below its own: each costs the kernel memory and makes freezing slower.
const (
	maxGroups = 1000
	maxDepth  = 32
)

// control is one file of a cgroup and what is written to it (kernel: Documentation/admin-guide/cgroup-v2.rst).
type control struct{ file, value string }

func (l Limits) controls() ([]control, error) {
	var device unix.Stat_t
	if err := unix.Stat(l.IO.Device, &device); err != nil {
		return nil, fmt.Errorf("looking at %s: %w", l.IO.Device, err)
	}
	if device.Mode&unix.S_IFMT != unix.S_IFBLK {
		return nil, fmt.Errorf("looking at %s: it is not a block device", l.IO.Device)
	}
	const period = 100_000 // microseconds, the kernel's own
	return []control{
		{"memory.max", strconv.FormatInt(l.Memory, 10)},
		{"memory.swap.max", "0"},
		{"memory.oom.group", "1"},
		{"pids.max", strconv.FormatInt(l.Processes, 10)},
		{"cpu.max", fmt.Sprintf("%d %d", l.CPUs*period/1000, period)},
		{"io.max", fmt.Sprintf("%d:%d rbps=%d wbps=%d", unix.Major(device.Rdev), unix.Minor(device.Rdev), l.IO.Read, l.IO.Write)},
		{"cgroup.max.descendants", strconv.Itoa(maxGroups)},
		{"cgroup.max.depth", strconv.Itoa(maxDepth)},
	}, nil
}

// controllers are those that the limits need, and cpuset, which container engines ask for.
var controllers = [...]string{"cpu", "io", "memory", "pids", "cpuset"}

// enable lets the groups below this directory use the controllers.
func enable(dir string) error {
	raw, err := os.ReadFile(dir + "/cgroup.controllers") //nolint:gosec // the cgroup file system.
	if err != nil {
		return fmt.Errorf("listing the cgroup controllers: %w", err)
	}
	have := strings.Fields(string(raw))
	for _, name := range controllers {
		if !slices.Contains(have, name) {
			return fmt.Errorf("enabling the cgroup controller %s: the kernel does not offer it in %s", name, dir)
		}
		if err := writeControl(dir+"/cgroup.subtree_control", "+"+name); err != nil {
			return fmt.Errorf("enabling the cgroup controller %s: %w", name, err)
		}
	}
	return nil
}
