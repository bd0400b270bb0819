// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kettle/attest/internal/secret"
)

// operatorKey makes a private key and its PEM forms.
func operatorKey(t testing.TB, curve elliptic.Curve) (private, public string) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(&priv.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return pemText("PRIVATE KEY", der), pemText("PUBLIC KEY", pub)
}

func pemText(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestOperatorKey(t *testing.T) {
	t.Parallel()
	private, public := operatorKey(t, elliptic.P256())
	key, err := LoadKey(secret.New("made by hand\n" + private + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	spki, err := LoadPublicKey([]byte(public))
	if err != nil || !bytes.Equal(spki, key.SPKI()) {
		t.Fatalf("public half: %v", err)
	}
	line, err := Sign(t.Context(), key, []byte(payloadText))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := b.Verify(spki); err != nil || string(got) != payloadText {
		t.Errorf("verify: %q, %v", got, err)
	}
}

func TestOperatorKeyRefuses(t *testing.T) {
	t.Parallel()
	private, public := operatorKey(t, elliptic.P256())
	p384, p384Public := operatorKey(t, elliptic.P384())
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edDER, err := x509.MarshalPKCS8PrivateKey(ed)
	if err != nil {
		t.Fatal(err)
	}
	encrypted := strings.Replace(private, "KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\n\n", 1)
	for name, tc := range map[string]struct {
		private string
		want    error // nil: any
	}{
		"empty": {"", ErrNoKey}, "no block": {"hush", ErrNoKey}, "two": {private + private, ErrNoKey}, "trailing": {private + "x", ErrNoKey},
		"too long": {strings.Repeat("\n", maxPEM) + private, ErrNoKey}, "public": {public, ErrKeyBlock}, "encrypted": {encrypted, ErrKeyBlock},
		"SEC 1": {strings.ReplaceAll(private, "PRIVATE", "EC PRIVATE"), ErrKeyBlock}, "P-384": {p384, ErrKeyKind},
		"Ed25519": {pemText("PRIVATE KEY", edDER), ErrKeyKind}, "garbage": {pemText("PRIVATE KEY", []byte("hush")), nil},
	} {
		key, err := LoadKey(secret.New(tc.private))
		if err == nil || key != nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(fmt.Sprint(err), "hush") {
			t.Errorf("%s: the error quotes the key: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"private": private, "empty": "", "two": public + public, "P-384": p384Public, "garbage": pemText("PUBLIC KEY", []byte("x")),
	} {
		if spki, err := LoadPublicKey([]byte(text)); err == nil || spki != nil {
			t.Errorf("public, %s: accepted", name)
		}
	}
}
