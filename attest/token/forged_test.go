// SPDX-License-Identifier: Apache-2.0

package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/kettle/attest/attest/refusal"
)

// TestAttackForgedToken hands in tokens that GitHub did not sign.
func TestAttackForgedToken(t *testing.T) {
	t.Parallel()
	good := sign(t, testKey(), jose.RS256, "k1", payload())
	parts := strings.Split(good, ".")
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"k1"}`)) + "." + parts[1] + "."
	twice := sign(t, testKey(), jose.RS256, "k1", []byte(`{"iss":"a","iss":"b"}`))
	tests := map[string]struct {
		raw  string
		want error
	}{
		"another key":   {sign(t, other, jose.RS256, "k1", payload()), refusal.ErrSignature},
		"unknown key":   {sign(t, testKey(), jose.RS256, "k2", payload()), refusal.ErrChain},
		"no key id":     {sign(t, testKey(), jose.RS256, "", payload()), refusal.ErrChain},
		"RS384":         {sign(t, testKey(), jose.RS384, "k1", payload()), refusal.ErrMalformed},
		"ES256":         {sign(t, ec, jose.ES256, "k1", payload()), refusal.ErrMalformed},
		"HMAC with key": {sign(t, jwks(&testKey().PublicKey, "k1"), jose.HS256, "k1", payload()), refusal.ErrMalformed},
		"none":          {none, refusal.ErrMalformed},
		"None":          {encoded(`{"alg":"None","kid":"k1"}`) + "." + parts[1] + ".", refusal.ErrMalformed},
		"no algorithm":  {encoded(`{"kid":"k1"}`) + "." + parts[1] + "." + parts[2], refusal.ErrMalformed},
		"PS256":         {sign(t, testKey(), jose.PS256, "k1", payload()), refusal.ErrMalformed},
		"HMAC with PEM": {sign(t, publicPEM(t), jose.HS256, "k1", payload()), refusal.ErrMalformed},
		"key inside":    {signInside(t, other, "k1"), refusal.ErrSignature},
		"key inside, 2": {signInside(t, other, ""), refusal.ErrChain},
		"crit":          {encoded(`{"alg":"RS256","kid":"k1","crit":["x"],"x":1}`) + "." + parts[1] + "." + parts[2], refusal.ErrNotVerified},
		"JSON form":     {`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, refusal.ErrMalformed},
		"line inside":   {parts[0] + "." + parts[1] + "\n." + parts[2], refusal.ErrMalformed},
		"line behind":   {good + "\n", refusal.ErrMalformed},
		"payload":       {parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{}`)) + "." + parts[2], refusal.ErrSignature},
		"cut":           {parts[0] + "." + parts[1], refusal.ErrMalformed},
		"empty":         {"", refusal.ErrMalformed},
		"too long":      {good + strings.Repeat("A", MaxToken), refusal.ErrMalformed},
		"claim twice":   {twice, refusal.ErrMalformed},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Verify(tc.raw, keys(t), want(), at); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
	if _, err := Verify(good, nil, want(), at); !errors.Is(err, refusal.ErrMissing) {
		t.Errorf("no keys: %v", err)
	}
}

func encoded(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// publicPEM is the issuer's public key as a file has it, for use as a secret.
func publicPEM(t *testing.T) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&testKey().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// signInside makes a token that carries the key it is signed with.
func signInside(t *testing.T, key *rsa.PrivateKey, id string) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, (&jose.SignerOptions{EmbedJWK: true}).WithHeader("kid", id))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(payload())
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(raw)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}
