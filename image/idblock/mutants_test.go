// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package idblock_test

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts the checks of a signed block out, one after the other.
// go test -tags mutants -run TestMutants ./image/idblock.
func TestMutants(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ check, file, old, with, attack string }{
		{"the block's signature", "verify.go", "if bad := s.checkSeal(s.Block[:], offIDKey, offBlockSignature); bad != nil {", "if bad := s.checkSeal(s.Block[:], offIDKey, offBlockSignature); bad != nil && bad.Code != refusal.Signature {", "BlockChanged$"},
		{"the author's signature", "verify.go", "if bad := s.checkSeal(s.Auth[offIDKey:][:keySize], offAuthorKey, offIDKeySignature); bad != nil {", "if bad := s.checkSeal(s.Auth[offIDKey:][:keySize], offAuthorKey, offIDKeySignature); bad != nil && bad.Code != refusal.Signature {", "ForgedBlock$"},
		{"reserved bytes", "verify.go", "if rest != [AuthSize]byte{} {", "if false {", "BlockChanged$"},
		{"the author key is named", "verify.go", "if got := le.Uint32(s.Auth[offAuthorAlgorithm:]); got != want {", "if got := le.Uint32(s.Auth[offAuthorAlgorithm:]); got != want && false {", "ForgedBlock$"},
		{"curve", "verify.go", "if curve := binary.LittleEndian.Uint32(b); curve != curveP384 {", "if curve := binary.LittleEndian.Uint32(b); curve == 0 {", "ForgedBlock$"},
		{"coordinates have 48 bytes", "verify.go", "if !bytes.Equal(x[scalar:], zeros) || !bytes.Equal(y[scalar:], zeros) {", "if !bytes.Equal(y[scalar:], zeros) {", "ForgedBlock$"},
		{"debugging", "idblock.go", "case p.Debug():", "case p.Debug() && false:", "ForgedBlock$"},
		{"version", "idblock.go", "got != version {", "got == 0 {", "ForgedBlock$"},
	} {
		t.Run(row.check, func(t *testing.T) {
			t.Parallel()
			m := mutant.Mutant{Check: row.check, File: "image/idblock/" + row.file, Old: row.old, New: row.with}
			mutant.Run(t, m, "image/idblock", "^TestAttack"+row.attack)
		})
	}
}
