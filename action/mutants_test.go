// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package action

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts one check of the action's face out after the other.
func TestMutants(t *testing.T) {
	t.Parallel()
	const program, container, summary = "action/action.go", "action/container.go", "action/summary.go"
	for _, row := range []struct {
		mutant.Mutant
		attack string
	}{
		{mutant.Mutant{Check: "old commands", File: program, Old: `"##[", "##\u00a0["`, New: `"##[", "##["`}, "Log"},
		{mutant.Mutant{Check: "commands", File: program, Old: `if strings.HasPrefix(s, "::") {`, New: "if false {"}, "Log"},
		{mutant.Mutant{Check: "one line", File: program, Old: `printable(strings.Join(strings.Fields(s), " "))`, New: "s"}, "Log"},
		{mutant.Mutant{Check: "control characters", File: summary, Old: "if r == ' ' || unicode.IsPrint(r) {", New: "if true || unicode.IsPrint(r) {"}, "Summary"},
		{mutant.Mutant{Check: "markup", File: summary, Old: "if r == ' ' || r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r)) {", New: "if r < 0x80 {"}, "Summary"},
		{mutant.Mutant{Check: "the diagram's signs", File: summary, Old: "\t\treturn '_'\n", New: "\t\treturn r\n"}, "Summary"},
		{mutant.Mutant{Check: "folders of the container", File: container, Old: "if !ok || rest != \"\" && rest[0] != '/' ||", New: "if !ok ||"}, "OtherFile"},
		{mutant.Mutant{Check: "climbing out", File: container, Old: ` || strings.Contains(rest+"/", "/../") {`, New: " {"}, "OtherFile"},
		{mutant.Mutant{Check: "files of the container", File: container, Old: "\treturn \"\", usagef(\"%.200q lies", New: "\tif clean != \"\" {\n\t\treturn p, nil\n\t}\n\treturn \"\", usagef(\"%.200q lies"}, "OtherFile"},
		{mutant.Mutant{Check: "a workspace that is not known", File: container, Old: "if !path.IsAbs(s.Workspace) {", New: "if false {"}, "OtherFile"},
	} {
		t.Run(row.Check, func(t *testing.T) {
			t.Parallel()
			mutant.Run(t, row.Mutant, "action", "^TestAttack"+row.attack+"$")
		})
	}
}
