// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// becomeSubreaper makes kettled the parent of what the runtime leaves behind, which is the container's first process
// alone, so that its exit code arrives here (prctl(2), PR_SET_CHILD_SUBREAPER). It holds for the whole process and for good.
func becomeSubreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming the sandbox's reaper: %w", err)
	}
	return nil
}

// process is the container's first process and, seen through it, the runner program. Its id stays valid until gone is
// closed, since nobody else reaps it.
type process struct {
	pid   int
	ended chan struct{} // the runner program has, or the first process
	gone  chan struct{} // the first process is

	once sync.Once // guards the two below until ended is closed
	code int
	err  error
}

func (p *process) end(code int, err error) {
	p.once.Do(func() {
		p.code, p.err = code, err
		close(p.ended)
	})
}

// adopt waits in the background: for the script's report on the pipe, and for the process itself.
func adopt(pid int, out *output, report *os.File) *process {
	p := &process{pid: pid, ended: make(chan struct{}), gone: make(chan struct{})}
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		if code, err := readReport(report); !errors.Is(err, os.ErrClosed) {
			p.end(code, err)
		}
	}()
	go func() {
		defer close(p.gone)
		code, err := reap(pid)
		_ = report.Close() // ends the other one
		<-reported
		p.end(code, errors.Join(err, out.finish()))
	}()
	return p
}

// readReport reads the exit code, one line. Whoever is root inside can write anything there.
func readReport(pipe *os.File) (int, error) {
	const most = 4 // three digits and a newline
	var text []byte
	for buf := make([]byte, most); len(text) < most && !bytes.ContainsRune(text, '\n'); {
		n, err := pipe.Read(buf[:most-len(text)])
		if err != nil {
			return 0, fmt.Errorf("reading the runner program's exit code: %w", err)
		}
		text = append(text, buf[:n]...)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	code, err := strconv.ParseUint(line, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("reading the runner program's exit code: got %q", text)
	}
	return int(code), nil
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
	read, write *os.File // kettled's own ends of a named pipe, which the sandbox may open as well
	to          io.Writer
	copied      chan error
}

func newOutput(pipe string, to io.Writer) (*output, error) {
	r, err := os.OpenFile(pipe, os.O_RDONLY|unix.O_NONBLOCK, 0) //nolint:gosec // a file of our own folder.
	if err != nil {
		return nil, fmt.Errorf("opening the pipe for the sandbox's output: %w", err)
	}
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0) //nolint:gosec // the same.
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the pipe for the sandbox's output: %w", err), r.Close())
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

// drainTime is how long output is still copied after the sandbox's first process has ended.
const drainTime = 2 * time.Second

// finish ends the copy. The processes of the pid namespace are gone when its first one has been reaped
// (pid_namespaces(7)), but the pipe's other end may have been passed to somebody else, whose end nobody waits for: what
// is in the pipe is copied, and the rest is cut off after drainTime.
func (o *output) finish() error {
	closeErr := o.write.Close()
	_ = o.read.SetReadDeadline(time.Now().Add(drainTime)) // fails only when the copy has ended and closed it
	if err := errors.Join(closeErr, <-o.copied); err != nil {
		return fmt.Errorf("writing the sandbox's output: %w", err)
	}
	return nil
}
