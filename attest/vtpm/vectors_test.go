// SPDX-License-Identifier: Apache-2.0

package vtpm_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/vtpm"
	"github.com/kettle/attest/internal/vectors"
)

// azure is the evidence of a real machine on Azure, and the report data of its hardware's report.
type azure struct {
	name                   string
	hcl, attest, signature []byte
	pcrs                   [][]byte
	reportData             [64]byte
	facts                  map[string]string
}

func azureVectors(t testing.TB) []azure {
	t.Helper()
	dir := vectors.TEE(t)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []azure
	for _, e := range entries {
		var v struct {
			Name, Kind string
			Genuine    bool
			Files      map[string]string
			Facts      map[string]string
		}
		readJSON(t, filepath.Join(dir, e.Name(), "vector.json"), &v)
		if !strings.HasPrefix(v.Kind, "az-") || !v.Genuine {
			continue
		}
		a := readAzure(t, filepath.Join(dir, e.Name(), v.Files["evidence"]))
		a.name, a.facts = v.Name, v.Facts
		out = append(out, a)
	}
	if len(out) == 0 {
		t.Fatal("no vectors of Azure found")
	}
	return out
}

func readJSON(t testing.TB, path string, v any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func readAzure(t testing.TB, path string) azure {
	t.Helper()
	var e struct {
		Evidence struct {
			Quote struct {
				Signature, Message string
				PCRs               []string `json:"pcrs"`
			} `json:"tpm_quote"`
			HCL     string `json:"hcl_report"`
			TDQuote string `json:"td_quote"`
		} `json:"evidence"`
	}
	readJSON(t, path, &e)
	base64url := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	a := azure{hcl: base64url(e.Evidence.HCL), attest: unhex(t, e.Evidence.Quote.Message), signature: unhex(t, e.Evidence.Quote.Signature)}
	for _, p := range e.Evidence.Quote.PCRs {
		a.pcrs = append(a.pcrs, unhex(t, p))
	}
	if e.Evidence.TDQuote != "" {
		copy(a.reportData[:], base64url(e.Evidence.TDQuote)[48+0x208:])
	} else {
		copy(a.reportData[:], a.hcl[0x20+0x50:])
	}
	return a
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (a azure) guest(t testing.TB) *vtpm.Guest {
	t.Helper()
	h, err := vtpm.ParseHCL(a.hcl)
	if err != nil {
		t.Fatal(err)
	}
	g, err := h.Bind(a.reportData)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (a azure) clone() azure {
	a.hcl, a.attest, a.signature = bytes.Clone(a.hcl), bytes.Clone(a.attest), bytes.Clone(a.signature)
	pcrs := make([][]byte, len(a.pcrs))
	for i, p := range a.pcrs {
		pcrs[i] = bytes.Clone(p)
	}
	a.pcrs = pcrs
	return a
}

func TestVectors(t *testing.T) {
	t.Parallel()
	for _, a := range azureVectors(t) {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			g := a.guest(t)
			q, err := vtpm.VerifyBare(g.AK(), a.attest, a.signature, a.pcrs)
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(q.ExtraData()); got != a.facts["nonce"] {
				t.Errorf("extra data %s, want %s", got, a.facts["nonce"])
			}
			if got := hex.EncodeToString(a.reportData[:]); got != a.facts["report_data"] {
				t.Errorf("report data %s, want %s", got, a.facts["report_data"])
			}
			for i, want := range a.pcrs {
				if got, ok := q.PCR(i); !ok || !bytes.Equal(got[:], want) {
					t.Errorf("PCR %d: %x %v", i, got, ok)
				}
			}
			if len(q.Selected()) != 24 || q.AK().Origin() != vtpm.Paravisor || g.Hardware().String() != strings.TrimPrefix(a.name, "az-")[:3] {
				t.Errorf("%v by %v on %v", q.Selected(), q.AK().Origin(), g.Hardware())
			}
			if !strings.Contains(a.facts["runtime data"], g.Configuration().UniqueID()) || len(g.UserData()) != 64 {
				t.Errorf("configuration %+v, user data %x", g.Configuration(), g.UserData())
			}
			if err := g.Meets(floor.Default); err != nil {
				t.Errorf("floor default: %v", err)
			}
			wantFirst(t, g.Meets(floor.Strict), refusal.Policy) // all of them were launched with a console
		})
	}
}

func TestAttackRealQuoteChanged(t *testing.T) {
	t.Parallel()
	vectors := azureVectors(t)
	other := vectors[len(vectors)-1]
	for name, tt := range map[string]struct {
		change func(*azure)
		code   refusal.Code
	}{
		"register":          {func(a *azure) { a.pcrs[11][0] ^= 1 }, refusal.Binding},
		"registers swapped": {func(a *azure) { a.pcrs[4], a.pcrs[9] = a.pcrs[9], a.pcrs[4] }, refusal.Binding},
		"register missing":  {func(a *azure) { a.pcrs = a.pcrs[:23] }, refusal.Malformed},
		"register more":     {func(a *azure) { a.pcrs = append(a.pcrs, make([]byte, 32)) }, refusal.Malformed},
		"register short":    {func(a *azure) { a.pcrs[3] = a.pcrs[3][:31] }, refusal.Malformed},
		"register long":     {func(a *azure) { a.pcrs[3] = append(a.pcrs[3], 0) }, refusal.Malformed},
		"nonce":             {func(a *azure) { a.attest[0x2c] ^= 1 }, refusal.Signature},
		"message of other":  {func(a *azure) { a.attest, a.pcrs = other.attest, other.pcrs }, refusal.Signature},
		"signature":         {func(a *azure) { a.signature[9] ^= 1 }, refusal.Signature},
		"signature short":   {func(a *azure) { a.signature = a.signature[:255] }, refusal.Signature},
		"signature long":    {func(a *azure) { a.signature = append(a.signature, 0) }, refusal.Signature},
		"message long":      {func(a *azure) { a.attest = append(a.attest, 0) }, refusal.Malformed},
		"message cut":       {func(a *azure) { a.attest = a.attest[:len(a.attest)-1] }, refusal.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := vectors[0].clone()
			tt.change(&a)
			q, err := vtpm.VerifyBare(a.guest(t).AK(), a.attest, a.signature, a.pcrs)
			wantFirst(t, err, tt.code)
			if q != nil {
				t.Error("a quote besides the refusal")
			}
		})
	}
}

