// SPDX-License-Identifier: Apache-2.0

// Command stubrunner stands in for GitHub's self-hosted runner program in tests and demonstrations. Installed as
// <root>/bin/Runner.Listener it is the Listener; started under the name Runner.Worker it is the Worker.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/kettle/attest/internal/stubrunner/listener"
	"github.com/kettle/attest/internal/stubrunner/service"
	"github.com/kettle/attest/internal/stubrunner/trace"
	"github.com/kettle/attest/internal/stubrunner/worker"
)

func main() { os.Exit(run()) }

func run() int {
	program, err := os.Executable()
	if err != nil {
		return fail(err)
	}
	root := filepath.Dir(filepath.Dir(program))
	switch filepath.Base(os.Args[0]) {
	case "Runner.Worker":
		return worker.Main(context.Background(), root, os.Args[1:])
	case listener.DaemonName:
		if err := listener.Daemon(context.Background(), os.Args[1:]); err != nil {
			return fail(err)
		}
		return listener.ExitSuccess
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := listener.LoadEnvFile(root); err != nil {
		return fail(err)
	}
	faults, err := takeFaults()
	if err != nil {
		return fail(err)
	}
	if faults.IgnoreStop {
		ctx = context.Background() // the signals are still caught, and come to nothing
	}
	options := listener.ParseOptions(os.Args[1:], os.Environ())
	if err := listener.ClearInputs(); err != nil {
		return fail(err)
	}
	log, err := trace.Open(root, "Runner", nil, nil)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = log.Close() }()
	return listener.Run(ctx, listener.Config{
		Root: root, Options: options, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Client: service.NewHTTP(), Trace: log,
		Faults: faults,
	})
}

// takeFaults reads the fault switches and leaves neither them nor what they take away to child processes.
func takeFaults() (listener.Faults, error) {
	faults, err := listener.ParseFaults(os.Getenv(listener.FaultsVariable))
	if err != nil {
		return faults, err
	}
	gone := []string{listener.FaultsVariable}
	if faults.NoHooks {
		gone = append(gone, "ACTIONS_RUNNER_HOOK_JOB_STARTED", "ACTIONS_RUNNER_HOOK_JOB_COMPLETED")
	}
	for _, name := range gone {
		if err := os.Unsetenv(name); err != nil {
			return faults, fmt.Errorf("clearing environment: %w", err)
		}
	}
	return faults, nil
}

func fail(err error) int {
	_, _ = fmt.Fprintln(os.Stderr, "An error occurred: "+err.Error())
	return listener.ExitTerminated
}
