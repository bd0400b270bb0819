// SPDX-License-Identifier: Apache-2.0

package mutant_test

import (
	"errors"
	"os/exec"
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

const (
	folder = "internal/mutant/testdata/guard"
	file   = folder + "/guard.go"
	word   = `if word != "open sesame" {`
	empty  = `if word == "" {`
	names  = `if len(names) == 0 {`
)

// cut makes a check never true.
func cut(old string) mutant.Mutant {
	return mutant.Mutant{Check: old, File: file, Old: old, New: old[:len(old)-1] + "&& false {"}
}

func TestRun(t *testing.T) {
	t.Parallel()
	mutant.Run(t, cut(word), folder, "^TestAttackWord$")
}

// inWorld cuts a check in a world with another change.
func inWorld(old string, world mutant.Mutant) mutant.Mutant {
	m := cut(old)
	m.World = &world
	return m
}

func TestTry(t *testing.T) {
	t.Parallel()
	world := mutant.Mutant{Check: "the empty word is right too", File: file, Old: word, New: `if word != "open sesame" && word != "" {`}
	change := func(f func(*mutant.Mutant)) mutant.Mutant {
		m := cut(word)
		f(&m)
		return m
	}
	for name, tc := range map[string]struct {
		m      mutant.Mutant
		attack string
		want   error
	}{
		"killed":               {cut(word), "TestAttackWord", nil},
		"killed among others":  {cut(word), "TestAttack(Word|Elsewhere)", nil},
		"second lock":          {cut(empty), "TestAttackWord", mutant.ErrSurvived},
		"attack of another":    {cut(word), "TestAttackNobody", mutant.ErrSurvived},
		"in its world":         {inWorld(empty, world), "TestAttackWord", nil},
		"its world alone":      {world, "TestAttackWord", mutant.ErrSurvived},
		"no such world":        {inWorld(word, change(func(m *mutant.Mutant) { m.Old = "if word != nil {" })), "TestAttackWord", mutant.ErrRow},
		"crash":                {cut(names), "TestAttackNobody", mutant.ErrNotRun},
		"no such attack":       {cut(word), "TestAttackNone", mutant.ErrNotRun},
		"attack skipped":       {cut(word), "TestAttackElsewhere", mutant.ErrNotRun},
		"no attack":            {cut(word), "TestOrdinary", mutant.ErrRow},
		"no pattern":           {cut(word), "", mutant.ErrRow},
		"does not compile":     {change(func(m *mutant.Mutant) { m.New = "if word {" }), "TestAttackWord", mutant.ErrRow},
		"not there":            {change(func(m *mutant.Mutant) { m.Old = "if word != nil {" }), "TestAttackWord", mutant.ErrRow},
		"more than once":       {change(func(m *mutant.Mutant) { m.Old = "return false" }), "TestAttackWord", mutant.ErrRow},
		"changes nothing":      {change(func(m *mutant.Mutant) { m.New = m.Old }), "TestAttackWord", mutant.ErrRow},
		"nothing to cut":       {change(func(m *mutant.Mutant) { m.Old = "" }), "TestAttackWord", mutant.ErrRow},
		"the attack's own row": {change(func(m *mutant.Mutant) { m.File = folder + "/guard_test.go" }), "TestAttackWord", mutant.ErrRow},
		"no such file":         {change(func(m *mutant.Mutant) { m.File = "none.go" }), "TestAttackWord", mutant.ErrRow},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := mutant.Try(t, tc.m, folder, tc.attack); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestBuild(t *testing.T) {
	t.Parallel()
	program := mutant.Build(t, cut(word), folder)
	out, err := exec.CommandContext(t.Context(), program, "-test.v", "-test.run=TestAttackWord").CombinedOutput()
	if err == nil || mutant.Killed(out) != nil {
		t.Errorf("%v, %v:\n%s", err, mutant.Killed(out), out)
	}
}

func TestKilled(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		output string
		want   error
	}{
		"failed":             {"--- FAIL: TestAttackA (0.00s)\nFAIL\n", nil},
		"on a console":       {"boot\r\n--- FAIL: TestAttackA (0.00s)\r\n    a_test.go:1: x\r\nFAIL\r\n", nil},
		"passed":             {"--- PASS: TestAttackA (0.00s)\nPASS\n", mutant.ErrSurvived},
		"another one failed": {"--- FAIL: TestGuestA (0.00s)\n--- PASS: TestAttackA (0.00s)\nFAIL\n", mutant.ErrSurvived},
		"named in a log":     {"=== RUN   TestAttackA\n    a.go:1: --- FAIL: TestAttackA\n--- PASS: TestAttackA (0.00s)\n", mutant.ErrSurvived},
		"skipped":            {"--- SKIP: TestAttackA (0.00s)\nPASS\n", mutant.ErrNotRun},
		"part skipped":       {"--- SKIP: TestAttackA (0.00s)\n--- PASS: TestAttackB (0.00s)\nPASS\n", mutant.ErrNotRun},
		"panic":              {"--- FAIL: TestAttackA (0.00s)\npanic: index out of range\n\ngoroutine 1 [running]:\n", mutant.ErrNotRun},
		"timed out":          {"=== RUN   TestAttackA\npanic: test timed out after 1s\n", mutant.ErrNotRun},
		"cut short":          {"=== RUN   TestAttackA\n", mutant.ErrNotRun},
		"nothing":            {"", mutant.ErrNotRun},
	} {
		if err := mutant.Killed([]byte(tc.output)); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}
