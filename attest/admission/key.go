// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/kettle/attest/attest/binding"
)

// ErrErased is returned when a key is asked to open something after [Key.Erase].
var ErrErased = errors.New("HPKE key was erased")

// Key is the X25519 key to which an environment has its credential sealed. It lives in the memory of the environment, is
// made for one admission and erased after it. It prints as its digest. It is safe for concurrent use.
type Key struct {
	public []byte
	mu     sync.Mutex
	scalar []byte // nil once erased; mu
}

// NewKey makes a key from the system's random source.
func NewKey() (*Key, error) {
	scalar := make([]byte, sizeKey)
	if _, err := rand.Read(scalar); err != nil {
		return nil, fmt.Errorf("making HPKE key: %w", err)
	}
	return keyOf(scalar)
}

// keyOf takes the scalar over: [Key.Erase] overwrites it.
func keyOf(scalar []byte) (*Key, error) {
	k := &Key{scalar: scalar}
	private, err := k.private()
	if err != nil {
		return nil, err
	}
	k.public = private.PublicKey().Bytes()
	return k, nil
}

// Public gives the public key, 32 bytes (RFC 7748).
func (k *Key) Public() []byte { return append([]byte(nil), k.public...) }

// Digest names the key: SHA-256 of its 32 bytes. It is the hpkeKey of a quote's context.
func (k *Key) Digest() binding.Digest { return binding.Sum(k.public) }

// Erase overwrites the scalar; opening fails from then on. The Go runtime may hold copies that it made while opening, so
// erasing narrows the window in which a key can leak but is not a proof of absence.
func (k *Key) Erase() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.scalar)
	k.scalar = nil
}

// String names the key by its digest and never shows the scalar.
func (k *Key) String() string { return "HPKE key " + k.Digest().String() }

// GoString implements [fmt.GoStringer].
func (k *Key) GoString() string { return k.String() }

// LogValue implements [slog.LogValuer].
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText implements [encoding.TextMarshaler], and thereby JSON.
func (k *Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// private makes what crypto/hpke takes, for one use.
func (k *Key) private() (hpke.PrivateKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.scalar == nil {
		return nil, ErrErased
	}
	private, err := ecdh.X25519().NewPrivateKey(k.scalar)
	if err != nil {
		return nil, errors.New("using HPKE key: not an X25519 scalar") // the cause may quote it
	}
	return hpke.NewDHKEMPrivateKey(private)
}
