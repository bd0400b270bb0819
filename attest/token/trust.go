// SPDX-License-Identifier: Apache-2.0

package token

import (
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/strict"
)

// Schema names the shape of a trust file.
const Schema = "kettle.trust/v1"

// Limits on what is trusted.
const (
	MaxTrust   = 1 << 20 // bytes of a trust file or a key set
	maxIssuers = 64
	maxKeys    = 64
)

// ErrInvalidTrust is matched by every error of [ParseTrust] and [ParseKeys]: the file is wrong, nothing was judged.
var ErrInvalidTrust = errors.New("trust file is not valid")

// Trust is the verifier's own, dated copy of the keys that token issuers sign with. It is immutable.
type Trust struct {
	asOf    time.Time
	issuers []issuer
}

type issuer struct {
	name, server string
	from, until  time.Time
	keys         *Keys
}

type trustJSON struct {
	Schema  string       `json:"schema"`
	AsOf    time.Time    `json:"asOf"`
	Issuers []issuerJSON `json:"issuers"`
}

// issuerJSON is one issuer and the keys it had in a span of time. Server is the GitHub whose jobs it speaks for: an
// issuer of one server says nothing about the repositories of another, though their ids may be equal.
type issuerJSON struct {
	Issuer string          `json:"issuer"`
	Server string          `json:"server"`
	From   time.Time       `json:"from"`
	Until  time.Time       `json:"until"`
	JWKS   json.RawMessage `json:"jwks"`
}

// ParseTrust reads a trust file:
//
//	{"schema":"kettle.trust/v1","asOf":"2026-11-21T00:00:00Z","issuers":[{
//	  "issuer":"https://token.actions.githubusercontent.com","server":"https://github.com",
//	  "from":"2026-01-01T00:00:00Z","until":"2027-01-01T00:00:00Z","jwks":{"keys":[…]}}]}
//
// Every field is required; unknown and repeated keys are errors. Errors match [ErrInvalidTrust].
func ParseTrust(b []byte) (*Trust, error) {
	var f trustJSON
	if err := decode(b, &f); err != nil {
		return nil, err
	}
	if f.Schema != Schema {
		return nil, invalid("schema: want %q, got %q", Schema, clip(f.Schema))
	}
	if f.AsOf.IsZero() {
		return nil, invalid("asOf is missing: write the day on which the keys were taken from GitHub")
	}
	if len(f.Issuers) == 0 || len(f.Issuers) > maxIssuers {
		return nil, invalid("issuers: want 1 to %d, got %d", maxIssuers, len(f.Issuers))
	}
	t := &Trust{asOf: f.AsOf}
	for n, i := range f.Issuers {
		one, err := i.read()
		if err != nil {
			return nil, fmt.Errorf("issuers[%d]: %w", n, err)
		}
		t.issuers = append(t.issuers, one)
	}
	return t, nil
}

func (i issuerJSON) read() (issuer, error) {
	for name, v := range map[string]string{"issuer": i.Issuer, "server": i.Server} {
		u, err := url.Parse(v)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(v, "/") {
			return issuer{}, invalid("%s: want an https URL without a final slash, got %q", name, clip(v))
		}
	}
	if i.From.IsZero() || !i.Until.After(i.From) {
		return issuer{}, invalid("from and until: want the span of time in which the keys were the issuer's")
	}
	keys, err := ParseKeys(i.JWKS)
	if err != nil {
		return issuer{}, err
	}
	return issuer{name: i.Issuer, server: i.Server, from: i.From, until: i.Until, keys: keys}, nil
}

// AsOf gives the day on which the keys were taken from their issuers.
func (t *Trust) AsOf() time.Time { return t.asOf }

// Verify checks a token with the keys of an issuer that speaks for the server in want.Facts. want.Issuer may be empty:
// then any such issuer is accepted, and the claims say which it was.
func (t *Trust) Verify(raw string, want Want, at time.Time) (Claims, error) {
	if t == nil {
		return Claims{}, refuse(refusal.Missing, "the verifier's own keys of the token's issuer", "no trust file",
			"name one with --trusted-root")
	}
	var last error
	for _, i := range t.issuers {
		if i.server != want.Facts.Server || want.Issuer != "" && want.Issuer != i.name || at.Before(i.from) || !at.Before(i.until) {
			continue
		}
		w := want
		w.Issuer = i.name
		c, err := Verify(raw, i.keys, w, at)
		if err == nil {
			return c, nil
		}
		last = nearer(last, err)
	}
	if last == nil {
		last = refuse(refusal.Missing, "an issuer in the trust file for "+clip(want.Facts.Server)+" at "+at.UTC().Format(time.RFC3339),
			"none", "add the issuer's keys of that time; take them from GitHub and not from the evidence")
	}
	return Claims{}, last
}

// nearer keeps the more telling of two refusals: a key that is not an issuer's says less than a claim that differs.
func nearer(old, err error) error {
	if old == nil || errors.Is(old, refusal.ErrChain) {
		return err
	}
	return old
}

// ParseKeys reads a JSON Web Key Set (RFC 7517). Only RSA keys for RS256 count, each with an id of its own and at least
// 2048 bits; private keys and keys for encryption are errors.
func ParseKeys(jwks []byte) (*Keys, error) {
	if len(jwks) > MaxTrust {
		return nil, invalid("a key set of %d bytes, at most %d are read", len(jwks), MaxTrust)
	}
	if err := strict.Unique(jwks); err != nil {
		return nil, invalid("jwks: %w", err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(jwks, &set); err != nil {
		return nil, invalid("jwks: %w", err)
	}
	if len(set.Keys) == 0 || len(set.Keys) > maxKeys {
		return nil, invalid("jwks: want 1 to %d keys, got %d", maxKeys, len(set.Keys))
	}
	k := &Keys{byID: make(map[string]*rsa.PublicKey, len(set.Keys))}
	for n, one := range set.Keys {
		pub, ok := one.Key.(*rsa.PublicKey)
		switch {
		case !ok || pub.N.BitLen() < minRSABits:
			return nil, invalid("jwks.keys[%d]: want an RSA public key of at least %d bits", n, minRSABits)
		case one.KeyID == "" || k.byID[one.KeyID] != nil:
			return nil, invalid("jwks.keys[%d]: want an id of its own, got %q", n, clip(one.KeyID))
		case one.Use != "" && one.Use != "sig", one.Algorithm != "" && one.Algorithm != string(jose.RS256):
			return nil, invalid("jwks.keys[%d]: want a key for signatures with RS256", n)
		}
		k.byID[one.KeyID] = pub
	}
	return k, nil
}

// decode reads one JSON value of a closed shape.
func decode(b []byte, v any) error {
	if len(b) > MaxTrust {
		return invalid("%d bytes, at most %d are read", len(b), MaxTrust)
	}
	if err := strict.Decode(b, v); err != nil {
		return invalid("%w", err)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalidTrust, fmt.Errorf(format, args...))
}
