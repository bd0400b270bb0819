// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"unicode"

	"golang.org/x/term"

	"github.com/kettle/attest/attest/refusal"
)

// IO is the streams of a program and what they can show.
type IO struct {
	In       io.Reader
	Out, Err io.Writer

	outColour, errColour, errTTY bool
}

// System gives the process's own streams. Colour is off where NO_COLOR is set and not empty, where TERM is "dumb", and
// where the stream is no terminal.
func System(getenv func(string) string) *IO {
	plain := getenv("NO_COLOR") != "" || getenv("TERM") == "dumb"
	errTTY := term.IsTerminal(int(os.Stderr.Fd()))
	return &IO{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		outColour: !plain && term.IsTerminal(int(os.Stdout.Fd())), errColour: !plain && errTTY, errTTY: errTTY && !plain,
	}
}

// Main runs a program until it ends or is interrupted, prints its error as sentences on the error stream, and gives the
// exit code.
func Main(ctx context.Context, name string, program func(context.Context, *IO) error) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	streams := System(os.Getenv)
	err := program(ctx, streams)
	streams.Report(name, err)
	return ExitCode(err)
}

// ReportedError is an error that the program has shown to the user already; it only gives the exit code.
type ReportedError struct{ Err error }

// Error gives the fault.
func (e *ReportedError) Error() string { return e.Err.Error() }

// Unwrap gives the fault.
func (e *ReportedError) Unwrap() error { return e.Err }

// Report prints an error on the error stream, unless it was reported already: a refusal with what was wanted, what was
// got and what to do, anything else as one sentence.
func (s *IO) Report(name string, err error) {
	var reported *ReportedError
	if err == nil || errors.As(err, &reported) {
		return
	}
	var usage *UsageError
	if all := refusal.All(err); len(all) > 0 && !errors.As(err, &usage) {
		for _, r := range all {
			fmt.Fprintf(s.Err, "%s: %s refused (%s)\n%s", name, Clean(r.Link), r.Code, Refusal(r, "  "))
		}
		return
	}
	fmt.Fprintf(s.Err, "%s: %s\n", name, strings.TrimSpace(CleanLines(err.Error())))
	if errors.As(err, &usage) {
		fmt.Fprintf(s.Err, "Run with --help to see how it is used.\n")
	}
}

// Refusal gives what was wanted, what was got and what to do, one line each after the indent.
func Refusal(r *refusal.Refusal, indent string) string {
	var b strings.Builder
	for _, f := range []struct{ name, text string }{{"want", r.Want}, {"got ", r.Got}, {"next", r.Next}} {
		if f.text != "" {
			fmt.Fprintf(&b, "%s%s  %s\n", indent, f.name, Clean(f.text))
		}
	}
	return b.String()
}

// Clean replaces everything in s that is not printable in one line: control characters, escape sequences, line breaks
// and marks that change the direction of text.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// CleanLines is [Clean] for each line of s.
func CleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = Clean(l)
	}
	return strings.Join(lines, "\n")
}

// Style is a way to show text.
type Style string

// The styles.
const (
	Bold  Style = "1"
	Dim   Style = "2"
	Red   Style = "31"
	Green Style = "32"
)

// Styled gives s in a style where the output stream shows colours.
func (s *IO) Styled(style Style, text string) string { return paint(s.outColour, style, text) }

func paint(on bool, style Style, text string) string {
	if !on || text == "" {
		return text
	}
	return "\x1b[" + string(style) + "m" + text + "\x1b[0m"
}
