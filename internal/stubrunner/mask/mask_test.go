// SPDX-License-Identifier: Apache-2.0

package mask_test

import (
	"testing"

	"github.com/kettle/attest/internal/stubrunner/mask"
)

func TestMask(t *testing.T) {
	t.Parallel()
	var m mask.Masker
	m.Add("")
	m.Add(`s"e<c'r et`)
	m.Add("abab")
	m.AddLines("line one\r\nline two\n")
	m.AddPattern(`tok-[0-9]+`)
	m.AddPattern(`(unclosed`)
	m.AddPattern(`x*`)
	tests := map[string]string{
		"plain":                 "plain",
		`a s"e<c'r et b`:        "a *** b",
		`{"k":"s\"e<c'r et"}`:   `{"k":"***"}`,
		"s%22e%3Cc%27r+et":      "***",
		`s&#34;e&lt;c&#39;r et`: "***",
		`s"e<c''r et`:           "***",
		"cyJlPGMnciBldA==":      "***",
		"ababab":                "***",
		"abababab":              "***",
		"line two":              "***",
		"tok-12 tok-x":          "*** tok-x",
		"(unclosed xxx":         "*** xxx",
		"abab line one":         "*** ***",
	}
	for text, want := range tests {
		if got := m.Mask(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
