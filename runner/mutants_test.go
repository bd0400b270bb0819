// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package runner

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts one check of the state machine, the journal and the registering out after the other.
// go test -tags mutants -run TestMutants ./runner.
func TestMutants(t *testing.T) {
	t.Parallel()
	const journal, registering, environment = "journal.go", "registering.go", "environment.go"
	for _, row := range []struct{ check, file, old, with, attack string }{
		{"one life", journal, "os.O_WRONLY|os.O_CREATE|os.O_EXCL|", "os.O_WRONLY|os.O_CREATE|", "SecondLife$"},
		{"each line names the one before", journal, "case e.Previous != last:", "case false:", "RewrittenJournal$"},
		{"each state follows", journal, "e.State != was && !was.leads(e.State) {", "e.State != was && false {", "JournalStates$"},
		{"name before asking", registering, "a.journal.Note(\"asking GitHub for a runner\", &Named{Name: name});", "error(nil);", "CrashWhileAsking$"},
		{"names that may be forgotten", registering, "if errors.Is(err, ErrNotMade) {", "if true {", "ForgottenName$"},
		{"name that was asked for", registering, "if reg.Name != name || reg.ID <= 0 {", "if reg.ID <= 0 {", "AnotherName$"},
		{"number of the runner", registering, "if reg.Name != name || reg.ID <= 0 {", "if reg.Name != name {", "NoNumber$"},
		{"state removed", "finish.go", "if removeErr != nil {", "if false {", "ForgottenName$"},
		{"image before keys", environment, "return Image{}, fmt.Errorf(\"verifying the image", "_ = fmt.Errorf(\"verifying the image", "OtherImage$"},
		{"admission before registering", "life.go", "if err := a.admit(ctx); err != nil {", "if err := a.admit(ctx); err != nil && false {", "NotAdmitted$"},
		{"environment key is erased", environment, "if e != nil && e.key != nil {", "if false {", "KeyBesideAJob$"},
		{"quotes of this machine", environment, "if self != e.self {", "if false {", "OtherMachine$"},
		{"one hook", "life.go", "r.reply(struct{}{}, refuse(", "r.reply(struct{}{}, nil)\n\t\t\t_ = error(refuse(", "SecondHook$"},
		{"one voice", "dispatch.go", "if err := a.unspoiled(ctx); err != nil { // the hook may", "if err := a.unspoiled(ctx); err != nil && false { // the hook may",
			"VoiceBesideTheHook$"},
		{"deleting first", "listen.go", "case err == nil:", "case err == nil || errors.Is(err, ErrBusy):", "JobWhileLeaving$"},
	} {
		t.Run(row.check, func(t *testing.T) {
			t.Parallel()
			m := mutant.Mutant{Check: row.check, File: "runner/" + row.file, Old: row.old, New: row.with}
			mutant.Run(t, m, "runner", "^TestAttack"+row.attack)
		})
	}
}
