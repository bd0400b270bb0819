// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"testing"

	"github.com/google/go-sev-guest/verify/trust"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/snp/snptest"
)

// FuzzVerify feeds foreign reports and certificates. Nobody can sign here, so whatever is accepted must have, byte for
// byte, the signed part of a genuine seed. Each worker is its own process, so only fixed reports can be seeds.
func FuzzVerify(f *testing.F) {
	roots := amdRoots(f)
	known := map[string]bool{}
	for _, v := range snpVectors(f) {
		f.Add(v.report, v.leaf)
		known[string(v.report[:0x2a0])] = v.Genuine
	}
	f.Fuzz(func(t *testing.T, report, leaf []byte) {
		r, err := snp.Verify(report, leaf, roots, snptest.Time())
		switch {
		case err != nil && r != nil:
			t.Fatal("a report besides the refusal")
		case err != nil && len(refusal.All(err)) == 0:
			t.Fatalf("an error that is no refusal: %v", err)
		case err == nil && !known[string(report[:0x2a0])]:
			t.Fatal("accepted what nobody signed")
		}
	})
}

// FuzzRoots feeds foreign PEM to both readers of it.
func FuzzRoots(f *testing.F) {
	f.Add(trust.AskArkMilanVcekBytes)
	f.Add(trust.AskArkTurinVlekBytes)
	f.Add(trust.AskArkTurinVlekBytes[:3000])
	f.Fuzz(func(t *testing.T, data []byte) {
		if roots, err := snp.ParseRoots(data); err == nil && (len(roots) != 1 || roots[0].AMD()) {
			t.Fatal("a private root that is none")
		} else if err != nil && len(refusal.All(err)) == 0 {
			t.Fatalf("an error that is no refusal: %v", err)
		}
		if leaf, err := snp.EndorsementKey(data); (err == nil) != (len(leaf) > 0) {
			t.Fatal("neither a certificate nor a refusal, or both")
		}
	})
}
