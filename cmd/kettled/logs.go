// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/diag"
	"github.com/kettle/attest/runner/sandbox"
)

// What is kept of a console, in bytes: its beginning and its end.
const (
	keptHead = 64 << 10
	keptTail = 512 << 10
)

// logs are what operators look at when something went wrong: kettled's own words, the runner program's console and its
// _diag.
type logs struct {
	log     *diag.Console
	console *diag.Console
	home    func() (string, error) // the runner's home, from outside

	mu      sync.Mutex
	secrets []secret.String // mu
}

var _ runner.Logs = (*logs)(nil)

func newLogs() *logs {
	return &logs{log: diag.NewConsole(keptHead, keptTail), console: diag.NewConsole(keptHead, keptTail)}
}

// logger writes kettled's own words.
func (l *logs) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(l.log, nil)) }

// hide names what must not be in what is exported.
func (l *logs) hide(s ...secret.String) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, one := range s {
		if !one.Empty() {
			l.secrets = append(l.secrets, one)
		}
	}
}

// Pack implements [runner.Logs].
func (l *logs) Pack(ctx context.Context, journal []byte) ([]byte, error) {
	folder := diag.Folder{} // which the manifest then names as not read
	if home, err := l.home(); err == nil {
		folder = diag.Folder{Volume: home, Path: strings.TrimPrefix(sandbox.RunnerRoot, sandbox.Home+"/") + "/_diag"}
	}
	l.mu.Lock()
	secrets := append([]secret.String(nil), l.secrets...)
	l.mu.Unlock()
	archive, _, err := diag.Collect(ctx, diag.Sources{
		Journal: journal, Log: l.log, Console: l.console, Kernel: diag.KernelLog,
		Runner: folder, Secrets: secrets, At: time.Now(),
	}, diag.DefaultLimits())
	return archive, err
}
