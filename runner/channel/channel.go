// SPDX-License-Identifier: Apache-2.0

// Package channel speaks between a launcher and the VM that it started, over any byte stream.
//
// The launcher gives one credential, with the prefix that every name of a runner has to have, and may ask the guest to
// drain; the guest says hello, tells its phases, its journal and its status, and ends with a sentence. Each message is a
// frame: its length as four big-endian bytes, then that many bytes of JSON, at most 64 KiB.
//
//	guest → launcher   {"v":2,"type":"hello","program":"kettled"}                  first, once
//	launcher → guest   {"v":2,"type":"credential","credential":"…","prefix":"kettle-0123456789abcdef"}   once, after hello
//	launcher → guest   {"v":2,"type":"drain"}                                      once at most, after the credential
//	guest → launcher   {"v":2,"type":"phase","name":"listening","elapsedMs":2100}  any number
//	guest → launcher   {"v":2,"type":"journal","seq":0,"line":"{…}"}               one for each line, seq without a gap
//	guest → launcher   {"v":2,"type":"status","state":"listening","sinceMs":900,"elapsedMs":3000,
//	                    "runner":{"id":21,"name":"…"},"jobs":0,"responses":0,"alarms":["sink-down"]}
//	                                                                               at each change, and each [StatusInterval]
//	guest → launcher   {"v":2,"type":"end","outcome":"The job succeeded."}         last, once
//
// Version 2 added prefix, drain, journal and status; sides of different versions refuse each other at the first message.
//
// It guarantees that a message which arrives has its exact fields, in this order of messages, within its bounds, and is
// safe to print; that nothing is sent behind half a message; and that the credential never prints itself. It trusts neither
// side and authenticates nothing: the stream is whatever the host provides, so the guest must not believe a credential to
// be confidential, nor the launcher a word of what a guest says: the job in it may have taken it over.
package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/kettle/attest/internal/secret"
)

// Limits of one message.
const (
	maxFrame     = 64 << 10
	maxWord      = 64
	maxSentence  = 1000
	maxSecret    = 32 << 10
	maxAlarms    = 32
	maxResponses = 1_000_000
	maxTime      = 365 * 24 * time.Hour
	maxID        = 1 << 53 // what every reader of JSON takes for exact
)

// MaxLine is the longest line of a journal in bytes, without its newline.
const MaxLine = 8 << 10

// StatusInterval is how often at least a guest tells its status. A launcher takes a guest that stays silent for many
// times as long for dead.
const StatusInterval = 30 * time.Second

// writeTime bounds the writing of one message, whatever the context allows.
const writeTime = 10 * time.Second

// Errors of the channel.
var (
	// ErrProtocol is matched by every error about what the other side sent, or what must not be sent to it.
	ErrProtocol = errors.New("not the launcher channel's protocol")
	// ErrBroken means that a message went out by half before: nothing can follow it.
	ErrBroken = errors.New("the launcher channel broke in the middle of a message")
)

// Stream is a byte stream with deadlines: a [net.Conn], or a port opened as [os.File].
type Stream interface {
	io.ReadWriter
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// Admission is what a guest needs to register its runner.
type Admission struct {
	Credential secret.String // empty where somebody else gives it, see package dispatch/admission
	Prefix     string        // "kettle-" and 16 hexadecimal digits; the launcher removes what carries it when the guest has died
}

func (a Admission) validateCredential() error {
	if n := len(a.Credential.Reveal()); n == 0 || n > maxSecret {
		return fmt.Errorf("%w: credential: want 1 to %d bytes, got %d", ErrProtocol, maxSecret, n)
	}
	return nil
}

func (a Admission) validate() error {
	if !a.Credential.Empty() {
		if err := a.validateCredential(); err != nil {
			return err
		}
	}
	if !ValidPrefix(a.Prefix) {
		return fmt.Errorf(`%w: prefix: want "kettle-" and 16 hexadecimal digits`, ErrProtocol)
	}
	return nil
}

var prefixForm = regexp.MustCompile(`^kettle-[0-9a-f]{16}$`)

// ValidPrefix reports whether text is the prefix of one environment's runners: "kettle-" and 16 lower-case hexadecimal
// digits. A name goes on with a hyphen.
func ValidPrefix(text string) bool { return prefixForm.MatchString(text) }

// Command is what a launcher asks of a guest that it has admitted.
type Command string

// Drain asks to end as soon as no job is lost by it.
const Drain Command = "drain"

// word accepts lower-case letters, digits and hyphens.
func word(field, text string) error {
	if text == "" || len(text) > maxWord {
		return fmt.Errorf("%w: %s: want 1 to %d characters, got %d", ErrProtocol, field, maxWord, len(text))
	}
	for _, r := range text {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return fmt.Errorf("%w: %s: want lower-case letters, digits and hyphens", ErrProtocol, field)
		}
	}
	return nil
}

// printable accepts UTF-8 that prints, on one line.
func printable(field, s string, most int) error {
	if s == "" || len(s) > most || !utf8.ValidString(s) {
		return fmt.Errorf("%w: %s: want 1 to %d bytes of UTF-8", ErrProtocol, field, most)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%w: %s: has the unprintable character %U", ErrProtocol, field, r)
		}
	}
	return nil
}

// span accepts a time that a machine can have run.
func span(field string, d time.Duration) error {
	if d < 0 || d > maxTime {
		return fmt.Errorf("%w: %s: %d is no time since a boot", ErrProtocol, field, d.Milliseconds())
	}
	return nil
}

// Printable gives s as the channel carries it: what cannot be printed becomes a space, and the end of what is longer than
// most bytes is left out. A guest uses it for words of foreign origin, before it hashes the line that they stand in.
func Printable(s string, most int) string {
	out := make([]byte, 0, min(len(s), most))
	for _, r := range s {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			r = ' '
		}
		if len(out)+utf8.RuneLen(r) > most {
			break
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out)
}

// interruptible runs f with the stream's deadline following ctx. set is one of the stream's two setters.
func interruptible(ctx context.Context, set func(time.Time) error, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	if err := set(deadline); err != nil {
		return fmt.Errorf("setting a deadline: %w", err)
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		_ = set(time.Unix(1, 0)) // a closed stream needs no deadline.
	})
	err := f()
	if !stop() {
		<-interrupted
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
	return err
}
