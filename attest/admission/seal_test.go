// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/secret"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	must(t, err)
	return b
}

// TestRFC9180 opens the first message of appendix A.2.1 of RFC 9180: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
// ChaCha20Poly1305 in base mode. A change of the suite fails it; such a change is version 2.
func TestRFC9180(t *testing.T) {
	t.Parallel()
	key, err := keyOf(unhex(t, "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb"))
	must(t, err)
	if got, want := hex.EncodeToString(key.Public()), "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a"; got != want {
		t.Fatalf("public key %s, want %s", got, want)
	}
	private, err := key.private()
	must(t, err)
	if kem, kdf, aead := private.KEM().ID(), kdf().ID(), aead().ID(); kem != 0x20 || kdf != 1 || aead != 3 {
		t.Fatalf("suite %#x %#x %#x", kem, kdf, aead)
	}
	plaintext, err := open(private, Sealed{
		Encapsulated: unhex(t, "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a"),
		Ciphertext:   unhex(t, "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"),
	}, []byte("Ode on a Grecian Urn"), []byte("Count-0"))
	must(t, err)
	if want := "Beauty is truth, truth beauty"; string(plaintext) != want {
		t.Fatalf("%q, want %q", plaintext, want)
	}
}

// terms are what the golden seal was made for.
func terms(key *Key) Terms {
	return Terms{
		Nonce: binding.Sum([]byte("nonce")), EnvironmentKey: binding.Sum([]byte("environment")), HPKEKey: key.Digest(), Summary: binding.Sum([]byte("summary")),
	}
}

func testKey(t testing.TB) *Key {
	t.Helper()
	k, err := keyOf(bytes.Repeat([]byte{0x5a}, sizeKey))
	must(t, err)
	return k
}

// TestGolden holds the bytes that a seal binds and one seal. Never edit them: a change is version 2.
func TestGolden(t *testing.T) {
	t.Parallel()
	key := testKey(t)
	tm := terms(key)
	if got := hex.EncodeToString(tm.info()); got != goldenInfo {
		t.Errorf("info %s, want %s", got, goldenInfo)
	}
	if !bytes.Equal(tm.info()[len(domain):], bytes.Join([][]byte{tm.Nonce[:], tm.EnvironmentKey[:], tm.HPKEKey[:]}, nil)) || !bytes.Equal(tm.aad(), tm.Summary[:]) {
		t.Error("info or aad has other parts")
	}
	golden := Sealed{Encapsulated: unhex(t, goldenEncapsulated), Ciphertext: unhex(t, goldenCiphertext)}
	plaintext, err := key.Open(tm, golden)
	must(t, err)
	if string(plaintext) != "golden" {
		t.Errorf("%q", plaintext)
	}
}

