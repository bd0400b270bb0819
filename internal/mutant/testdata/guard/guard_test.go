// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"os"
	"testing"
)

func TestAttackWord(t *testing.T) {
	for _, word := range []string{"", "open"} {
		if Enter(word, []string{"thief"}) {
			t.Errorf("entered with %q", word)
		}
	}
}

func TestAttackNobody(t *testing.T) {
	if Enter("open sesame", nil) {
		t.Error("nobody entered")
	}
}

func TestAttackElsewhere(t *testing.T) {
	if os.Getenv("GUARD_ELSEWHERE") == "" {
		t.Skip("needs another machine")
	}
}

func TestOrdinary(t *testing.T) {
	if Enter("open", []string{"guest"}) {
		t.Error("entered")
	}
}
