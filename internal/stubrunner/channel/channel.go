// SPDX-License-Identifier: Apache-2.0

// Package channel carries messages from the Listener to the Worker over an inherited pipe.
//
// A message is its kind and its length, both 32 bits big-endian, then the body. Guarantees: a message is read whole or
// not at all. Trusts: both ends are this program. Does not: keep the body from other processes of the same user.
package channel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Kind is what a message says.
type Kind uint32

// The kinds.
const (
	// NewJob carries the job message.
	NewJob Kind = 1
	// Cancel asks the Worker to cancel the job.
	Cancel Kind = 2
	// Shutdown says that the runner is stopping.
	Shutdown Kind = 3
)

const maxBody = 64 << 20

// Send writes one message.
func Send(w io.Writer, kind Kind, body []byte) error {
	if len(body) > maxBody {
		return errors.New("sending message: the body is too large")
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(kind))
	head = binary.BigEndian.AppendUint32(head, uint32(len(body))) //nolint:gosec // The length is checked above.
	if _, err := w.Write(append(head, body...)); err != nil {
		return fmt.Errorf("sending message: %w", err)
	}
	return nil
}

// Receive reads one message.
func Receive(r io.Reader) (Kind, []byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, fmt.Errorf("receiving message: %w", err)
	}
	n := binary.BigEndian.Uint32(head[4:])
	if n > maxBody {
		return 0, nil, errors.New("receiving message: the body is too large")
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, fmt.Errorf("receiving message: %w", err)
	}
	return Kind(binary.BigEndian.Uint32(head[:4])), body, nil
}
