// SPDX-License-Identifier: Apache-2.0

package tdx_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/tdx"
	"github.com/kettle/attest/internal/vectors"
)

// vector is one genuine or derived quote with the verdict that has to come out.
type vector struct {
	Name    string            `json:"name"`
	Kind    string            `json:"kind"`
	Files   map[string]string `json:"files"`
	At      time.Time         `json:"at"`
	Genuine bool              `json:"genuine"`
	Floor   string            `json:"floor"`
	Why     string            `json:"why"`
	Facts   map[string]string `json:"facts"`

	quote, collateral []byte
	guest             tdx.Guest
}

// tdxVectors loads every vector that holds a TDX quote, the ones inside Azure's container included.
func tdxVectors(t testing.TB) []vector {
	t.Helper()
	dir := vectors.TEE(t)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []vector
	for _, e := range entries {
		here := filepath.Join(dir, e.Name())
		v := vector{guest: tdx.Direct}
		if err := json.Unmarshal(readFile(t, here, "vector.json"), &v); err != nil {
			t.Fatal(err)
		}
		switch v.Kind {
		case "tdx":
			v.quote = readFile(t, here, v.Files["quote"])
			if name, ok := v.Files["collateral"]; ok {
				v.collateral = readFile(t, here, name)
			}
		case "az-tdx":
			v.quote, v.guest = azureQuote(t, readFile(t, here, v.Files["evidence"])), tdx.Paravisor
		default:
			continue
		}
		out = append(out, v)
	}
	if len(out) == 0 {
		t.Fatal("no TDX vectors found")
	}
	return out
}

func tdxVector(t testing.TB, name string) vector {
	t.Helper()
	for _, v := range tdxVectors(t) {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("no vector %s", name)
	return vector{}
}

func readFile(t testing.TB, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// azureQuote takes the TD quote out of the az-tdx JSON; only the hardware part is this package's.
func azureQuote(t testing.TB, evidence []byte) []byte {
	t.Helper()
	var e struct {
		Evidence struct {
			Quote string `json:"td_quote"`
		} `json:"evidence"`
	}
	if err := json.Unmarshal(evidence, &e); err != nil {
		t.Fatal(err)
	}
	quote, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(e.Evidence.Quote, "="))
	if err != nil {
		t.Fatal(err)
	}
	return quote
}

func (v vector) parsed(t testing.TB) *tdx.Collateral {
	t.Helper()
	if v.collateral == nil {
		return nil
	}
	c, err := tdx.ParseCollateral(v.collateral)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func intelRoots(t testing.TB) []tdx.Root {
	t.Helper()
	roots, err := tdx.IntelRoots()
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

func TestVectors(t *testing.T) {
	t.Parallel()
	for _, v := range tdxVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			q, err := tdx.Verify(v.quote, intelRoots(t), v.At)
			if !v.Genuine {
				wantFirst(t, err, refusal.Code(v.Why))
				if q != nil {
					t.Fatal("a quote besides the refusal")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c := v.parsed(t)
			if err := q.Meets(floor.Signature, tdx.Setting{Guest: v.guest}, c, v.At); err != nil {
				t.Fatalf("floor signature: %v", err)
			}
			err = q.Meets(floor.Default, tdx.Setting{Guest: v.guest}, c, v.At)
			if v.Floor == "accept" && err != nil {
				t.Fatalf("floor default: %v", err)
			}
			if v.Floor == "refuse" {
				wantFirst(t, err, refusal.Code(v.Why))
			}
			checkFacts(t, v, q)
		})
	}
}

func checkFacts(t *testing.T, v vector, q *tdx.Quote) {
	t.Helper()
	mrtd, data, fmspc, svn, registers := q.MRTD(), q.ReportData(), q.FMSPC(), q.TEETCBSVN(), q.RTMRs()
	var rtmrs []string
	for _, r := range registers {
		rtmrs = append(rtmrs, hex.EncodeToString(r[:]))
	}
	for fact, got := range map[string]string{
		"mrtd":          hex.EncodeToString(mrtd[:]),
		"report_data":   hex.EncodeToString(data[:]),
		"fmspc":         hex.EncodeToString(fmspc[:]),
		"tee_tcb_svn":   hex.EncodeToString(svn[:]),
		"quote version": fmt.Sprint(q.Version()),
		"rtmr0-3":       strings.Join(rtmrs, " "),
	} {
		if want, known := v.Facts[fact]; known && want != got {
			t.Errorf("%s: want %s, got %s", fact, want, got)
		}
	}
	if q.Platform() != tdx.PlatformTDX || !q.Root().Intel() {
		t.Errorf("platform %s, Intel %v", q.Platform(), q.Root().Intel())
	}
	attributes := fmt.Sprintf("debug=%v sept_ve_disable=%v", q.Attributes().Debug(), q.Attributes().SEPTVEDisable())
	if want := v.Facts["td_attributes"]; want != "" && !strings.HasSuffix(want, attributes) {
		t.Errorf("attributes %s, want %s", attributes, want)
	}
}

// TestStrictDemandsNewerEvaluationData: the same quote is good enough by default and not for the strict floor, since
// Intel's evaluation data set 18 was half a year old when collateral of set 17 was issued.
func TestStrictDemandsNewerEvaluationData(t *testing.T) {
	t.Parallel()
	v := tdxVector(t, "tdx15-v4-uptodate")
	q, err := tdx.Verify(v.quote, intelRoots(t), v.At)
	if err != nil {
		t.Fatal(err)
	}
	err = q.Meets(floor.Strict, direct, v.parsed(t), v.At)
	wantFirst(t, err, refusal.TCB)
	if len(refusal.All(err)) != 1 || !strings.Contains(err.Error(), "number 18") {
		t.Errorf("%v", err)
	}
}

// wantFirst demands a refusal whose first and gravest reason has the code, in full sentences.
func wantFirst(t testing.TB, err error, code refusal.Code) {
	t.Helper()
	all := refusal.All(err)
	if len(all) == 0 {
		t.Fatalf("want a refusal with code %s, got %v", code, err)
	}
	if all[0].Code != code {
		t.Fatalf("want code %s first, got: %v", code, err)
	}
	for _, r := range all {
		if r.Link == "" || !r.Code.Valid() || r.Want == "" || r.Got == "" || r.Next == "" {
			t.Errorf("refusal with a gap: %+v", r)
		}
		if !errors.Is(r, refusal.ErrNotVerified) {
			t.Errorf("%v matches no sentinel", r)
		}
	}
}
