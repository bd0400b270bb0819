// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package vtpm_test

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts one check of quotes, keys and paravisors out after the other.
// go test -tags mutants -run TestMutants ./attest/vtpm.
func TestMutants(t *testing.T) {
	t.Parallel()
	const structure, quotes, signatures, paravisor, runtime = "attest.go", "quote.go", "signature.go", "hcl.go", "runtime.go"
	for _, row := range []struct{ check, file, old, with, attack string }{
		{"made by a TPM", structure, "magic != generated {", "magic != generated && false {", "ForgedByKeyOfNoTPM$"},
		{"a register is selected", structure, "if w.err == nil && selected == 0 {", "if false {", "EmptySelection$"},
		{"bank", structure, "w.err == nil && bank != algSHA256 {", "w.err == nil && bank == 0 {", "OtherBank$"},
		{"signature of the quote", quotes, "errors.Join(s.check(ak.key, attest), ", "errors.Join(", "UntrustedKey$"},
		{"digest of the registers", quotes, ", q.checkDigest(s.hash, pcrs));", ");", "ChangedRegister$"},
		{"registers that were quoted", quotes, " || q.selected&(1<<i) == 0 {", " {", "UnquotedRegister$"},
		{"an expectation", quotes, "if len(want) == 0 {", "if false {", "PolicyOfNothing$"},
		{"size of the key", signatures, "k.N.BitLen() >= minRSABits && ", "", "WeakKey$"},
		{"all of the report data", paravisor, "subtle.ConstantTimeCompare(want[:], reportData[:]) != 1", "subtle.ConstantTimeCompare(want[:32], reportData[:32]) != 1",
			"ReportDataTail$"},
		{"report data", paravisor, "if subtle.ConstantTimeCompare(want[:], reportData[:]) != 1 {", "if subtle.ConstantTimeCompare(want[:], want[:]) != 1 {",
			"RuntimeDataSwapped$"},
		{"one attestation key", runtime, "if seen[folded] || ", "if ", "SecondKey$"},
		{"secure boot", "guest.go", `refuseSwitch("secure-boot", true, c.secureBoot), `, "", "WeakConfiguration$/^secure_boot_off"},
		{"roots are the caller's", "certificate.go", "opts.Intermediates.AddCert(c)", "opts.Roots.AddCert(c)", "ForeignAuthority$"},
		{"endorsement key of the certificate", "activation.go", "if !sameKey(p, leaf) {", "if false {", "ForeignEndorsementKey$"},
		{"secret of the challenge", "activation.go", " || subtle.ConstantTimeCompare(secret, a.secret[:]) != 1 {", " || subtle.ConstantTimeCompare(secret, a.secret[:]) > 1 {",
			"GuessedSecret$"},
		{"attributes of the key", "public.go", "if p.attributes&^anyObject == want {", "if p.attributes&^anyObject == want || true {", "LooseKey$"},
	} {
		t.Run(row.check, func(t *testing.T) {
			t.Parallel()
			m := mutant.Mutant{Check: row.check, File: "attest/vtpm/" + row.file, Old: row.old, New: row.with}
			mutant.Run(t, m, "attest/vtpm", "^TestAttack"+row.attack)
		})
	}
}
