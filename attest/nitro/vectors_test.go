// SPDX-License-Identifier: Apache-2.0

package nitro_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/nitro"
	"github.com/kettle/attest/attest/refusal"
	shared "github.com/kettle/attest/internal/vectors"
)

// vector is one genuine document with the verdict that has to come out.
type vector struct {
	Name     string            `json:"name"`
	Kind     string            `json:"kind"`
	Files    map[string]string `json:"files"`
	At       time.Time         `json:"at"`
	Genuine  bool              `json:"genuine"`
	Floor    string            `json:"floor"`
	Why      string            `json:"why"`
	Facts    map[string]string `json:"facts"`
	document []byte
}

// vectors loads every vector of kind "nitro".
func vectors(t testing.TB) []vector {
	t.Helper()
	dir := shared.TEE(t)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []vector
	for _, e := range entries {
		var v vector
		raw, err := os.ReadFile(filepath.Join(dir, e.Name(), "vector.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
		if v.Kind != "nitro" {
			continue
		}
		if v.document, err = os.ReadFile(filepath.Join(dir, e.Name(), v.Files["document"])); err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

// TestVectors judges the genuine documents that are among the vectors under AWS's root.
func TestVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			d, err := nitro.Verify(v.document, awsRoots(t), v.At)
			if (err == nil) != v.Genuine {
				t.Fatalf("genuine %v: %v", v.Genuine, err)
			}
			if err != nil {
				if got := refusal.All(err)[0].Code; string(got) != v.Why {
					t.Fatalf("code %s: %v", got, err)
				}
				return
			}
			if err := d.Meets(floor.Default); (err == nil) != (v.Floor != "refuse") {
				t.Fatalf("floor %s: %v", v.Floor, err)
			} else if err != nil && string(refusal.All(err)[0].Code) != v.Why {
				t.Fatalf("want %s: %v", v.Why, err)
			}
			checkFacts(t, d, v.Facts)
		})
	}
}

func checkFacts(t *testing.T, d *nitro.Document, facts map[string]string) {
	t.Helper()
	have := map[string]string{
		"platform": d.Platform(), "module_id": d.ModuleID(), "timestamp": d.Timestamp().Format(time.RFC3339Nano),
		"user_data": hex.EncodeToString(d.UserData()), "nonce": hex.EncodeToString(d.Nonce()),
		"public_key": hex.EncodeToString(d.PublicKey()),
	}
	for name, i := range map[string]int{"pcr0": 0, "pcr1": 1, "pcr2": 2, "pcr4": 4, "pcr7": 7} {
		if pcr, ok := d.PCR(i); ok {
			have[name] = hex.EncodeToString(pcr[:])
		}
	}
	for name, want := range facts {
		if have[name] != want {
			t.Errorf("%s: got %s, want %s", name, have[name], want)
		}
	}
}
