// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/kettle/attest/internal/stubrunner/channel"
	"github.com/kettle/attest/internal/stubrunner/mask"
	"github.com/kettle/attest/internal/stubrunner/message"
	"github.com/kettle/attest/internal/stubrunner/registration"
	"github.com/kettle/attest/internal/stubrunner/service"
	"github.com/kettle/attest/internal/stubrunner/trace"
)

const exitCrash = 1

// Main is the Worker program: "spawnclient <descriptor>", where the descriptor is the inherited pipe from the Listener.
// The root is the runner's folder. It returns the exit code: 100 and the number of the result.
func Main(ctx context.Context, root string, args []string) int {
	code, err := run(ctx, root, args)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
	}
	return code
}

func run(ctx context.Context, root string, args []string) (int, error) {
	if len(args) < 2 || args[0] != "spawnclient" {
		return exitCrash, errors.New("the Worker is started by the Listener")
	}
	fd, err := strconv.ParseUint(args[1], 10, 8)
	if err != nil {
		return exitCrash, fmt.Errorf("reading pipe number: %w", err)
	}
	syscall.CloseOnExec(int(fd)) // steps must not inherit the pipe
	pipe := os.NewFile(uintptr(fd), "listener")
	kind, body, err := channel.Receive(pipe)
	if err != nil || kind != channel.NewJob {
		return exitCrash, fmt.Errorf("waiting for job message: kind %d: %w", kind, err)
	}
	var masker mask.Masker
	log, err := trace.Open(root, "Worker", masker.Mask, echo())
	if err != nil {
		return exitCrash, err
	}
	defer func() { _ = log.Close() }()
	job, err := prepareJob(root, body, &masker, log)
	if err != nil {
		return exitCrash, err
	}
	log.Info("Worker", "Job message:\n "+indent(body))
	signals, lost := listen(ctx, pipe)
	result, err := runUnlessLost(ctx, job, signals, lost)
	if err != nil {
		log.Error("Worker", err)
		return exitCrash, err
	}
	log.Info("Worker", "Job completed.")
	return result.ExitCode(), nil
}

func echo() io.Writer {
	if strings.EqualFold(os.Getenv("ACTIONS_RUNNER_PRINT_LOG_TO_STDOUT"), "true") || os.Getenv("ACTIONS_RUNNER_PRINT_LOG_TO_STDOUT") == "1" {
		return os.Stdout
	}
	return nil
}

func prepareJob(root string, body []byte, masker *mask.Masker, log *trace.Log) (*Job, error) {
	settings, err := registration.Load(root)
	if err != nil {
		return nil, err
	}
	var msg message.Job
	if err := json.Unmarshal(body, &msg); err != nil {
		return nil, fmt.Errorf("reading job message: %w", err)
	}
	return New(Config{
		Work: settings.WorkFolder, AgentName: settings.AgentName, Environ: os.Environ(), Client: service.NewHTTP(),
		Masker: masker, Trace: log,
	}, &msg)
}

func indent(body []byte) string {
	var out bytes.Buffer
	if err := json.Indent(&out, body, "", "  "); err != nil {
		return string(body)
	}
	return out.String()
}

// listen turns the Listener's messages and the process's signals into [Signals]. The last channel is closed when the
// Listener is gone.
func listen(ctx context.Context, pipe io.Reader) (Signals, <-chan struct{}) {
	cancel, shutdown, lost := make(chan struct{}), make(chan struct{}), make(chan struct{})
	kinds := make(chan channel.Kind)
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		defer close(lost)
		for {
			kind, _, err := channel.Receive(pipe)
			if err != nil {
				return
			}
			kinds <- kind
		}
	}()
	go func() {
		for cancelled, stopped := false, false; ; {
			var kind channel.Kind
			select {
			case kind = <-kinds:
			case <-caught:
				kind = channel.Shutdown
			case <-ctx.Done():
				return
			}
			switch {
			case kind == channel.Cancel && !cancelled:
				cancelled = true
				close(cancel)
			case kind == channel.Shutdown && !stopped:
				stopped = true
				close(shutdown)
			}
		}
	}()
	return Signals{Cancel: cancel, Shutdown: shutdown}, lost
}

// runUnlessLost runs the job. A Worker whose Listener is gone gives up at once, as the real one does.
func runUnlessLost(ctx context.Context, job *Job, signals Signals, lost <-chan struct{}) (message.Result, error) {
	type ending struct {
		result message.Result
		err    error
	}
	done := make(chan ending, 1)
	go func() {
		result, err := job.Run(ctx, signals)
		done <- ending{result, err}
	}()
	select {
	case e := <-done:
		return e.result, e.err
	case <-lost:
		return message.Failed, errors.New("the Listener is gone")
	}
}
