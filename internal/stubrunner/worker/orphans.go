// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/kettle/attest/internal/stubrunner/proc"
)

// killOrphans ends the processes that the job's steps left behind: those that carry its tracking id.
func (j *Job) killOrphans(f *frame) {
	f.output("Cleaning up orphan processes")
	want := []byte("RUNNER_TRACKING_ID=" + j.tracking)
	for _, p := range proc.List() {
		if p.PID == os.Getpid() {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID), "environ"))
		if err != nil {
			continue // not ours to read, or ended
		}
		for entry := range bytes.SplitSeq(env, []byte{0}) {
			if bytes.Equal(entry, want) {
				f.output("Terminate orphan process: pid (" + strconv.Itoa(p.PID) + ") (" + p.Name + ")")
				_ = syscall.Kill(p.PID, syscall.SIGKILL)
				break
			}
		}
	}
}
