// SPDX-License-Identifier: Apache-2.0

package reference_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/reference"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/internal/fakesigstore"
)

// genuine signs an image with values for many shapes of machines at an instance of Sigstore, and gives the request that
// accepts it.
func genuine(t testing.TB, shapes int, change func(*fakesigstore.Identity)) (reference.Request, *fakesigstore.Instance) {
	t.Helper()
	i, err := fakesigstore.New(fakesigstore.Config{Now: func() time.Time { return signed }})
	if err != nil {
		t.Fatal(err)
	}
	id := fakesigstore.GitHub("acme/images", ".github/workflows/release.yml", "refs/tags/v1")
	id.RepositoryID, id.OwnerID = "7340312", "583231"
	id.JobWorkflowRef, id.JobWorkflowSHA = "kettle/attest/.github/workflows/image.yml@refs/tags/v1", hex("b2", 20)
	id.SHA, id.RunID = hex("a1", 20), "1"
	if change != nil {
		change(&id)
	}
	m := image(1)
	for n := range shapes {
		m.values.Values = append(m.values.Values, statement.ReferenceValue{
			Conditions: statement.Conditions{Platform: statement.ReferenceSNP, Boot: statement.BootDirect, VMM: "qemu", VCPUs: n + 1, VCPUType: "EPYC-Genoa", GuestFeatures: "0x1"},
			Name:       "launch digest", Key: statement.KeySNPMeasurement, Value: fmt.Sprintf("%096x", n+1),
		})
	}
	r := reference.Request{Policy: parsePolicy(t), At: now, Files: []binding.Digest{digest(3)}}
	if r.Trust, err = bundle.ParseTrust(i.TrustedRoot()); err != nil {
		t.Fatal(err)
	}
	for _, marshal := range []func() ([]byte, error){m.provenance.Marshal, m.values.Marshal} {
		payload, err := marshal()
		if err != nil {
			t.Fatal(err)
		}
		line, err := i.Sign(payload, fakesigstore.Options{Identity: id})
		if err != nil {
			t.Fatal(err)
		}
		r.Lines = append(r.Lines, line)
	}
	return r, i
}

// TestGenuine verifies what a whole instance of Sigstore signed.
func TestGenuine(t *testing.T) {
	t.Parallel()
	r, _ := genuine(t, 512, nil)
	r.Booted = booted("snp")
	img, err := reference.Verify(r)
	if err != nil {
		t.Fatal(err)
	}
	if !img.SignedOn().Equal(signed) || img.BuildLevel() != 3 || !slices.Equal(img.Match().Signed(), []string{"measurement"}) {
		t.Errorf("signed on %v, level %d, %v", img.SignedOn(), img.BuildLevel(), img.Match().Signed())
	}
}

// TestAttackGenuineStranger has the instance itself sign for somebody else, or another instance for the right one.
func TestAttackGenuineStranger(t *testing.T) {
	t.Parallel()
	const p, v = reference.LinkProvenance, reference.LinkValues
	for name, change := range map[string]func(*fakesigstore.Identity){
		"workflow": func(id *fakesigstore.Identity) {
			id.JobWorkflowRef = strings.Replace(id.JobWorkflowRef, "image.yml", "test.yml", 1)
		},
		"branch": func(id *fakesigstore.Identity) {
			id.JobWorkflowRef = strings.Replace(id.JobWorkflowRef, "refs/tags/v1", "refs/heads/v1", 1)
		},
		"issuer": func(id *fakesigstore.Identity) { id.Issuer = "https://issuer.evil.example" },
		"fork": func(id *fakesigstore.Identity) {
			id.Repository, id.RepositoryID, id.OwnerID = "mallory/images", "99", "98"
		},
		"runner": func(id *fakesigstore.Identity) { id.RunnerEnvironment = "self-hosted" },
		"commit": func(id *fakesigstore.Identity) { id.SHA = hex("a2", 20) },
	} {
		r, _ := genuine(t, 0, change)
		_, err := reference.Verify(r)
		wants(t, name, err, p, refusal.Identity)
	}
	r, _ := genuine(t, 0, nil)
	other, _ := genuine(t, 0, nil)
	mixed := r
	mixed.Trust = other.Trust
	_, err := reference.Verify(mixed)
	wants(t, "another instance", err, p, refusal.Chain)
	mixed = r
	mixed.Lines = [][]byte{r.Lines[0], other.Lines[1]}
	_, err = reference.Verify(mixed)
	wants(t, "values of another instance", err, v, refusal.Chain)
	for n, link := range []string{p, v} {
		altered := r
		altered.Lines = slices.Clone(r.Lines)
		altered.Lines[n] = alter(t, r.Lines[n])
		_, err := reference.Verify(altered)
		wants(t, "altered "+link, err, link, refusal.Signature)
	}
}

// alter changes one character of the signature.
func alter(t *testing.T, line []byte) []byte {
	t.Helper()
	const mark = `"sig":"`
	at := strings.Index(string(line), mark)
	if at < 0 {
		t.Fatal("no signature")
	}
	out := slices.Clone(line)
	at += len(mark) + 20
	if out[at] == 'A' {
		out[at] = 'B'
	} else {
		out[at] = 'A'
	}
	return out
}

// BenchmarkVerify is what a machine does at boot with an image that has values for 512 shapes of machines.
func BenchmarkVerify(b *testing.B) {
	r, _ := genuine(b, 512, nil)
	r.Files, r.Booted = nil, booted("snp")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := reference.Verify(r); err != nil {
			b.Fatal(err)
		}
	}
}
