// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kettle/attest/internal/secret"
)

const version = 1

// wire is every field that a message may have. Pointers tell absent from empty.
type wire struct {
	V          int     `json:"v"`
	Type       string  `json:"type"`
	Program    *string `json:"program,omitempty"`
	Name       *string `json:"name,omitempty"`
	ElapsedMs  *int64  `json:"elapsedMs,omitempty"`
	Outcome    *string `json:"outcome,omitempty"`
	Credential *string `json:"credential,omitempty"`
}

func writeFrame(w io.Writer, m wire) error {
	m.V = version
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(body) > maxFrame {
		return fmt.Errorf("the message has %d bytes, at most %d are allowed", len(body), maxFrame)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body))) //nolint:gosec // at most maxFrame.
	_, err = w.Write(append(frame, body...))
	return err
}

// readFrame gives [io.EOF] only between frames.
func readFrame(r io.Reader) (wire, error) {
	var header [4]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return wire{}, fmt.Errorf("%w: the stream ended inside a frame", ErrProtocol)
		}
		return wire{}, err
	}
	length := binary.BigEndian.Uint32(header[:])
	if length == 0 || length > maxFrame {
		return wire{}, fmt.Errorf("%w: a frame of %d bytes, want 1 to %d", ErrProtocol, length, maxFrame)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return wire{}, fmt.Errorf("%w: the stream ended inside a frame", ErrProtocol)
		}
		return wire{}, err
	}
	return parse(body)
}

// parse reads one JSON object: known fields only, nothing behind it, the right version.
func parse(body []byte) (wire, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	var m wire
	if err := decoder.Decode(&m); err != nil {
		return wire{}, fmt.Errorf("%w: %s", ErrProtocol, describe(err))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return wire{}, fmt.Errorf("%w: there is data after the message", ErrProtocol)
	}
	if m.V != version {
		return wire{}, fmt.Errorf("%w: version %d, want %d", ErrProtocol, m.V, version)
	}
	return m, nil
}

// describe keeps an error of the decoder from repeating what was sent, which might be a credential.
func describe(err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("invalid JSON at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Sprintf("a field of the wrong type at byte %d", kind.Offset)
	default:
		return "not one object with the message's fields"
	}
}

// message gives a message of the guest. Every field of another type must be absent.
func (m wire) message() (Message, error) {
	var got Message
	switch {
	case m.Type == "hello" && m.Program != nil && m.equal(wire{Program: m.Program}):
		got = Hello{Program: *m.Program}
	case m.Type == "phase" && m.Name != nil && m.ElapsedMs != nil && m.equal(wire{Name: m.Name, ElapsedMs: m.ElapsedMs}):
		if *m.ElapsedMs < 0 || *m.ElapsedMs > int64(1<<62/time.Millisecond) {
			return nil, fmt.Errorf("%w: elapsedMs: out of range", ErrProtocol)
		}
		got = Phase{Name: *m.Name, Elapsed: time.Duration(*m.ElapsedMs) * time.Millisecond}
	case m.Type == "end" && m.Outcome != nil && m.equal(wire{Outcome: m.Outcome}):
		got = End{Outcome: *m.Outcome}
	default:
		return nil, fmt.Errorf("%w: not a message of the guest with exactly its fields", ErrProtocol)
	}
	return got, got.validate()
}

// credential gives the launcher's one message.
func (m wire) credential() (secret.String, error) {
	if m.Type != "credential" || m.Credential == nil || !m.equal(wire{Credential: m.Credential}) {
		return secret.String{}, fmt.Errorf("%w: not a credential with exactly its fields", ErrProtocol)
	}
	if *m.Credential == "" || len(*m.Credential) > maxSecret {
		return secret.String{}, fmt.Errorf("%w: credential: want 1 to %d bytes", ErrProtocol, maxSecret)
	}
	return secret.New(*m.Credential), nil
}

// equal compares all fields but version and type, by identity of the pointers.
func (m wire) equal(other wire) bool {
	m.V, m.Type = other.V, other.Type
	return m == other
}
