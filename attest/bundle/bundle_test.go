// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/refusal"
)

const payloadText = `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a","digest":{"sha256":"00"}}],"predicateType":"x","predicate":{}}`

func signed(t testing.TB) (*Key, []byte) {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	line, err := Sign(t.Context(), key, []byte(payloadText))
	if err != nil {
		t.Fatal(err)
	}
	return key, line
}

func TestSignVerify(t *testing.T) {
	t.Parallel()
	key, line := signed(t)
	if bytes.ContainsAny(line, "\n\r") || !Is(line) || Is([]byte(`{"__cmwc_t":"x"}`)) || Is([]byte("x")) {
		t.Errorf("line %s", line)
	}
	b, err := Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.Verify(key.SPKI())
	if err != nil || string(got) != payloadText {
		t.Fatalf("verify: %q, %v", got, err)
	}
	clear(got)
	clear(b.Payload())
	if string(b.Payload()) != payloadText {
		t.Error("the payload was changed from outside")
	}
	other, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if p, err := b.Verify(other.SPKI()); !errors.Is(err, refusal.ErrSignature) || p != nil {
		t.Errorf("another key: %v, want a signature refusal", err)
	}
}

func TestErase(t *testing.T) {
	t.Parallel()
	key, _ := signed(t)
	digest, spki := key.Digest(), key.SPKI()
	key.Erase()
	key.Erase()
	if line, err := Sign(t.Context(), key, []byte(payloadText)); !errors.Is(err, ErrErased) || line != nil {
		t.Errorf("erased key signed: %v", err)
	}
	if key.Digest() != digest || !bytes.Equal(key.SPKI(), spki) {
		t.Error("an erased key lost its name")
	}
}

// TestKeyPrints shows that no way of printing a key shows more than its digest.
func TestKeyPrints(t *testing.T) {
	t.Parallel()
	key, _ := signed(t)
	secret, err := key.priv.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).InfoContext(t.Context(), "made", "key", key)
	for _, text := range []string{fmt.Sprint(key), fmt.Sprintf("%v %+v %s", key, key, key), log.String()} {
		if !strings.Contains(text, key.Digest().String()) || strings.Contains(text, fmt.Sprintf("%x", secret)) ||
			strings.Contains(text, new(big.Int).SetBytes(secret).String()) {
			t.Errorf("prints as %s", text)
		}
	}
}

