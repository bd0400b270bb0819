// SPDX-License-Identifier: Apache-2.0

package nitro_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/nitro"
	"github.com/kettle/attest/attest/nitro/nitrotest"
	"github.com/kettle/attest/attest/refusal"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	described := p.NewDocument().
		With("public_key", nitrotest.Bytes([]byte("key"))).
		With("user_data", nitrotest.Bytes(nil)).
		With("nonce", nitrotest.Bytes(bytes.Repeat([]byte{7}, 512)))
	doc := p.Sign(described.Payload())
	d := good(t, p, doc)
	if d.TPM() || d.Platform() != nitro.PlatformSim || d.Root() != p.roots[0] || d.Root().AWS() {
		t.Errorf("tpm %v, platform %s, root %x", d.TPM(), d.Platform(), d.Root().Fingerprint())
	}
	if d.ModuleID() != nitrotest.ModuleID || !d.Timestamp().Equal(p.Day()) || d.Timestamp().Location() != time.UTC {
		t.Errorf("module %s at %s", d.ModuleID(), d.Timestamp())
	}
	if from, to := d.Validity(); !from.Equal(p.At) || !to.Equal(p.At.Add(3*time.Hour)) {
		t.Errorf("valid from %s to %s", from, to)
	}
	if string(d.PublicKey()) != "key" || d.UserData() == nil || len(d.UserData()) != 0 || len(d.Nonce()) != 512 {
		t.Errorf("public key %q, user data %v, nonce of %d bytes", d.PublicKey(), d.UserData(), len(d.Nonce()))
	}
	if got := d.Selected(); !slices.Equal(got, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}) {
		t.Errorf("selected %v", got)
	}
	if pcr, ok := d.PCR(2); !ok || pcr != nitrotest.PCR(2) {
		t.Errorf("register 2: %v %x", ok, pcr)
	}
	for _, i := range []int{-1, 16, 31, 32, 1 << 40} {
		if pcr, ok := d.PCR(i); ok || pcr != [nitro.PCRSize]byte{} {
			t.Errorf("register %d: %x", i, pcr)
		}
	}

	d.Nonce()[0], d.PublicKey()[0] = 0, 0
	clear(doc)
	if d.Nonce()[0] != 7 || string(d.PublicKey()) != "key" {
		t.Error("a caller changed the document")
	}
}

// TestForms holds the forms in which AWS writes documents, all of which say the same.
func TestForms(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	plain := p.NewTPMDocument()
	short := plain.Without("public_key").Without("user_data").Without("nonce")
	for name, doc := range map[string]nitrotest.Item{
		"untagged":             p.Sign(plain.Payload()),
		"tagged":               nitrotest.Tagged(18, p.Sign(plain.Payload())),
		"of indefinite length": p.Sign(nitrotest.Open(plain.Payload())),
		"without optional":     p.Sign(short.Payload()),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := good(t, p, doc)
			if !d.TPM() || d.ModuleID() != nitrotest.TPMModuleID || len(d.Selected()) != 24 {
				t.Errorf("tpm %v, module %s, registers %v", d.TPM(), d.ModuleID(), d.Selected())
			}
			if d.PublicKey() != nil || d.UserData() != nil || d.Nonce() != nil {
				t.Error("data where none was given")
			}
		})
	}
}

// TestSizes holds what is at the edge of AWS's sizes.
func TestSizes(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	for name, d := range map[string]nitrotest.Document{
		"longest user data":  p.NewDocument().With("user_data", nitrotest.Bytes(make([]byte, 512))),
		"shortest key":       p.NewDocument().With("public_key", nitrotest.Bytes([]byte{1})),
		"longest key":        p.NewDocument().With("public_key", nitrotest.Bytes(make([]byte, 1024))),
		"empty nonce":        p.NewDocument().With("nonce", nitrotest.Bytes(nil)),
		"one register":       p.NewDocument().With("pcrs", nitrotest.Registers(1)),
		"every register":     p.NewDocument().With("pcrs", nitrotest.Registers(32, 31)),
		"first millisecond":  p.NewDocument().With("timestamp", nitrotest.Uint(1)),
		"last millisecond":   p.NewDocument().With("timestamp", nitrotest.Uint(253_402_300_799_999)),
		"longest module":     p.NewDocument().With("module_id", nitrotest.Text(strings.Repeat("i", 1024))),
		"fields in an order": slices.Concat(p.NewDocument()[4:], p.NewDocument()[:4]),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good(t, p, p.Sign(d.Payload()))
		})
	}
	d := good(t, p, p.Sign(p.NewDocument().With("pcrs", nitrotest.Registers(32, 31)).Payload()))
	if pcr, ok := d.PCR(31); !ok || pcr != nitrotest.PCR(31) {
		t.Errorf("register 31: %v %x", ok, pcr)
	}
}

func TestNothingGiven(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	doc := p.Sign(p.NewDocument().Payload())
	for _, c := range []struct {
		name  string
		doc   []byte
		roots []nitro.Root
		at    time.Time
		code  refusal.Code
	}{
		{"no document", nil, p.roots, p.Day(), refusal.Malformed},
		{"no roots", doc, nil, p.Day(), refusal.Chain},
		{"the zero root", doc, []nitro.Root{{}}, p.Day(), refusal.Chain},
		{"no time", doc, p.roots, time.Time{}, refusal.Missing},
		{"another root", doc, privateRoots(t, nitrotest.New(nitrotest.Config{Seed: "other"})), p.Day(), refusal.Chain},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d, err := nitro.Verify(c.doc, c.roots, c.at)
			if d != nil {
				t.Fatal("a document")
			}
			wantCodes(t, err, c.code)
		})
	}
	var none nitro.Document
	if none.Platform() != "" || none.Selected() != nil || none.Root().AWS() {
		t.Error("the zero document says something")
	}
	if from, to := none.Validity(); !from.IsZero() || !to.IsZero() {
		t.Error("the zero document is valid")
	}
}

// TestFaultsAreJoined shows that an expired document with a wrong signature is refused for both, the graver first.
func TestFaultsAreJoined(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	doc := p.SignAs(nitrotest.Instance, p.NewDocument().Payload(), []byte(nitrotest.Protected))
	_, err := nitro.Verify(doc, p.roots, p.At.Add(4*time.Hour))
	wantCodes(t, err, refusal.Signature, refusal.Expired)
}
