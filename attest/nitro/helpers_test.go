// SPDX-License-Identifier: Apache-2.0

package nitro_test

import (
	"testing"

	"github.com/kettle/attest/attest/nitro"
	"github.com/kettle/attest/attest/nitro/nitrotest"
	"github.com/kettle/attest/attest/refusal"
)

func awsRoots(t testing.TB) []nitro.Root {
	t.Helper()
	roots, err := nitro.AWSRoots()
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

func privateRoots(t testing.TB, p *nitrotest.PKI) []nitro.Root {
	t.Helper()
	roots, err := nitro.ParseRoots(p.PEM(nitrotest.Root))
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

// scene is a PKI and its root.
type scene struct {
	*nitrotest.PKI
	roots []nitro.Root
}

func newScene(t testing.TB, c nitrotest.Config) *scene {
	t.Helper()
	p := nitrotest.New(c)
	return &scene{PKI: p, roots: privateRoots(t, p)}
}

// verify judges a document under the private root, and demands either a document or a refusal.
func verify(t testing.TB, p *scene, doc []byte) (*nitro.Document, error) {
	t.Helper()
	d, err := nitro.Verify(doc, p.roots, p.Day())
	if (d == nil) == (err == nil) {
		t.Fatalf("a document and a refusal, or neither: %v", err)
	}
	return d, err
}

// good demands that the document is genuine.
func good(t testing.TB, p *scene, doc []byte) *nitro.Document {
	t.Helper()
	d, err := verify(t, p, doc)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// wantCodes demands refusals of exactly these codes, in this order.
func wantCodes(t testing.TB, err error, codes ...refusal.Code) {
	t.Helper()
	all := refusal.All(err)
	if len(all) != len(codes) {
		t.Fatalf("%d refusals, want %v: %v", len(all), codes, err)
	}
	for i, r := range all {
		if r.Code != codes[i] || r.Want == "" || r.Link == "" || r.Next == "" {
			t.Fatalf("refusal %d, want %s: %v", i, codes[i], r)
		}
	}
}
