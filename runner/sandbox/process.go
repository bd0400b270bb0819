// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// becomeSubreaper makes kettled the parent of what crun leaves behind, which is the container's first process alone, so
// that its exit code arrives here (prctl(2), PR_SET_CHILD_SUBREAPER). It holds for the whole process and for good.
func becomeSubreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming the sandbox's reaper: %w", err)
	}
	return nil
}

// process is the container's first process. Its id stays valid until done is closed, since nobody else reaps it.
type process struct {
	pid  int
	done chan struct{}
	code int   // valid after done
	err  error // valid after done
}

// adopt waits for the process in the background.
func adopt(pid int, out *output) *process {
	p := &process{pid: pid, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.code, p.err = reap(pid)
		p.err = errors.Join(p.err, out.finish())
	}()
	return p
}

// reap waits for the end of a child; a stop is not one.
func reap(pid int) (int, error) {
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("waiting for the sandbox's first process: %w", err)
		case status.Signaled():
			return 128 + int(status.Signal()), nil
		case status.Exited():
			return status.ExitStatus(), nil
		}
	}
}

// output copies what the sandbox writes into a writer that outlives it.
type output struct {
	read, write *os.File
	to          io.Writer
	copied      chan error
}

func newOutput(to io.Writer) (*output, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe for the sandbox's output: %w", err)
	}
	o := &output{read: r, write: w, to: to, copied: make(chan error, 1)}
	go func() {
		_, err := io.Copy(o.to, o.read)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil // see finish
		}
		if err != nil { // keep the sandbox running: its output is lost, not its job
			_, _ = io.Copy(io.Discard, o.read)
		}
		o.copied <- errors.Join(err, o.read.Close())
	}()
	return o, nil
}

// started closes kettled's own end for writing, so that the copy ends with the last process of the sandbox.
func (o *output) started() error { return o.write.Close() }

// drainTime is how long output is still copied after the sandbox's first process has ended.
const drainTime = 2 * time.Second

// finish ends the copy. The processes of the pid namespace are gone when its first one has been reaped
// (pid_namespaces(7)), but the pipe's other end may have been passed to somebody else, whose end nobody waits for: what
// is in the pipe is copied, and the rest is cut off after drainTime.
func (o *output) finish() error {
	_ = o.read.SetReadDeadline(time.Now().Add(drainTime)) // fails only when the copy has ended and closed it
	if err := <-o.copied; err != nil {
		return fmt.Errorf("writing the sandbox's output: %w", err)
	}
	return nil
}
