// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package tcg_test

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts one check of logs, replays and facts out after the other.
// go test -tags mutants -run TestMutants ./attest/eventlog/tcg.
func TestMutants(t *testing.T) {
	t.Parallel()
	const matched, facts, parsed = "match.go", "facts.go", "parse.go"
	for _, row := range []struct{ check, file, old, with, attack string }{
		{"replay", matched, "if bytes.Equal(quoted, value) {", "if bytes.Equal(quoted, value) || true {", "HiddenExtension$"},
		{"registers that the log leaves out", matched, "\tif !extended {\n\t\tvalue = ", "\tif !extended {\n\t\treturn nil\n\t\tvalue = ", "StrippedRegister$"},
		{"an event of a compared register", matched, "if !covered {", "if false {", "EmptyLog$"},
		{"an event at all", parsed, "if !slices.ContainsFunc(l.events, event.extends) {", "if false {", "EmptyLog$"},
		{"one header", parsed, "if bytes.HasPrefix(e.data, []byte(specPrefix)) {", "if false {", "SecondHeader$"},
		{"facts of compared registers", matched, "if !e.extends() || !slices.Contains(order, e.register) {\n\t\t\tcontinue\n\t\t}\n\t\tend,",
			"if !e.extends() {\n\t\t\tcontinue\n\t\t}\n\t\tend,", "UncoveredRegister$"},
		{"content by its digest", "proof.go", "if bytes.Equal(a.sum(c.content), digest) {", "if bytes.Equal(a.sum(c.content), digest) || true {", "ForgedData$"},
		{"before the separator", facts, "if !is || !p.BeforeSeparator {", "if !is {", "SecureBootAfterSeparator$"},
		{"one statement of Secure Boot", facts, "if place >= 0 {", "if false {", "SecureBootByHostData$"},
		{"header of a signature list", "variable.go", "if header != 0 {", "if header > 1<<16 {", "SignatureHeader$"},
		{"nothing before the sections", "uki.go", " || l.kind == TPM && begin > 0 {", " {", "ForgedSection$"},
		{"colon in a name", "dstack.go", "if bytes.IndexByte([]byte(name), ':') >= 0 {", "if false {", "RuntimeNameBoundary$"},
	} {
		t.Run(row.check, func(t *testing.T) {
			t.Parallel()
			m := mutant.Mutant{Check: row.check, File: "attest/eventlog/tcg/" + row.file, Old: row.old, New: row.with}
			mutant.Run(t, m, "attest/eventlog/tcg", "^TestAttack"+row.attack)
		})
	}
}
