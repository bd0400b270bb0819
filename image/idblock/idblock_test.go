// SPDX-License-Identifier: Apache-2.0

package idblock_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"math/big"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/snp/snptest"
	"github.com/kettle/attest/image/idblock"
)

const policy snp.Policy = 0x30000

// key gives the key with a private number, so that golden bytes hold.
func key(t testing.TB, d byte) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), append(make([]byte, 47), d))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func block() idblock.Block {
	b := idblock.Block{GuestSVN: 7, Policy: policy}
	for i := range b.LaunchDigest {
		b.LaunchDigest[i] = byte(i) //nolint:gosec // 48 of them.
	}
	copy(b.FamilyID[:], "kettle")
	copy(b.ImageID[:], "strict")
	return b
}

func sign(t testing.TB, b idblock.Block, id, author crypto.Signer) *idblock.Signed {
	t.Helper()
	s, err := idblock.Sign(b, id, author)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestGolden must never be edited: blocks out there are these bytes.
func TestGolden(t *testing.T) {
	t.Parallel()
	s := sign(t, block(), key(t, 1), key(t, 2))
	const want = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f" +
		"6b6574746c6500000000000000000000" + "73747269637400000000000000000000" + "01000000" + "07000000" + "0000030000000000"
	if got := hex.EncodeToString(s.Block[:]); got != want {
		t.Errorf("the block: want\n%s\ngot\n%s", want, got)
	}
	sum := sha256.Sum256(s.Auth[:])
	if got := hex.EncodeToString(sum[:]); got != "01b9015f5b3d4c124c5bb1dce3f183883233f83b6e63538bfb6c357e14ead262" {
		t.Errorf("the authentication information's digest is %s", got)
	}
	sum = sha256.Sum256([]byte(s.QEMU()))
	if got := hex.EncodeToString(sum[:]); got != "d7b5b204a2bb38d8db1d63d01f8dc2f2c1af7030ece0b3b9f21e97183218bd6a" {
		t.Errorf("QEMU's form has digest %s", got)
	}
}

// field cuts n bytes at an offset out of b and reads them as a number, least significant byte first: the tables of the ABI.
func field(b []byte, at, n int) *big.Int {
	v := new(big.Int)
	for i := n - 1; i >= 0; i-- {
		v.Lsh(v, 8).Or(v, big.NewInt(int64(b[at+i])))
	}
	return v
}

// specVerify reads a block as the ABI's tables have it, with nothing of the package under test: the curve's equation and the
// signature are calculated with big numbers.
func specVerify(t *testing.T, b, auth []byte, author bool) {
	t.Helper()
	curve := elliptic.P384().Params()
	check := func(what string, message []byte, keyAt, signatureAt int) {
		if field(auth, keyAt, 4).Int64() != 2 {
			t.Errorf("%s: the curve is not P-384", what)
		}
		x, y := field(auth, keyAt+4, 72), field(auth, keyAt+0x4c, 72)
		left := new(big.Int).Exp(y, big.NewInt(2), curve.P)
		right := new(big.Int).Exp(x, big.NewInt(3), curve.P)
		right.Sub(right, new(big.Int).Mul(big.NewInt(3), x)).Add(right, curve.B).Mod(right, curve.P)
		if left.Cmp(right) != 0 {
			t.Errorf("%s: the key is not on the curve", what)
		}
		r, s := field(auth, signatureAt, 72), field(auth, signatureAt+0x48, 72)
		digest := sha512.Sum384(message)
		public := &ecdsa.PublicKey{Curve: elliptic.P384(), X: x, Y: y} //nolint:staticcheck // the test's own way, on purpose.
		if !ecdsa.Verify(public, digest[:], r, s) {
			t.Errorf("%s: the signature does not hold", what)
		}
	}
	if field(auth, 0, 4).Int64() != 1 {
		t.Error("ID_KEY_ALGO is not 1")
	}
	check("ID_BLOCK_SIG", b, 0x240, 0x40)
	if author {
		if field(auth, 4, 4).Int64() != 1 {
			t.Error("AUTHOR_KEY_ALGO is not 1")
		}
		check("ID_KEY_SIG", auth[0x240:0x644], 0x880, 0x680)
	}
	for _, r := range [][2]int{{0x8, 0x40}, {0xd0, 0x240}, {0x2d4, 0x680}, {0x710, 0x880}, {0x914, 0x1000}} {
		if bytes.ContainsFunc(auth[r[0]:r[1]], func(c rune) bool { return c != 0 }) {
			t.Errorf("bytes %#x to %#x are not zero", r[0], r[1])
		}
	}
}

func TestSpecification(t *testing.T) {
	t.Parallel()
	for range 8 { // keys and signatures with leading zeros come up by chance
		id, author := snptest.ECDSAKey(elliptic.P384()), snptest.ECDSAKey(elliptic.P384())
		s := sign(t, block(), id, author)
		specVerify(t, s.Block[:], s.Auth[:], true)
		s = sign(t, block(), id, nil)
		specVerify(t, s.Block[:], s.Auth[:], false)
	}
}

// TestReport: a report carries the digests that are calculated here.
func TestReport(t *testing.T) {
	t.Parallel()
	id, author := key(t, 1), key(t, 2)
	s := sign(t, block(), id, author)
	identity, err := idblock.Verify(s)
	if err != nil {
		t.Fatal(err)
	}
	// The firmware hashes the keys as they were handed to it.
	m := snptest.New("Milan", "VCEK")
	idDigest, authorDigest := sha512.Sum384(s.Auth[0x240:0x644]), sha512.Sum384(s.Auth[0x880:0xc84])
	copy(m.Report[0x0e0:], idDigest[:])
	copy(m.Report[0x110:], authorDigest[:])
	m.Report[0x048] |= 1 // AUTHOR_KEY_EN
	report, err := m.Verify(t)
	if err != nil {
		t.Fatal(err)
	}
	if report.IDKeyDigest() != identity.IDKeyDigest {
		t.Error("ID_KEY_DIGEST differs")
	}
	if d, ok := report.AuthorKeyDigest(); !ok || d != identity.AuthorKeyDigest {
		t.Error("AUTHOR_KEY_DIGEST differs")
	}
	for k, want := range map[*ecdsa.PrivateKey][48]byte{id: identity.IDKeyDigest, author: identity.AuthorKeyDigest} {
		if got, err := idblock.KeyDigest(&k.PublicKey); err != nil || got != want {
			t.Errorf("KeyDigest: %x, %v", got, err)
		}
	}
	if identity.Block != block() {
		t.Errorf("the block is %+v", identity.Block)
	}
}

func TestReproducible(t *testing.T) {
	t.Parallel()
	first, second := sign(t, block(), key(t, 1), key(t, 2)), sign(t, block(), key(t, 1), key(t, 2))
	if *first != *second {
		t.Error("the same block and keys gave other bytes")
	}
}

func TestQEMU(t *testing.T) {
	t.Parallel()
	for _, author := range []crypto.Signer{nil, key(t, 2)} {
		s := sign(t, block(), key(t, 1), author)
		words := strings.Split(s.QEMU(), ",")
		if (len(words) == 3) != (author != nil) || (author != nil && words[2] != "author-key-enabled=on") {
			t.Fatalf("got %d words", len(words))
		}
		b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(words[0], "id-block="))
		a, err2 := base64.StdEncoding.DecodeString(strings.TrimPrefix(words[1], "id-auth="))
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		if again, err := idblock.Read(b, a); err != nil || *again != *s {
			t.Errorf("it reads back otherwise: %v", err)
		}
	}
}

