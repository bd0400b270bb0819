// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-sev-guest/abi"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
)

// TestAttackExtractedKey takes a report of a Milan chip of AMD's with nothing else to say against it. It is made here,
// since nobody but AMD's firmware can sign one: who extracts the chip's key can, for any values (arXiv 2605.12990).
func TestAttackExtractedKey(t *testing.T) {
	t.Parallel()
	table, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	r := &Report{verified: true, root: Root{line: Milan, amd: true}, csp: "CN=provider.test"}
	r.version, r.cpu, r.platformInfo = cpuidVersion, CPU{Family: 0x19, Model: 1, Stepping: 1}, 1<<5
	row, _ := table.Row(r.cpu)
	r.reportedTCB, r.committedTCB, r.launchTCB = row.Strict, row.Strict, row.Strict
	if err := r.Judge(floor.Strict, Terms{Trust: Trust{Providers: []string{r.csp}}}); err != nil {
		t.Fatalf("from a host that is trusted not to: %v", err)
	}
	if err := r.Meets(floor.Strict); err == nil {
		t.Error("good enough for strict")
	}
}

// TestAMDChainsVerify makes up for AMDRoots, which trusts the embedded bytes.
func TestAMDChainsVerify(t *testing.T) {
	t.Parallel()
	roots, err := AMDRoots()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range roots {
		if err := r.checkSignatures(); err != nil {
			t.Errorf("%s %s: %v", r.line, r.key, err)
		}
	}
}

// FuzzParse compares the two readers of reports: what this one accepts, go-sev-guest reads to the same bytes.
func FuzzParse(f *testing.F) {
	for _, version := range []byte{2, 3, 4, 5} {
		b := make([]byte, ReportSize)
		b[offVersion], b[offPolicy+2], b[offSignatureAlgo] = version, 2, algoECDSAP384SHA384
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if err != nil {
			if !errors.Is(err, refusal.ErrMalformed) && !errors.Is(err, refusal.ErrSignature) {
				t.Fatalf("another refusal: %v", err)
			}
			return
		}
		if r.version < cpuidVersion && r.cpu != (CPU{}) {
			t.Fatal("a processor out of nowhere")
		}
		theirs, err := abi.ReportToProto(b)
		if err != nil {
			t.Fatalf("go-sev-guest refuses it: %v", err)
		}
		if !bytes.Equal(theirs.GetMeasurement(), r.measurement[:]) || !bytes.Equal(theirs.GetReportData(), r.reportData[:]) ||
			!bytes.Equal(theirs.GetChipId(), r.chipID[:]) || theirs.GetPolicy() != uint64(r.policy) || theirs.GetVmpl() != r.vmpl {
			t.Fatal("go-sev-guest reads something else")
		}
	})
}

// FuzzEndorsement feeds foreign certificates to the reader of their extensions.
func FuzzEndorsement(f *testing.F) {
	roots, err := AMDRoots()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(roots[0].ask.Raw)
	f.Fuzz(func(t *testing.T, der []byte) {
		e, err := parseEndorsement(der)
		if err != nil {
			return
		}
		for _, l := range []Line{Milan, Genoa, Turin} {
			for _, k := range []keyKind{vcek, vlek} {
				if e.checkSpeaksFor(&fields{key: k}, l) == nil && k == vcek {
					t.Fatal("speaks for a chip without identifier")
				}
			}
		}
	})
}
