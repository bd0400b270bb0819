// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package tdx_test

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts one check of quotes, certificates, collateral and floors out after the other.
// go test -tags mutants -run TestMutants ./attest/tdx.
func TestMutants(t *testing.T) {
	t.Parallel()
	const verify, chain, tcb, crl, floors = "verify.go", "chain.go", "tcb.go", "crl.go", "floor.go"
	for _, row := range []struct{ check, file, old, with, attack string }{
		{"signature of the quote", verify, "if !signedBy(key, f.signed, f.signature) {", "if key == nil {", "ForgedQuote$/^changed_measurement"},
		{"attestation key in the QE report", verify, "if string(digest.Sum(nil)) != string(f.qeReport[320:352]) {", "if false {", "ForgedQuote$/^attestation_key"},
		{"signature of the QE report", verify, "if !ok || !signedBy(pckKey, f.qeReport, f.qeSig) {", "if !ok || pckKey == nil {", "ForgedQuote$/^quoting_enclave"},
		{"Intel's quoting enclave", verify, "string(f.qeReport[128:160]) != quotingEnclaveSigner || ", "", "QuoteByAnotherEnclave$/^signer"},
		{"signatures of the chain", chain, "if err := issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {",
			"if err := error(nil); err != nil {", "ForgedPlatform$/^CA_by_another"},
		{"signatures of the documents", tcb, "if !ok || !signedBy(key, d.doc, d.signature) {", "if !ok || key == nil {", "ForgedCollateral$/^changed"},
		{"signatures of the lists", crl, "if err := issuer.CheckSignature(list.SignatureAlgorithm, list.RawTBSRevocationList, list.Signature); err != nil {",
			"if err := error(nil); err != nil {", "ForgedCollateral$/^list_by_nobody"},
		{"kind of platform", tcb, "if c.tcb.fmspc != q.pck.FMSPC || ", "if ", "OtherCollateral$/^of_another_platform"},
		{"documents that are current", tcb, "if at.Before(w.from) || at.After(w.to) {", "if false {", "OtherCollateral$/^of_yesterday"},
		{"revocation", crl, "if e.SerialNumber.Cmp(serial) == 0 {", "if false {", "RevokedPlatform$/^PCK"},
		{"every component", tcb, "if have[i] < want[i] {", "if i == 0 && have[i] < want[i] {", "WeakPlatform$/^one_component"},
		{"status of the module", tcb, "platform.status.worsen(module.status)", "platform.status", "WeakPlatform$/^module_behind"},
		{"status of the quoting enclave", tcb, "\tt.Status = t.Status.worsen(qe.status)\n", "", "WeakPlatform$/^QE_behind"},
		{"evaluation number", floors, "if t.Evaluation >= want {", "if t.Evaluation >= want || true {", "RollbackByEvaluationNumber$"},
		{"debugging", floors, "if !q.attributes.Debug() {", "if true {", "WeakPlatform$/^debugged"},
		{"attributes", floors, "undue != 0 {", "undue != 0 && false {", "WeakPlatform$/^migratable"},
	} {
		t.Run(row.check, func(t *testing.T) {
			t.Parallel()
			m := mutant.Mutant{Check: row.check, File: "attest/tdx/" + row.file, Old: row.old, New: row.with}
			mutant.Run(t, m, "attest/tdx", "^TestAttack"+row.attack)
		})
	}
}
