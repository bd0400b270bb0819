// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Process is one of the sandbox's processes.
type Process struct {
	PID  int    // inside
	Name string // as /proc/PID/comm has it, at most 15 bytes of printable ASCII, other bytes as a question mark: the job chose it
}

// maxNamed bounds the list of processes.
const maxNamed = 64

// standstill is how long Kill waits for the processes to stand still while it counts them.
const standstill = time.Second

// survey counts the processes of the sandbox and names the first ones, the oldest first. It makes them stand still, so
// that none is born meanwhile; when that cannot be had, it counts those that it sees.
func (s *Sandbox) survey(ctx context.Context) (count int, named []Process) {
	still, cancel := context.WithTimeout(ctx, standstill)
	defer cancel()
	_ = s.cgroup.set(still, "cgroup.freeze", "1", event{"frozen", "1"})
	dirs, err := folders(s.cgroup.file(""))
	if err != nil {
		return 0, nil
	}
	for _, dir := range dirs {
		raw, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")) //nolint:gosec // the cgroup file system.
		if err != nil {
			continue // gone, or a group of threads, whose processes are listed above it
		}
		for word := range strings.FieldsSeq(string(raw)) {
			if p, ok := inspect("/proc/" + word); ok {
				named = append(named, p)
			}
		}
	}
	slices.SortFunc(named, func(a, b Process) int { return a.PID - b.PID })
	named = named[min(len(named), s.config.Init.processes()):]
	return len(named), slices.Clip(named[:min(len(named), maxNamed)])
}

// processes is how many of the oldest are not the job's: the first one, which ends with the second; and as the second the
// shell that waits for the runner program, unless systemd may have started others before it.
func (i Init) processes() int {
	if i == Small {
		return 2
	}
	return 1
}

// inspect reads /proc/PID/status (proc_pid_status(5)): the second number of NSpid counts in the sandbox's namespace.
func inspect(dir string) (Process, bool) {
	raw, err := os.ReadFile(dir + "/status") //nolint:gosec // the proc file system.
	if err != nil {
		return Process{}, false
	}
	var p Process
	for line := range strings.Lines(string(raw)) {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "Name":
			p.Name = printable(strings.TrimSuffix(strings.TrimPrefix(value, "\t"), "\n"))
		case "NSpid":
			if ids := strings.Fields(value); len(ids) > 1 {
				p.PID, err = strconv.Atoi(ids[1])
			}
		}
	}
	return p, err == nil && p.PID > 0
}

// printable bounds what a job has called its process.
func printable(name string) string {
	const most = 15 // prctl(2), PR_SET_NAME; longer where the kernel escapes bytes
	clean := strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, name)
	return clean[:min(len(clean), most)]
}

// Leftovers are the job's processes that still ran when [Sandbox.Kill] was first called: how many, and the first of them.
// The sandbox's first process and the shell that waits for the runner program do not count.
func (s *Sandbox) Leftovers() (count int, named []Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leftCount, s.left
}

// String is for records: the number and the name.
func (p Process) String() string { return fmt.Sprintf("%d %s", p.PID, p.Name) }
