// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kettle/attest/runner"
)

// TestStates: the table of states in architecture.md is the state machine. UPDATE_GOLDEN=1 writes it.
func TestStates(t *testing.T) {
	t.Parallel()
	const file, begin, end = "architecture.md", "<!-- states:begin -->\n", "<!-- states:end -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	table, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatal("architecture.md has no place for the states")
	}
	var want strings.Builder
	want.WriteString("| state | event | next state |\n|---|---|---|\n")
	for _, tr := range runner.Transitions() {
		fmt.Fprintf(&want, "| %s | %s | %s |\n", tr.From, tr.On, tr.To)
		if !strings.Contains(after, string(tr.On)) {
			t.Errorf("architecture.md does not say what %q is", tr.On)
		}
	}
	if table == want.String() {
		return
	}
	if os.Getenv("UPDATE_GOLDEN") != "1" {
		t.Fatalf("architecture.md has\n%swant\n%s", table, want.String())
	}
	if err := os.WriteFile(file, []byte(before+begin+want.String()+end+after), 0o644); err != nil { //nolint:gosec // a document.
		t.Fatal(err)
	}
}
