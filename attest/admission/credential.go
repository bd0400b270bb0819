// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/internal/strict"
)

// CredentialSchema is the schema of what is sealed.
const CredentialSchema = "kettle.credential/v1" //nolint:gosec // a name, no secret.

// Kind says what a credential is.
type Kind string

// The kinds.
const (
	KindToken Kind = "token" // a short token of a GitHub App's installation, with which the environment registers one runner
	KindJIT   Kind = "jit"   // a runner that is registered already, with its configuration
)

// Credential is what admission releases. It prints without its secrets.
type Credential struct {
	Kind    Kind
	Token   secret.String // of KindToken; of KindJIT one that can only read, or none
	Expires time.Time     // of the token, whole seconds; zero where there is none
	Runner  int64         // of KindJIT: GitHub's number
	Name    string        // of KindJIT: the runner's name
	JIT     secret.String // of KindJIT: the configuration as GitHub gave it
}

// sealed is the credential as JSON.
type sealed struct {
	Schema  string     `json:"schema"`
	Kind    Kind       `json:"kind"`
	Token   string     `json:"token,omitempty"`
	Expires *time.Time `json:"expires,omitempty"`
	Runner  int64      `json:"runner,omitempty"`
	Name    string     `json:"name,omitempty"`
	JIT     string     `json:"jit,omitempty"`
}

// Validate demands exactly the parts of the kind.
func (c Credential) Validate() error {
	jit := c.Runner > 0 && c.Name != "" && !c.JIT.Empty()
	none := c.Runner == 0 && c.Name == "" && c.JIT.Empty()
	switch {
	case c.Token.Empty() != c.Expires.IsZero():
		return errors.New("credential: a token needs the time at which it ends")
	case c.Kind == KindToken && !c.Token.Empty() && none, c.Kind == KindJIT && jit:
		return nil
	}
	return fmt.Errorf("credential: not exactly the parts of kind %.20q", string(c.Kind))
}

// Plaintext encodes a valid credential for [Seal]. The caller overwrites the bytes when they are sealed.
func (c Credential) Plaintext() ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := sealed{CredentialSchema, c.Kind, c.Token.Reveal(), nil, c.Runner, c.Name, c.JIT.Reveal()}
	if !c.Expires.IsZero() {
		at := c.Expires.UTC().Truncate(time.Second)
		s.Expires = &at
	}
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
	c := Credential{Kind: s.Kind, Runner: s.Runner, Name: s.Name}
	if s.Token != "" {
		c.Token = secret.New(s.Token)
	}
	if s.JIT != "" {
		c.JIT = secret.New(s.JIT)
	}
	if s.Expires != nil {
		c.Expires = *s.Expires
	}
	if c.Validate() != nil {
		return Credential{}, badCredential()
	}
	return c, nil
}

func badCredential() error {
	return &refusal.Refusal{
		Link: link, Code: refusal.Malformed, Want: "a credential of schema " + CredentialSchema, Got: "something else",
		Next: "run a dispatcher of the version that this image was made for",
	}
}
