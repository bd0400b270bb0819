// SPDX-License-Identifier: Apache-2.0

package listener

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/kettle/attest/internal/stubrunner/channel"
	"github.com/kettle/attest/internal/stubrunner/message"
	"github.com/kettle/attest/internal/stubrunner/proc"
	"github.com/kettle/attest/internal/stubrunner/service"
	"github.com/kettle/attest/internal/stubrunner/trace"
)

// dispatchWorker renews the job, starts a Worker process and sees it to its end.
func (l *Listener) dispatchWorker(ctx context.Context, a Assignment) (message.Result, error) {
	run, err := service.NewRun(l.Client, a.Job)
	if err != nil {
		return message.Failed, err
	}
	if err := l.firstRenewal(ctx, run); err != nil {
		return message.Abandoned, fmt.Errorf("unable to renew the job for the first time: %w", err)
	}
	renewing, stopRenewing := context.WithCancel(ctx)
	lost := make(chan struct{})
	var renewal sync.WaitGroup
	renewal.Go(func() {
		if l.keepRenewing(renewing, run) {
			close(lost)
		}
	})
	defer renewal.Wait()
	defer stopRenewing()

	w, err := l.startWorker(ctx, a)
	if err != nil {
		return message.Failed, err
	}
	if err := l.reach(ctx, a.Stop, PointRunning); errors.As(err, new(*exitError)) {
		return message.Failed, err // the Worker notices that its Listener is gone
	}
	result := l.superviseWorker(ctx, w, a, lost)
	l.say(trace.Now() + ": Job " + a.Job.DisplayName + " completed with result: " + result.String())
	if w.crashed {
		return result, l.reportCrash(ctx, run, w.output.String())
	}
	return result, nil
}

// firstRenewal must succeed before any Worker starts.
func (l *Listener) firstRenewal(ctx context.Context, run *service.Run) error {
	for attempt := range 5 {
		err := run.Renew(ctx)
		if err == nil {
			return nil
		}
		l.Trace.Error("JobDispatcher", err)
		if errors.Is(err, service.ErrJobGone) || attempt == 4 {
			return err
		}
		if err := wait(ctx, l.Timing.PollRetry/2); err != nil {
			return err
		}
	}
	return nil
}

// keepRenewing renews until the context ends; true means that the service no longer knows the job.
func (l *Listener) keepRenewing(ctx context.Context, run *service.Run) bool {
	for wait(ctx, l.Timing.Renew) == nil {
		err := run.Renew(ctx)
		if errors.Is(err, service.ErrJobGone) {
			return true
		}
		if err != nil {
			l.Trace.Error("JobDispatcher", err)
		}
	}
	return false
}

// worker is a Worker process.
type worker struct {
	cmd     *exec.Cmd
	pipe    io.WriteCloser
	output  *limitedBuffer
	done    chan struct{}
	crashed bool
}

// startWorker starts bin/Runner.Worker, or this program under that name, and sends it the job over a pipe.
func (l *Listener) startWorker(ctx context.Context, a Assignment) (*worker, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making worker pipe: %w", err)
	}
	defer func() { _ = read.Close() }()
	name := filepath.Join(l.Root, "bin", "Runner.Worker")
	path := name
	if _, err := os.Stat(path); err != nil {
		if path, err = os.Executable(); err != nil {
			return nil, errors.Join(fmt.Errorf("finding worker program: %w", err), write.Close())
		}
	}
	w := &worker{pipe: write, output: &limitedBuffer{}, done: make(chan struct{})}
	w.cmd = exec.CommandContext(ctx, path, "spawnclient", "3") //nolint:gosec // The runner's own program.
	w.cmd.Args[0] = name
	w.cmd.Dir = filepath.Join(l.Root, "bin")
	w.cmd.ExtraFiles = []*os.File{read}
	w.cmd.Stdout, w.cmd.Stderr = w.output, w.output
	if truthy(l.Getenv("ACTIONS_RUNNER_PRINT_LOG_TO_STDOUT")) {
		w.cmd.Stdout = io.MultiWriter(w.output, l.Out)
	}
	w.cmd.WaitDelay = 5 * time.Second
	if err := w.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting worker: %w", err), write.Close())
	}
	go func() {
		_ = w.cmd.Wait() // the exit code is in ProcessState
		close(w.done)
	}()
	l.Trace.Info("JobDispatcher", "Send job request message to worker for job "+a.Job.ID+".")
	if err := channel.Send(write, channel.NewJob, a.Message); err != nil {
		_ = w.cmd.Process.Kill()
		<-w.done
		return nil, errors.Join(err, write.Close())
	}
	return w, nil
}

