// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/kettle/attest/internal/strict"
)

const version = 2

// wire is every field that a message may have. Pointers tell absent from empty.
type wire struct {
	V          int         `json:"v"`
	Type       string      `json:"type"`
	Program    *string     `json:"program,omitempty"`
	Name       *string     `json:"name,omitempty"`
	Seq        *int64      `json:"seq,omitempty"`
	Line       *string     `json:"line,omitempty"`
	State      *string     `json:"state,omitempty"`
	SinceMs    *int64      `json:"sinceMs,omitempty"`
	ElapsedMs  *int64      `json:"elapsedMs,omitempty"`
	Runner     *wireRunner `json:"runner,omitempty"`
	Jobs       *int        `json:"jobs,omitempty"`
	Responses  *int64      `json:"responses,omitempty"`
	Alarms     *[]Alarm    `json:"alarms,omitempty"`
	Outcome    *string     `json:"outcome,omitempty"`
	Credential *string     `json:"credential,omitempty"`
	Prefix     *string     `json:"prefix,omitempty"`
}

type wireRunner struct {
	ID   *int64  `json:"id"`
	Name *string `json:"name"`
}

// writeFrame reports whether a part of the frame went out and the rest did not.
func writeFrame(w io.Writer, m wire) (half bool, err error) {
	m.V = version
	body, err := json.Marshal(m)
	if err != nil {
		return false, err
	}
	if len(body) > maxFrame {
		return false, fmt.Errorf("the message has %d bytes, at most %d are allowed", len(body), maxFrame)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body))) //nolint:gosec // at most maxFrame.
	n, err := w.Write(append(frame, body...))
	return err != nil && n > 0, err
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

// parse reads one JSON object: known fields only and none twice, nothing behind it, the right version.
func parse(body []byte) (wire, error) {
	if err := strict.Unique(body); err != nil {
		return wire{}, fmt.Errorf("%w: %s", ErrProtocol, describe(err))
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	var m wire
	if err := decoder.Decode(&m); err != nil {
		return wire{}, fmt.Errorf("%w: %s", ErrProtocol, describe(err))
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
		return "not one object with the message's fields, each once"
	}
}

// equal compares all fields but version and type, by identity of the pointers.
func (m wire) equal(other wire) bool {
	m.V, m.Type = other.V, other.Type
	return m == other
}
