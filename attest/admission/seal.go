// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"errors"
	"fmt"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
)

// The one suite: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305, base mode (RFC 9180, appendix A.2). Another
// one is another version.
func kdf() hpke.KDF   { return hpke.HKDFSHA256() }
func aead() hpke.AEAD { return hpke.ChaCha20Poly1305() }

const (
	sizeKey   = 32
	sizeLimit = 64 << 10 // bytes of what is sealed
)

// domain separates this use of the key from every other. The zero byte ends it: what follows has fixed lengths.
const domain = "kettle/attest admission release v1\x00"

// Terms is what a seal is made for. Whoever opens it has to name the same terms, or gets nothing.
type Terms struct {
	Nonce          binding.Digest // of the challenge
	EnvironmentKey binding.Digest // SHA-256 of its SubjectPublicKeyInfo
	HPKEKey        binding.Digest // SHA-256 of the public key
	Summary        binding.Digest // SHA-256 of the VSA-ENV line
}

// complete demands all of them: a field that was forgotten binds nothing.
func (t Terms) complete() error {
	for _, d := range []binding.Digest{t.Nonce, t.EnvironmentKey, t.HPKEKey, t.Summary} {
		if d.IsZero() {
			return errors.New("sealing: nonce, environment key, HPKE key and summary are all needed")
		}
	}
	return nil
}

// info is RFC 9180's info: purpose, nonce, environment and key.
func (t Terms) info() []byte {
	return bytes.Join([][]byte{[]byte(domain), t.Nonce[:], t.EnvironmentKey[:], t.HPKEKey[:]}, nil)
}

// aad is RFC 9180's aad: the summary that was issued with it.
func (t Terms) aad() []byte { return t.Summary[:] }

// Sealed is what [Seal] gives.
type Sealed struct {
	Encapsulated []byte // RFC 9180, "enc"
	Ciphertext   []byte // RFC 9180, "ct"
}

// Seal encrypts plaintext to a public key that a quote named.
func Seal(public []byte, t Terms, plaintext []byte) (Sealed, error) {
	if err := t.complete(); err != nil {
		return Sealed{}, err
	}
	if binding.Sum(public) != t.HPKEKey {
		return Sealed{}, errors.New("sealing: another HPKE key than the terms name")
	}
	if len(plaintext) == 0 || len(plaintext) > sizeLimit {
		return Sealed{}, fmt.Errorf("sealing: %d bytes, want 1 to %d", len(plaintext), sizeLimit)
	}
	key, err := hpke.DHKEM(ecdh.X25519()).NewPublicKey(public)
	if err != nil {
		return Sealed{}, (&refusal.Refusal{
			Link: link, Code: refusal.Malformed, Want: "an X25519 public key", Got: "something else", Next: nextOther,
		}).Because(err)
	}
	enc, sender, err := hpke.NewSender(key, kdf(), aead(), t.info())
	if err != nil {
		return Sealed{}, (&refusal.Refusal{
			Link: link, Code: refusal.Malformed, Want: "an X25519 public key of full order", Got: "another", Next: nextOther,
		}).Because(err)
	}
	ct, err := sender.Seal(t.aad(), plaintext)
	if err != nil {
		return Sealed{}, fmt.Errorf("sealing: %w", err)
	}
	return Sealed{enc, ct}, nil
}

// Open decrypts what was sealed to the key under the same terms. Everything else is refused with one word.
func (k *Key) Open(t Terms, s Sealed) ([]byte, error) {
	if err := t.complete(); err != nil {
		return nil, err
	}
	if k.Digest() != t.HPKEKey {
		return nil, errors.New("opening: another HPKE key than the terms name")
	}
	private, err := k.private()
	if err != nil {
		return nil, err
	}
	plaintext, err := open(private, s, t.info(), t.aad())
	if err != nil {
		return nil, (&refusal.Refusal{
			Link: link, Code: refusal.Binding, Want: "a credential sealed to this environment's key for its nonce and its VSA-ENV",
			Got: "something that does not open", Next: "ask again; if it stays so, something stands between this machine and the dispatcher",
		}).Because(err)
	}
	return plaintext, nil
}

// open is HPKE's SingleShot open in base mode (RFC 9180, section 6.1).
func open(private hpke.PrivateKey, s Sealed, info, aad []byte) ([]byte, error) {
	if len(s.Ciphertext) > sizeLimit+sizeTag {
		return nil, errors.New("too long")
	}
	recipient, err := hpke.NewRecipient(s.Encapsulated, private, kdf(), aead(), info)
	if err != nil {
		return nil, err
	}
	return recipient.Open(aad, s.Ciphertext)
}

// sizeTag is what the AEAD adds (RFC 8439).
const sizeTag = 16