// superviseWorker passes cancellation and stop on, and kills a Worker that takes too long. A job that was stopped counts
// as cancelled here, whatever the Worker reported.
func (l *Listener) superviseWorker(ctx context.Context, w *worker, a Assignment, lost <-chan struct{}) message.Result {
	defer func() { _ = w.pipe.Close() }()
	select {
	case <-w.done:
		result, ok := message.FromExitCode(w.cmd.ProcessState.ExitCode())
		w.crashed = !ok
		l.Trace.Info("JobDispatcher", fmt.Sprintf("Worker finished for job %s. Code: %d", a.Job.ID, w.cmd.ProcessState.ExitCode()))
		return result
	case <-lost:
		l.endWorker(ctx, w, ending{kind: channel.Cancel, limit: time.Minute, stop: a.Stop})
		return message.Abandoned
	case limit := <-a.Cancel:
		l.endWorker(ctx, w, ending{kind: channel.Cancel, limit: limit, stop: a.Stop})
	case <-a.Stop:
		l.endWorker(ctx, w, ending{kind: channel.Shutdown, limit: l.Timing.Stop})
	}
	return message.Canceled
}

// ending is how a Worker is asked to end.
type ending struct {
	kind  channel.Kind
	limit time.Duration
	stop  <-chan struct{} // the runner may stop while the job is being cancelled
}

func (l *Listener) endWorker(ctx context.Context, w *worker, e ending) {
	l.Trace.Info("JobDispatcher", "Send job cancellation message to worker.")
	if err := channel.Send(w.pipe, e.kind, nil); err != nil {
		l.Trace.Error("JobDispatcher", err) // it may have ended by now
	}
	timer := time.NewTimer(e.limit)
	defer timer.Stop()
	select {
	case <-w.done:
	case <-e.stop:
		l.endWorker(ctx, w, ending{kind: channel.Shutdown, limit: l.Timing.Stop})
	case <-timer.C:
		l.Trace.Info("JobDispatcher", "The worker hasn't exited within the cancellation timeout, kill it.")
		proc.KillTree(w.cmd.Process.Pid)
		<-w.done
	}
	if w.cmd.ProcessState != nil {
		_, ok := message.FromExitCode(w.cmd.ProcessState.ExitCode())
		w.crashed = !ok
	}
}

// reportCrash completes a job whose Worker could not.
func (l *Listener) reportCrash(ctx context.Context, run *service.Run, output string) error {
	l.Trace.Info("JobDispatcher", "The worker crashed: "+output)
	if output == "" {
		output = "The worker process ended without a result."
	}
	return run.Complete(ctx, service.Completion{
		Conclusion: message.Failed.Wire(), Annotations: []service.Annotation{{Level: "failure", Message: output}},
	})
}

// limitedBuffer keeps the first bytes of a Worker's own output.
type limitedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

const maxWorkerOutput = 64 << 10

// Write implements io.Writer.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if room := maxWorkerOutput - b.text.Len(); room > 0 {
		_, _ = b.text.Write(p[:min(room, len(p))]) // a bytes.Buffer takes everything
	}
	return len(p), nil
}

// String returns what was kept.
func (b *limitedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