// edit changes a line as JSON.
func edit(t *testing.T, line []byte, change func(m map[string]any)) []byte {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(line, &m); err != nil {
		t.Fatal(err)
	}
	change(m)
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func envelope(m map[string]any) map[string]any { return m["dsseEnvelope"].(map[string]any) }

func firstSignature(m map[string]any) map[string]any {
	return envelope(m)["signatures"].([]any)[0].(map[string]any)
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	_, line := signed(t)
	for name, change := range map[string]func(map[string]any){
		"media type":       func(m map[string]any) { m["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2" },
		"other media type": func(m map[string]any) { m["mediaType"] = "application/json" },
		"no media type":    func(m map[string]any) { delete(m, "mediaType") },
		"payload type":     func(m map[string]any) { envelope(m)["payloadType"] = "application/json" },
		"two signatures": func(m map[string]any) {
			s := envelope(m)
			s["signatures"] = append(s["signatures"].([]any), firstSignature(m))
		},
		"no signature": func(m map[string]any) { envelope(m)["signatures"] = []any{} },
		"no envelope":  func(m map[string]any) { delete(m, "dsseEnvelope") },
		"message signature": func(m map[string]any) {
			delete(m, "dsseEnvelope")
			m["messageSignature"] = map[string]any{"signature": "YQ=="}
		},
		"no material": func(m map[string]any) { delete(m, "verificationMaterial") },
		"no hint":     func(m map[string]any) { m["verificationMaterial"] = map[string]any{"publicKey": map[string]any{}} },
		"certificate": func(m map[string]any) {
			m["verificationMaterial"] = map[string]any{"certificate": map[string]any{"rawBytes": "MAA="}}
		},
		"unknown key": func(m map[string]any) { m["other"] = 1 },
	} {
		if b, err := Parse(edit(t, line, change)); !errors.Is(err, refusal.ErrMalformed) || b != nil {
			t.Errorf("%s: %v, %v", name, b, err)
		}
	}
	for name, bad := range map[string][]byte{
		"empty": nil, "cut": line[:len(line)-2], "array": []byte("[]"), "trailing": append(bytes.Clone(line), "{}"...),
		"too long":    bytes.Repeat([]byte(" "), MaxLine+1),
		"key twice":   bytes.Replace(line, []byte(`"mediaType"`), []byte(`"mediaType":"x","mediaType"`), 1),
		"bad payload": bytes.Replace(line, []byte(`"payload":"`), []byte(`"payload":"*`), 1),
	} {
		if b, err := Parse(bad); !errors.Is(err, refusal.ErrMalformed) || b != nil {
			t.Errorf("%s: %v, %v", name, b, err)
		}
	}
}

// TestVerifyRefuses changes what the signature covers, and the signature.
func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	key, line := signed(t)
	for name, change := range map[string]func(map[string]any){
		"payload": func(m map[string]any) {
			envelope(m)["payload"] = base64.StdEncoding.EncodeToString([]byte(strings.Replace(payloadText, `"a"`, `"b"`, 1)))
		},
		"white space in the payload": func(m map[string]any) {
			envelope(m)["payload"] = base64.StdEncoding.EncodeToString([]byte(payloadText + " "))
		},
		"signature": func(m map[string]any) {
			raw, _ := base64.StdEncoding.DecodeString(firstSignature(m)["sig"].(string))
			raw[len(raw)-1] ^= 1
			firstSignature(m)["sig"] = base64.StdEncoding.EncodeToString(raw)
		},
		"empty signature": func(m map[string]any) { firstSignature(m)["sig"] = "" },
	} {
		b, err := Parse(edit(t, line, change))
		if err != nil {
			if !errors.Is(err, refusal.ErrNotVerified) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if p, err := b.Verify(key.SPKI()); !errors.Is(err, refusal.ErrSignature) || p != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The hint chooses nothing: which key it must be comes from the caller.
	b, err := Parse(edit(t, line, func(m map[string]any) {
		m["verificationMaterial"].(map[string]any)["publicKey"] = map[string]any{"hint": "another"}
	}))
	if err == nil {
		_, err = b.Verify(key.SPKI())
	}
	if err != nil {
		t.Errorf("another hint: %v", err)
	}
}

// TestVerifyRefusesKeys tries keys that are not a canonical P-256 key.
func TestVerifyRefusesKeys(t *testing.T) {
	t.Parallel()
	key, line := signed(t)
	b, err := Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	spki := func(pub any, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	edPub, _, edErr := ed25519.GenerateKey(rand.Reader)
	rsaKey, rsaErr := rsa.GenerateKey(rand.Reader, 2048)
	for name, der := range map[string][]byte{
		"empty": nil, "garbage": []byte("x"), "P-384": spki(&p384.PublicKey, err), "Ed25519": spki(edPub, edErr),
		"RSA": spki(&rsaKey.PublicKey, rsaErr), "trailing": append(key.SPKI(), 0), "cut": key.SPKI()[:80],
	} {
		if p, err := b.Verify(der); !errors.Is(err, refusal.ErrMalformed) || p != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	key, line := signed(f)
	f.Add(line)
	f.Add([]byte(`{"mediaType":"` + MediaType + `"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		Is(b)
		parsed, err := Parse(b)
		if (parsed == nil) == (err == nil) {
			t.Fatal("a bundle and an error, or neither")
		}
		if err != nil {
			return
		}
		if got, err := parsed.Verify(key.SPKI()); err == nil && string(got) != payloadText {
			t.Fatalf("verified %q, which nobody signed", got)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	key, _ := signed(b)
	for b.Loop() {
		if _, err := Sign(b.Context(), key, []byte(payloadText)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	key, line := signed(b)
	for b.Loop() {
		parsed, err := Parse(line)
		if err == nil {
			_, err = parsed.Verify(key.SPKI())
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
