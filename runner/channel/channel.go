// SPDX-License-Identifier: Apache-2.0

// Package channel speaks between a launcher and the VM that it started, over any byte stream.
//
// The launcher gives one credential; the guest says hello, tells its phases, and ends with a sentence. Each message is
// a frame: its length as four big-endian bytes, then that many bytes of JSON, at most 64 KiB.
//
//	guest → launcher   {"v":1,"type":"hello","program":"kettled"}                  first, once
//	launcher → guest   {"v":1,"type":"credential","credential":"…"}                once, after hello
//	guest → launcher   {"v":1,"type":"phase","name":"listening","elapsedMs":2100}  any number
//	guest → launcher   {"v":1,"type":"end","outcome":"The job succeeded."}         last, once
//
// It guarantees that a message which arrives has its exact fields, in this order of messages, and is safe to print; and
// that the credential never prints itself. It trusts neither side and authenticates nothing: the stream is whatever the
// host provides, so the guest must not believe a credential to be confidential, nor the launcher a phase to be true.
package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of one message, in bytes.
const (
	maxFrame    = 64 << 10
	maxWord     = 64
	maxSentence = 1000
	maxSecret   = 32 << 10
)

// writeTime bounds the writing of one message, whatever the context allows.
const writeTime = 10 * time.Second

// ErrProtocol is matched by every error about what the other side sent.
var ErrProtocol = errors.New("not the launcher channel's protocol")

// Stream is a byte stream with deadlines: a [net.Conn], or a port opened as [os.File].
type Stream interface {
	io.ReadWriter
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// Hello is the guest's first message.
type Hello struct {
	Program string // who speaks, for example "kettled"
}

// Phase says that the guest has reached a phase.
type Phase struct {
	Name    string
	Elapsed time.Duration // since the guest's kernel started, in whole milliseconds on the wire
}

// End is the guest's last message.
type End struct {
	Outcome string // one sentence
}

// Message is one of [Hello], [Phase] and [End].
type Message interface{ validate() error }

func (h Hello) validate() error { return word("program", h.Program) }

func (p Phase) validate() error {
	if p.Elapsed < 0 || p.Elapsed > 365*24*time.Hour {
		return fmt.Errorf("%w: elapsedMs: %d is no time since a boot", ErrProtocol, p.Elapsed.Milliseconds())
	}
	return word("name", p.Name)
}

func (e End) validate() error {
	if e.Outcome == "" || len(e.Outcome) > maxSentence || !utf8.ValidString(e.Outcome) {
		return fmt.Errorf("%w: outcome: want 1 to %d bytes of UTF-8", ErrProtocol, maxSentence)
	}
	for _, r := range e.Outcome {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%w: outcome: has the unprintable character %U", ErrProtocol, r)
		}
	}
	return nil
}

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
