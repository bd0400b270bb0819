// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/internal/strict"
)

// CredentialSchema is the schema of what is sealed.
const CredentialSchema = "kettle.credential/v1" //nolint:gosec // a name, no secret.

// Credential is what admission releases: a short token of a GitHub App's installation, with which the environment registers
// its runner and reads the facts of its job. It prints without the token.
type Credential struct {
	Token   secret.String
	Expires time.Time // of the token, whole seconds
}

// sealed is the credential as JSON.
type sealed struct {
	Schema  string    `json:"schema"`
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// Validate demands both parts.
func (c Credential) Validate() error {
	if c.Token.Empty() || c.Expires.IsZero() {
		return errors.New("credential: want a token and the time at which it ends")
	}
	return nil
}

// Plaintext encodes a valid credential for [Seal]. The caller overwrites the bytes when they are sealed.
func (c Credential) Plaintext() ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := sealed{CredentialSchema, c.Token.Reveal(), c.Expires.UTC().Truncate(time.Second)}
	var b bytes.Buffer
	b.Grow(sizeLimit) // so that no copy is left behind where the buffer grows
	if err := json.NewEncoder(&b).Encode(s); err != nil {
		return nil, errors.New("encoding credential") // the cause may quote it
	}
	return b.Bytes(), nil
}

// ParseCredential reads what [Key.Open] gave. The error repeats nothing of it.
func ParseCredential(plaintext []byte) (Credential, error) {
	var s sealed
	if err := strict.Decode(plaintext, &s); err != nil || s.Schema != CredentialSchema {
		return Credential{}, badCredential()
	}
	if s.Token == "" || s.Expires.IsZero() {
		return Credential{}, badCredential()
	}
	return Credential{Token: secret.New(s.Token), Expires: s.Expires}, nil
}

func badCredential() error {
	return &refusal.Refusal{
		Link: link, Code: refusal.Malformed, Want: "a credential of schema " + CredentialSchema, Got: "something else",
		Next: "run a dispatcher of the version that this image was made for",
	}
}
