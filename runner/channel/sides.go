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

// Guest is the VM's side. Its sending methods may be called from any goroutine.
type Guest struct {
	stream Stream
	mu     sync.Mutex // serializes frames
}

// NewGuest takes the VM's side of a stream. The stream stays the caller's to close.
func NewGuest(stream Stream) *Guest { return &Guest{stream: stream} }

// Send sends one message. The order in the package comment is the caller's duty; the launcher refuses another.
func (g *Guest) Send(ctx context.Context, m Message) error {
	if err := m.validate(); err != nil {
		return fmt.Errorf("sending to the launcher: %w", err)
	}
	var w wire
	switch m := m.(type) {
	case Hello:
		w = wire{Type: "hello", Program: &m.Program}
	case Phase:
		elapsed := m.Elapsed.Milliseconds()
		w = wire{Type: "phase", Name: &m.Name, ElapsedMs: &elapsed}
	case End:
		w = wire{Type: "end", Outcome: &m.Outcome}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := send(ctx, g.stream, w); err != nil {
		return fmt.Errorf("sending to the launcher: %w", err)
	}
	return nil
}

// Credential waits for the launcher's credential.
func (g *Guest) Credential(ctx context.Context) (secret.String, error) {
	m, err := receive(ctx, g.stream)
	if err != nil {
		return secret.String{}, fmt.Errorf("waiting for the credential: %w", noEOF(err))
	}
	credential, err := m.credential()
	if err != nil {
		return secret.String{}, fmt.Errorf("waiting for the credential: %w", err)
	}
	return credential, nil
}

// Launcher is the host's side. One goroutine receives; another may send.
type Launcher struct {
	stream  Stream
	greeted bool // owned by the receiving goroutine
	ended   bool // owned by the receiving goroutine
}

// NewLauncher takes the launcher's side of a stream. The stream stays the caller's to close.
func NewLauncher(stream Stream) *Launcher { return &Launcher{stream: stream} }

// SendCredential gives the guest its credential.
func (l *Launcher) SendCredential(ctx context.Context, credential secret.String) error {
	text := credential.Reveal()
	if text == "" || len(text) > maxSecret {
		return fmt.Errorf("sending the credential: want 1 to %d bytes, got %d", maxSecret, len(text))
	}
	if err := send(ctx, l.stream, wire{Type: "credential", Credential: &text}); err != nil {
		return fmt.Errorf("sending the credential: %w", err)
	}
	return nil
}

// Next waits for the guest's next message. The first is a [Hello]; after [End], and only there, comes [io.EOF]. A
// stream that ends earlier is an error that matches [io.ErrUnexpectedEOF].
func (l *Launcher) Next(ctx context.Context) (Message, error) {
	w, err := receive(ctx, l.stream)
	if errors.Is(err, io.EOF) && l.ended {
		return nil, io.EOF
	}
	if err != nil {
		return nil, fmt.Errorf("listening to the guest: %w", noEOF(err))
	}
	m, err := w.message()
	if err != nil {
		return nil, fmt.Errorf("listening to the guest: %w", err)
	}
	_, hello := m.(Hello)
	switch {
	case l.ended:
		return nil, fmt.Errorf("listening to the guest: %w: a message after the end", ErrProtocol)
	case hello == l.greeted:
		return nil, fmt.Errorf("listening to the guest: %w: hello comes first and once", ErrProtocol)
	}
	l.greeted = true
	_, l.ended = m.(End)
	return m, nil
}

func send(ctx context.Context, s Stream, w wire) error {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	return interruptible(ctx, s.SetWriteDeadline, func() error { return writeFrame(s, w) })
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
