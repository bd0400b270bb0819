// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"errors"
	"testing"

	"github.com/kettle/attest/attest/refusal"
)

func TestSignVerify(t *testing.T) {
	t.Parallel()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	payload := []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a","digest":{"sha256":"00"}}],"predicateType":"x","predicate":{}}`)
	line, err := Sign(t.Context(), key, payload)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.Verify(key.SPKI())
	if err != nil || !bytes.Equal(got, payload) {
		t.Fatalf("verify: %v", err)
	}
	other, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Verify(other.SPKI()); !errors.Is(err, refusal.ErrSignature) {
		t.Errorf("another key: %v, want a signature refusal", err)
	}
	key.Erase()
	if _, err := Sign(t.Context(), key, payload); !errors.Is(err, ErrErased) {
		t.Errorf("erased key signed: %v", err)
	}
}
