// SPDX-License-Identifier: Apache-2.0

// Package trace writes the runner's diagnostic files, _diag/Runner_….log and _diag/Worker_….log.
//
// Guarantees: the real runner's layout, "[2006-01-02 15:04:05Z INFO Source] text", with secrets masked before a byte is
// written. Trusts: the masker it is given. Does not: page or remove files.
package trace

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Stamp is the layout of times on the console and in diagnostic files, always in UTC.
const Stamp = "2006-01-02 15:04:05Z"

// Now is the time of a console line.
func Now() string { return time.Now().UTC().Format(Stamp) }

// Log is one diagnostic file. A nil Log writes nothing.
type Log struct {
	mu     sync.Mutex
	file   *os.File
	echo   io.Writer
	prefix string
	mask   func(string) string
}

// Open creates <root>/_diag/<host>_<utc>-utc.log, for host "Runner" or "Worker". The mask may be nil. With an echo
// writer each line is also written there, in the form "[WORKER …]".
func Open(root, host string, mask func(string) string, echo io.Writer) (*Log, error) {
	dir := filepath.Join(root, "_diag")
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // As the real runner's folder.
		return nil, fmt.Errorf("creating diagnostic folder: %w", err)
	}
	name := host + "_" + time.Now().UTC().Format("20060102-150405") + "-utc.log"
	file, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // Likewise.
	if err != nil {
		return nil, fmt.Errorf("creating diagnostic file: %w", err)
	}
	if mask == nil {
		mask = func(s string) string { return s }
	}
	return &Log{file: file, echo: echo, prefix: host, mask: mask}, nil
}

// Info writes one entry; the text may have several lines.
func (l *Log) Info(source, text string) { l.write("INFO", source, text) }

// Error writes one entry at the level of errors.
func (l *Log) Error(source string, err error) { l.write("ERR ", source, err.Error()) }

func (l *Log) write(level, source, text string) {
	if l == nil {
		return
	}
	body := level + " " + source + "] " + l.mask(text) + "\n"
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.file.WriteString("[" + Now() + " " + body) // a full disk must not stop the job
	if l.echo != nil {
		_, _ = fmt.Fprintf(l.echo, "[%s %s %s", upper(l.prefix), Now(), body)
	}
}

func upper(host string) string {
	if host == "Worker" {
		return "WORKER"
	}
	return "RUNNER"
}

// Close closes the file.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	return l.file.Close()
}
