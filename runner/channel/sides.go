// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/kettle/attest/internal/secret"
)

// Guest is the VM's side. Its sending methods may be called from any goroutine, while another receives.
type Guest struct {
	stream  Stream
	drained bool // owned by the receiving goroutine

	sending
	lines int64 // of the journal, sent so far; guarded by sending.mu
}

// NewGuest takes the VM's side of a stream. The stream stays the caller's to close.
func NewGuest(stream Stream) *Guest { return &Guest{stream: stream} }

// Send sends one message. That hello comes first and end last is the caller's duty; the launcher refuses another order. A
// line of the journal is refused here unless it is the next one.
func (g *Guest) Send(ctx context.Context, m Message) error {
	const doing = "sending to the launcher"
	if err := m.validate(); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	j, line := m.(Journal)
	if line && j.Seq != g.lines {
		return fmt.Errorf("%s: %w: line %d of the journal, want %d", doing, ErrProtocol, j.Seq, g.lines)
	}
	if err := g.send(ctx, g.stream, encode(m)); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if line {
		g.lines++
	}
	return nil
}

// Admission waits for the launcher's credential, if it is the one who gives it, and the prefix of every runner's name.
func (g *Guest) Admission(ctx context.Context) (Admission, error) {
	a, err := g.admission(ctx)
	if err == nil && a.Prefix == "" {
		err = fmt.Errorf("waiting for the credential: %w: without a prefix", ErrProtocol)
	}
	if err != nil {
		return Admission{}, err
	}
	return a, nil
}

// Credential is [Guest.Admission] for who does not need the prefix.
func (g *Guest) Credential(ctx context.Context) (secret.String, error) {
	a, err := g.admission(ctx)
	if err == nil {
		err = a.validateCredential()
	}
	if err != nil {
		return secret.String{}, err
	}
	return a.Credential, nil
}

func (g *Guest) admission(ctx context.Context) (Admission, error) {
	const doing = "waiting for the credential"
	m, err := receive(ctx, g.stream)
	if err != nil {
		return Admission{}, fmt.Errorf("%s: %w", doing, noEOF(err))
	}
	a, err := m.admission()
	if err != nil {
		return Admission{}, fmt.Errorf("%s: %w", doing, err)
	}
	return a, nil
}

// Next waits for the launcher's next command. It is called once the credential is there. [io.EOF] says that the launcher
// has gone, which is no reason to end a job.
func (g *Guest) Next(ctx context.Context) (Command, error) {
	const doing = "listening to the launcher"
	m, err := receive(ctx, g.stream)
	if errors.Is(err, io.EOF) {
		return "", io.EOF
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", doing, err)
	}
	c, err := m.command()
	if err != nil {
		return "", fmt.Errorf("%s: %w", doing, err)
	}
	if g.drained {
		return "", fmt.Errorf("%s: %w: drain comes once", doing, ErrProtocol)
	}
	g.drained = true
	return c, nil
}

// Launcher is the host's side. One goroutine receives; others may send.
type Launcher struct {
	stream  Stream
	greeted bool  // owned by the receiving goroutine
	ended   bool  // owned by the receiving goroutine
	lines   int64 // of the journal, received so far; owned by the receiving goroutine

	sending
	admitted bool // guarded by sending.mu
	drained  bool // guarded by sending.mu
}

// NewLauncher takes the launcher's side of a stream. The stream stays the caller's to close.
func NewLauncher(stream Stream) *Launcher { return &Launcher{stream: stream} }

// Admit gives the guest its credential, unless somebody else does, and the prefix of its runners' names. Only the first
// call sends.
func (l *Launcher) Admit(ctx context.Context, a Admission) error {
	if err := a.validate(); err != nil {
		return fmt.Errorf("sending the credential: %w", err)
	}
	w := wire{Type: "credential", Prefix: &a.Prefix}
	if text := a.Credential.Reveal(); text != "" {
		w.Credential = &text
	}
	return l.admit(ctx, w)
}

// SendCredential is [Launcher.Admit] for a guest that is not told a prefix, so that nobody can remove its runner by it.
func (l *Launcher) SendCredential(ctx context.Context, credential secret.String) error {
	if err := (Admission{Credential: credential}).validateCredential(); err != nil {
		return fmt.Errorf("sending the credential: %w", err)
	}
	text := credential.Reveal()
	return l.admit(ctx, wire{Type: "credential", Credential: &text})
}

func (l *Launcher) admit(ctx context.Context, w wire) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.admitted {
		return fmt.Errorf("sending the credential: %w: it was sent before", ErrProtocol)
	}
	if err := l.send(ctx, l.stream, w); err != nil {
		return fmt.Errorf("sending the credential: %w", err)
	}
	l.admitted = true
	return nil
}

// Drain asks the guest to end as soon as no job is lost by it. It is refused before the credential is sent; asking again
// does nothing.
func (l *Launcher) Drain(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.admitted:
		return fmt.Errorf("draining the guest: %w: it has no credential yet", ErrProtocol)
	case l.drained:
		return nil
	}
	if err := l.send(ctx, l.stream, wire{Type: string(Drain)}); err != nil {
		return fmt.Errorf("draining the guest: %w", err)
	}
	l.drained = true
	return nil
}

// Next waits for the guest's next message. The first is a [Hello]; after [End], and only there, comes [io.EOF]. A
// stream that ends earlier is an error that matches [io.ErrUnexpectedEOF].
func (l *Launcher) Next(ctx context.Context) (Message, error) {
	const doing = "listening to the guest"
	w, err := receive(ctx, l.stream)
	if errors.Is(err, io.EOF) && l.ended {
		return nil, io.EOF
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, noEOF(err))
	}
	m, err := w.message()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	if err := l.inOrder(m); err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return m, nil
}

// inOrder accounts for one message.
func (l *Launcher) inOrder(m Message) error {
	_, hello := m.(Hello)
	j, line := m.(Journal)
	switch {
	case l.ended:
		return fmt.Errorf("%w: a message after the end", ErrProtocol)
	case hello == l.greeted:
		return fmt.Errorf("%w: hello comes first and once", ErrProtocol)
	case line && j.Seq != l.lines:
		return fmt.Errorf("%w: line %d of the journal, want %d", ErrProtocol, j.Seq, l.lines)
	case line:
		l.lines++
	}
	l.greeted = true
	_, l.ended = m.(End)
	return nil
}

// sending serializes one side's frames and stops for good behind half of one: what followed it would be read as its rest.
type sending struct {
	mu     sync.Mutex
	broken bool // guarded by mu
}

// send sends one frame. The caller holds mu.
func (s *sending) send(ctx context.Context, stream Stream, w wire) error {
	if s.broken {
		return ErrBroken
	}
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	return interruptible(ctx, stream.SetWriteDeadline, func() (err error) {
		s.broken, err = writeFrame(stream, w)
		return err
	})
}

func receive(ctx context.Context, s Stream) (w wire, err error) {
	err = interruptible(ctx, s.SetReadDeadline, func() error {
		w, err = readFrame(s)
		return err
	})
	if errors.Is(err, io.ErrClosedPipe) { // closed by the other side before the deadline could be set
		err = io.EOF
	}
	return w, err
}

// noEOF tells an end that came too early from one that was due.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the stream ended too early", io.ErrUnexpectedEOF)
	}
	return err
}