// device is a signer that is no key in memory.
type device struct {
	crypto.Signer
	der []byte
}

func (d device) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if d.der != nil {
		return d.der, nil
	}
	return d.Signer.Sign(r, digest, o) //nolint:wrapcheck // a double.
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	good := key(t, 1)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := idblock.Sign(block(), device{Signer: good}, device{Signer: good}); err != nil {
		t.Errorf("a device: %v", err)
	}
	for name, test := range map[string]struct{ id, author crypto.Signer }{
		"no key":                {nil, nil},
		"RSA":                   {rsaKey, nil},
		"P-256":                 {p256, nil},
		"an author on P-256":    {good, p256},
		"no signature":          {device{good, []byte("signature")}, nil},
		"a wrong signature":     {device{good, []byte{0x30, 6, 2, 1, 1, 2, 1, 1}}, nil},
		"a negative number":     {device{good, []byte{0x30, 6, 2, 1, 0xff, 2, 1, 1}}, nil},
		"bytes behind":          {device{good, []byte{0x30, 6, 2, 1, 1, 2, 1, 1, 0}}, nil},
		"an author's wrong one": {good, device{good, []byte{0x30, 6, 2, 1, 1, 2, 1, 1}}},
	} {
		if s, err := idblock.Sign(block(), test.id, test.author); err == nil || s != nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := idblock.KeyDigest(&p256.PublicKey); err == nil {
		t.Error("the digest of a key on P-256: no error")
	}
	if _, err := idblock.KeyDigest(nil); err == nil {
		t.Error("the digest of no key: no error")
	}
}

