// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package snp_test

import (
	"testing"

	"github.com/kettle/attest/attest/snp/snptest"
	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts one check of reports, endorsements, floors and lists out after the other.
// go test -tags mutants -run TestMutants ./attest/snp.
func TestMutants(t *testing.T) {
	dir := t.TempDir()
	if err := snptest.SaveKeys(dir); err != nil {
		t.Fatal(err)
	}
	t.Setenv(snptest.KeysEnv, dir)
	const leaf, roots, floors, values, crl = "leaf.go", "roots.go", "floor.go", "values.go", "crl.go"
	for _, row := range []struct{ check, file, old, with, attack string }{
		{"signature of the endorsement", leaf, "if err := e.cert.CheckSignatureFrom(r.ask); err != nil {", "if err := error(nil); err != nil {", "ForgedEndorsement$/^in_AMD"},
		{"validity", roots, "if at.Before(c.NotBefore) || at.After(c.NotAfter) {", "if false {", "ForgedEndorsement$/^expired"},
		{"kind of key", "verify.go", "if r.line != line || r.key != key {", "if r.line != line {", "ForeignEndorsement$/^VLEK_of_the_VCEKs"},
		{"TCB of the endorsement", leaf, "if want != f.reported {", "if false {", "ForeignEndorsement$/^of_a_better_TCB$"},
		{"chip of the endorsement", leaf, "chip != f.chipID && !masked {", "false && !masked {", "ForeignEndorsement$/^of_another_chip$"},
		{"signature of the report", "signature.go", "if !ecdsa.Verify(key, digest[:], r, s) {", "if false && !ecdsa.Verify(key, digest[:], r, s) {", "ForgedReport$/^another_measurement"},
		{"debugging", floors, "if !r.policy.Debug() {", "if true {", "WeakMachine$/^debugged"},
		{"migration agent", floors, "if !r.policy.MigrationAgent() {", "if true {", "WeakMachine$/^migrated"},
		{"TCB by its parts", values, "t.SNP >= floor.SNP && ", "", "WeakMachine$/^firmware_behind"},
		{"committed TCB", floors, "\t\tr.reaches(table, \"committed\", r.committedTCB, Row.strict),\n", "", "WeakMachine$/^can_be_rolled_back"},
		{"keys that can be extracted", floors, "\t\tr.chipKeepsKeys(t.Trust),\n", "", "ExtractedKey$"},
		{"AMD's keys as private roots", roots, "if sameKey(have, p.ark) || sameKey(have, p.ask) {", "if false && sameKey(have, p.ark) {", "RelabelledRoot$"},
		{"signature of the list", crl, "if err := list.CheckSignatureFrom(r.ark); err != nil {", "if err := error(nil); err != nil {", "OtherRevocationList$/^signed_by"},
		{"list that is current", crl, "if at.Before(list.ThisUpdate) || at.After(list.NextUpdate) {", "if false {", "OtherRevocationList$/^of_yesterday"},
	} {
		t.Run(row.check, func(t *testing.T) {
			t.Parallel()
			m := mutant.Mutant{Check: row.check, File: "attest/snp/" + row.file, Old: row.old, New: row.with}
			mutant.Run(t, m, "attest/snp", "^TestAttack"+row.attack)
		})
	}
}