// TestAttackEveryBit flips each bit of what is signed or bound in a real quote: none may pass.
func TestAttackEveryBit(t *testing.T) {
	t.Parallel()
	for _, a := range azureVectors(t) {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			ak, a := a.guest(t).AK(), a.clone()
			for name, part := range map[string][]byte{"message": a.attest, "signature": a.signature} {
				eachBit(part, func(bit int) {
					if _, err := vtpm.VerifyBare(ak, a.attest, a.signature, a.pcrs); err == nil {
						t.Errorf("bit %d of the %s flipped: accepted", bit, name)
					}
				})
			}
			// The hardware's report in between is its own package's.
			for at, part := range map[int][]byte{0: a.hcl[:0x20], 0x20 + 1184: a.hcl[0x20+1184:]} {
				eachBit(part, func(bit int) {
					h, err := vtpm.ParseHCL(a.hcl)
					if err != nil {
						return
					}
					if _, err = h.Bind(a.reportData); err == nil {
						t.Errorf("bit %d from byte %d of the paravisor's report flipped: accepted", bit, at)
					}
				})
			}
		})
	}
}

// eachBit calls try with each bit of data flipped in turn.
func eachBit(data []byte, try func(bit int)) {
	for bit := range 8 * len(data) {
		data[bit/8] ^= 1 << (bit % 8)
		try(bit)
		data[bit/8] ^= 1 << (bit % 8)
	}
}

// TestAttackHCLOfAnother pairs a real paravisor's report with the hardware report of another machine.
func TestAttackHCLOfAnother(t *testing.T) {
	t.Parallel()
	vectors := azureVectors(t)
	for i, a := range vectors {
		h, err := vtpm.ParseHCL(a.hcl)
		if err != nil {
			t.Fatal(err)
		}
		for j, other := range vectors {
			if i == j {
				continue
			}
			_, err := h.Bind(other.reportData)
			wantFirst(t, err, refusal.Binding)
		}
		tail := a.reportData
		tail[63] = 1 // a comparison of the first half alone would accept it
		_, err = h.Bind(tail)
		wantFirst(t, err, refusal.Binding)
		_, err = h.Bind([64]byte{})
		wantFirst(t, err, refusal.Binding)
	}
}
