// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kettle/attest/internal/stubrunner/expr"
	"github.com/kettle/attest/internal/stubrunner/proc"
)

// command is one process of a step.
type command struct {
	program string
	args    []string
	dir     string
	env     []string
}

// execution is a running process. One goroutine steers it; others only read its output and wait for its end.
type execution struct {
	frame  *frame
	cmd    *exec.Cmd
	lines  chan string
	ended  chan struct{}
	pipes  []*os.File
	cancel bool // SIGINT was sent
	late   bool // because of the deadline
	stage  int
	timer  *time.Timer
}

// runCommand runs a process to its end and returns its exit code. A cancelled job, unless the step's condition still
// holds, and the step's deadline end the process: SIGINT, then SIGTERM, then SIGKILL for the whole tree.
func (f *frame) runCommand(ctx context.Context, c command) (int, error) {
	x, err := f.startCommand(ctx, c)
	if err != nil {
		return 0, err
	}
	x.steer(f.job.cancelled)
	switch {
	case x.late:
		return 0, errTimeout
	case x.cancel:
		return 0, errCancelled
	}
	return x.cmd.ProcessState.ExitCode(), nil
}

func (f *frame) startCommand(ctx context.Context, c command) (*execution, error) {
	x := &execution{frame: f, lines: make(chan string, 64), ended: make(chan struct{})}
	x.cmd = exec.CommandContext(context.WithoutCancel(ctx), c.program, c.args...) //nolint:gosec // The job's own program.
	x.cmd.Dir, x.cmd.Env = c.dir, c.env
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making pipe: %w", err)
	}
	errRead, errWrite, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making pipe: %w", err), outRead.Close(), outWrite.Close())
	}
	x.cmd.Stdout, x.cmd.Stderr = outWrite, errWrite
	err = x.cmd.Start()
	_ = outWrite.Close()
	_ = errWrite.Close()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("an error occurred trying to start process '%s': %w", c.program, err), outRead.Close(), errRead.Close())
	}
	var readers sync.WaitGroup
	x.pipes = []*os.File{outRead, errRead}
	for _, r := range x.pipes {
		readers.Go(func() { x.read(r) })
	}
	go func() { readers.Wait(); close(x.lines) }()
	go func() { _ = x.cmd.Wait(); close(x.ended) }() // the exit code is in ProcessState
	return x, nil
}

func (x *execution) read(r *os.File) {
	buffered := bufio.NewReader(r)
	for {
		line, err := buffered.ReadString('\n')
		if line != "" {
			x.lines <- strings.TrimRight(line, "\r\n") // steer reads to the end
		}
		if err != nil {
			_ = r.Close()
			return
		}
	}
}

// steer handles output, cancellation, deadline and end.
func (x *execution) steer(cancelled <-chan struct{}) {
	x.timer = time.NewTimer(time.Hour)
	x.timer.Stop()
	defer x.timer.Stop()
	if x.frame.job.noted {
		cancelled = nil // asked before the step began: the step runs to its end
	}
	var deadline <-chan time.Time
	if !x.frame.deadline.IsZero() {
		timer := time.NewTimer(time.Until(x.frame.deadline))
		defer timer.Stop()
		deadline = timer.C
	}
	lines, ended := x.lines, x.ended
	var drain <-chan time.Time
	for {
		select {
		case line, open := <-lines:
			if !open {
				lines = nil
				if ended == nil {
					return
				}
				break
			}
			x.frame.handleLine(line)
		case <-ended:
			ended = nil
			if lines == nil {
				return
			}
			timer := time.NewTimer(x.frame.job.config.Timing.Drain)
			defer timer.Stop()
			drain = timer.C
		case <-drain:
			proc.KillTree(x.cmd.Process.Pid)
			for _, r := range x.pipes {
				_ = r.SetReadDeadline(time.Now()) // a process left behind holds the other end
			}
		case <-cancelled:
			cancelled = nil
			if !x.frame.survivesStop() {
				x.cancel = true
				x.escalate()
			}
		case <-deadline:
			deadline = nil
			x.late = true
			x.escalate()
		case <-x.timer.C:
			x.escalate()
		}
	}
}

// escalate sends the next signal of the sequence.
func (x *execution) escalate() {
	x.stage++
	timing := x.frame.job.config.Timing
	switch x.stage {
	case 1:
		_ = x.cmd.Process.Signal(syscall.SIGINT) // it may have ended by now
		x.timer.Reset(timing.Interrupt)
	case 2:
		_ = x.cmd.Process.Signal(syscall.SIGTERM)
		x.timer.Reset(timing.Terminate)
	case 3:
		proc.KillTree(x.cmd.Process.Pid)
	}
}

// survivesStop records that the job was asked to stop and tells whether the running step may go on: its condition is
// evaluated again, and nothing goes on when the runner stops.
func (f *frame) survivesStop() bool {
	f.job.noteStop()
	if fired(f.job.shutdown) {
		return false
	}
	if f.embedded {
		f.own = expr.Cancelled
		f.github.Set("action_status", string(f.own))
	}
	holds, err := expr.Condition(f.condition, f.expressions())
	if err != nil {
		f.error(err.Error())
	}
	return holds
}