// TestSignRefusesBlock: no such block is signed, nor verified.
func TestSignRefusesBlock(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*idblock.Block)
		code   refusal.Code
	}{
		"no digest":           {func(b *idblock.Block) { b.LaunchDigest = [48]byte{} }, refusal.Malformed},
		"no policy":           {func(b *idblock.Block) { b.Policy = 0 }, refusal.Malformed},
		"without bit 17":      {func(b *idblock.Block) { b.Policy = 1 << 16 }, refusal.Malformed},
		"bits of the future":  {func(b *idblock.Block) { b.Policy |= 1 << 26 }, refusal.Malformed},
		"debugging":           {func(b *idblock.Block) { b.Policy |= 1 << 19 }, refusal.Debug},
		"a migration agent":   {func(b *idblock.Block) { b.Policy |= 1 << 18 }, refusal.Policy},
		"the highest of bits": {func(b *idblock.Block) { b.Policy |= 1 << 63 }, refusal.Malformed},
	} {
		b := block()
		test.change(&b)
		s, err := idblock.Sign(b, key(t, 1), nil)
		var r *refusal.Refusal
		if !errors.As(err, &r) || r.Code != test.code || s != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAttackBlockChanged flips bytes of a signed block, one after the other: none passes.
func TestAttackBlockChanged(t *testing.T) {
	t.Parallel()
	good := sign(t, block(), key(t, 1), key(t, 2))
	for i := range good.Block {
		changed := *good
		changed.Block[i] ^= 0x10
		if id, err := idblock.Verify(&changed); !errors.Is(err, refusal.ErrNotVerified) || id != nil {
			t.Errorf("byte %d of the block: %v", i, err)
		}
	}
	alone := sign(t, block(), key(t, 1), nil)
	for i := 0; i < len(good.Auth); i += 5 {
		for name, s := range map[string]*idblock.Signed{"with an author": good, "without": alone} {
			changed := *s
			changed.Auth[i] ^= 0x10
			if id, err := idblock.Verify(&changed); !errors.Is(err, refusal.ErrNotVerified) || id != nil {
				t.Errorf("byte %#x, %s: %v", i, name, err)
			}
		}
	}
}

// TestAttackForgedBlock puts together what was never signed together.
func TestAttackForgedBlock(t *testing.T) {
	t.Parallel()
	other := block()
	other.LaunchDigest[0] ^= 1
	ours, theirs := sign(t, block(), key(t, 1), key(t, 2)), sign(t, other, key(t, 3), key(t, 4))
	ownKeys := sign(t, other, key(t, 1), key(t, 2))
	mixed := func(f func(s *idblock.Signed)) *idblock.Signed {
		s := *ours
		f(&s)
		return &s
	}
	for name, test := range map[string]struct {
		signed *idblock.Signed
		code   refusal.Code
	}{
		"nothing":                 {nil, refusal.Missing},
		"another block":           {mixed(func(s *idblock.Signed) { s.Block = theirs.Block }), refusal.Signature},
		"an older signature":      {mixed(func(s *idblock.Signed) { copy(s.Auth[0x40:0x240], ownKeys.Auth[0x40:0x240]) }), refusal.Signature},
		"another's identity key":  {mixed(func(s *idblock.Signed) { s.Block = theirs.Block; copy(s.Auth[:0x680], theirs.Auth[:0x680]) }), refusal.Signature},
		"another's author key":    {mixed(func(s *idblock.Signed) { copy(s.Auth[0x880:], theirs.Auth[0x880:]) }), refusal.Signature},
		"no author key":           {mixed(func(s *idblock.Signed) { clear(s.Auth[0x680:]) }), refusal.Malformed},
		"an author that is hid":   {mixed(func(s *idblock.Signed) { s.HasAuthor = false }), refusal.Malformed},
		"no algorithm":            {mixed(func(s *idblock.Signed) { s.Auth[0] = 0 }), refusal.Malformed},
		"an author's algorithm":   {mixed(func(s *idblock.Signed) { s.Auth[4] = 3 }), refusal.Malformed},
		"another curve":           {mixed(func(s *idblock.Signed) { s.Auth[0x240] = 1 }), refusal.Malformed},
		"a point off the curve":   {mixed(func(s *idblock.Signed) { s.Auth[0x244] ^= 1 }), refusal.Malformed},
		"the point at infinity":   {mixed(func(s *idblock.Signed) { clear(s.Auth[0x244:0x2d4]) }), refusal.Malformed},
		"a coordinate too large":  {mixed(func(s *idblock.Signed) { s.Auth[0x244+71] = 1 }), refusal.Malformed},
		"a signature of zeros":    {mixed(func(s *idblock.Signed) { clear(s.Auth[0x40:0xd0]) }), refusal.Signature},
		"a number past the order": {mixed(func(s *idblock.Signed) { s.Auth[0x40+71] = 1 }), refusal.Signature},
		"version 2":               {mixed(func(s *idblock.Signed) { s.Block[0x50] = 2 }), refusal.Malformed},
		"a debug policy":          {mixed(func(s *idblock.Signed) { s.Block[0x5a] |= 8 }), refusal.Debug},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id, err := idblock.Verify(test.signed)
			var r *refusal.Refusal
			if !errors.As(err, &r) || r.Code != test.code || r.Next == "" || id != nil {
				t.Errorf("want %s, got %v", test.code, err)
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	for _, sizes := range [][2]int{{0, 0}, {95, 4096}, {97, 4096}, {96, 4095}, {96, 4097}} {
		if s, err := idblock.Read(make([]byte, sizes[0]), make([]byte, sizes[1])); !errors.Is(err, refusal.ErrMalformed) || s != nil {
			t.Errorf("%v: %v", sizes, err)
		}
	}
}

// FuzzVerify: whatever passes reads back to the same bytes.
func FuzzVerify(f *testing.F) {
	s := sign(f, block(), key(f, 1), key(f, 2))
	f.Add(s.Block[:], s.Auth[:])
	s = sign(f, block(), key(f, 1), nil)
	f.Add(s.Block[:], s.Auth[:])
	f.Fuzz(func(t *testing.T, b, a []byte) {
		s, err := idblock.Read(b, a)
		if err != nil {
			return
		}
		id, err := idblock.Verify(s)
		if err != nil {
			if !errors.Is(err, refusal.ErrNotVerified) || id != nil {
				t.Errorf("no refusal: %v", err)
			}
			return
		}
		if id.Block.Bytes() != s.Block {
			t.Error("the block reads back otherwise")
		}
	})
}