func TestSeal(t *testing.T) {
	t.Parallel()
	key, err := NewKey()
	must(t, err)
	tm := terms(key)
	for _, size := range []int{1, 4096, sizeLimit} {
		sealed, err := Seal(key.Public(), tm, bytes.Repeat([]byte{7}, size))
		must(t, err)
		got, err := key.Open(tm, sealed)
		if err != nil || len(got) != size {
			t.Errorf("%d bytes: %d, %v", size, len(got), err)
		}
	}
	for _, size := range []int{0, sizeLimit + 1} {
		if _, err := Seal(key.Public(), tm, make([]byte, size)); err == nil {
			t.Errorf("sealed %d bytes", size)
		}
	}
	for name, public := range map[string][]byte{"short": key.Public()[:31], "none": nil, "of small order": make([]byte, sizeKey)} {
		bad := tm
		bad.HPKEKey = binding.Sum(public)
		if _, err := Seal(public, bad, []byte("x")); !errors.Is(err, refusal.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := tm
	other.HPKEKey[0] ^= 1
	if _, err := Seal(key.Public(), other, []byte("x")); err == nil {
		t.Error("sealed to a key that the terms do not name")
	}
}

// TestAttackOtherTerms opens a seal for other terms, with another key, and after a change. Nothing comes out.
func TestAttackOtherTerms(t *testing.T) {
	t.Parallel()
	key, err := NewKey()
	must(t, err)
	tm := terms(key)
	sealed, err := Seal(key.Public(), tm, []byte("credential"))
	must(t, err)
	change := func(f func(*Terms)) Terms { c := tm; f(&c); return c }
	for name, other := range map[string]Terms{
		"nonce": change(func(c *Terms) { c.Nonce[0] ^= 1 }), "environment": change(func(c *Terms) { c.EnvironmentKey[31] ^= 1 }),
		"summary": change(func(c *Terms) { c.Summary[15] ^= 1 }),
		"swapped": change(func(c *Terms) { c.Nonce, c.EnvironmentKey = c.EnvironmentKey, c.Nonce }),
	} {
		if got, err := key.Open(other, sealed); !errors.Is(err, refusal.ErrBinding) || got != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	thief, err := NewKey()
	must(t, err)
	if got, err := thief.Open(change(func(c *Terms) { c.HPKEKey = thief.Digest() }), sealed); !errors.Is(err, refusal.ErrBinding) || got != nil {
		t.Errorf("another key: %q, %v", got, err)
	}
	if _, err := thief.Open(tm, sealed); err == nil {
		t.Error("a key that the terms do not name")
	}
	for name, s := range map[string]Sealed{
		"changed ciphertext": {sealed.Encapsulated, flip(sealed.Ciphertext)}, "changed encapsulation": {flip(sealed.Encapsulated), sealed.Ciphertext},
		"short": {sealed.Encapsulated, sealed.Ciphertext[:8]}, "empty": {}, "huge": {sealed.Encapsulated, make([]byte, 1<<20)},
		"encapsulation of small order": {make([]byte, sizeKey), sealed.Ciphertext},
	} {
		if got, err := key.Open(tm, s); !errors.Is(err, refusal.ErrBinding) || got != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestIncompleteTerms: a field that was forgotten is no field that fits.
func TestIncompleteTerms(t *testing.T) {
	t.Parallel()
	key := testKey(t)
	sealed, err := Seal(key.Public(), terms(key), []byte("x"))
	must(t, err)
	for i := range 4 {
		tm := terms(key)
		*[]*binding.Digest{&tm.Nonce, &tm.EnvironmentKey, &tm.HPKEKey, &tm.Summary}[i] = binding.Digest{}
		if _, err := Seal(key.Public(), tm, []byte("x")); err == nil {
			t.Errorf("field %d: sealed", i)
		}
		if _, err := key.Open(tm, sealed); err == nil {
			t.Errorf("field %d: opened", i)
		}
	}
}

func flip(b []byte) []byte {
	c := bytes.Clone(b)
	c[len(c)/2] ^= 1
	return c
}

func TestErase(t *testing.T) {
	t.Parallel()
	key, err := NewKey()
	must(t, err)
	sealed, err := Seal(key.Public(), terms(key), []byte("x"))
	must(t, err)
	scalar := key.scalar
	key.Erase()
	key.Erase()
	if !bytes.Equal(scalar, make([]byte, sizeKey)) {
		t.Error("the scalar is still there")
	}
	if _, err := key.Open(terms(key), sealed); !errors.Is(err, ErrErased) {
		t.Error(err)
	}
	if len(key.Public()) != sizeKey {
		t.Error("its name is gone")
	}
}

// TestRedacted prints a key and a credential in every way.
func TestRedacted(t *testing.T) {
	t.Parallel()
	key := testKey(t)
	var b bytes.Buffer
	text, err := json.Marshal(key)
	must(t, err)
	b.Write(text)
	c := Credential{Token: secret.New("ghs_secret"), Expires: time.Unix(1, 0)}
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "key", key, "credential", c)
	fmt.Fprintf(&b, "%v %+v %#v %s %q", key, key, key, key, key)
	fmt.Fprintf(&b, "%v %+v %#v", c, c, c)
	for _, bad := range []string{"5a5a5a", "5A5A5A", "WlpaWl", "90 90 90", "ZZZZ", "ghs_secret"} {
		if strings.Contains(b.String(), bad) {
			t.Errorf("%q in %s", bad, b.String())
		}
	}
}

func TestCredential(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC)
	c := Credential{Token: secret.New("ghs_x"), Expires: at.Add(time.Millisecond)}
	text, err := c.Plaintext()
	must(t, err)
	if got := string(text); got != `{"schema":"kettle.credential/v1","token":"ghs_x","expires":"2026-11-21T13:00:00Z"}`+"\n" {
		t.Error(got)
	}
	got, err := ParseCredential(text)
	must(t, err)
	if got.Token.Reveal() != "ghs_x" || !got.Expires.Equal(at) {
		t.Errorf("%+v", got)
	}
	for name, c := range map[string]Credential{"nothing": {}, "no end": {Token: secret.New("x")}, "no token": {Expires: at}} {
		if _, err := c.Plaintext(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "other schema": `{"schema":"kettle.credential/v2","token":"s3cret","expires":"2026-11-21T13:00:00Z"}`,
		"unknown key": `{"schema":"kettle.credential/v1","token":"s3cret","expires":"2026-11-21T13:00:00Z","more":1}`,
		"a runner":    `{"schema":"kettle.credential/v1","token":"s3cret","expires":"2026-11-21T13:00:00Z","runner":7,"jit":"e30="}`,
		"twice":       `{"schema":"kettle.credential/v1","token":"s3cret","token":"y","expires":"2026-11-21T13:00:00Z"}`,
		"no end":      `{"schema":"kettle.credential/v1","token":"s3cret"}`,
		"null end":    `{"schema":"kettle.credential/v1","token":"s3cret","expires":null}`,
		"no token":    `{"schema":"kettle.credential/v1","expires":"2026-11-21T13:00:00Z"}`,
	} {
		_, err := ParseCredential([]byte(text))
		if !errors.Is(err, refusal.ErrMalformed) || strings.Contains(fmt.Sprintf("%+v", err), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	key, err := NewKey()
	must(b, err)
	tm, plaintext := terms(key), bytes.Repeat([]byte{7}, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Seal(key.Public(), tm, plaintext); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	key, err := NewKey()
	must(b, err)
	tm := terms(key)
	sealed, err := Seal(key.Public(), tm, bytes.Repeat([]byte{7}, 4096))
	must(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := key.Open(tm, sealed); err != nil {
			b.Fatal(err)
		}
	}
}
