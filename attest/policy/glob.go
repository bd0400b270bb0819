// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Matching takes time proportional to the product of glob and value, so both are bounded in bytes. GitHub bounds names
// far lower.
const (
	maxGlob  = 512
	maxValue = 4096
)

// checkGlob refuses what has no meaning here, so that a glob of another dialect is not read as plain text.
func checkGlob(g string) error {
	switch {
	case g == "":
		return fmt.Errorf("an empty name")
	case len(g) > maxGlob:
		return fmt.Errorf("a name of more than %d bytes", maxGlob)
	case strings.Contains(g, "***"):
		return fmt.Errorf("%q: more than two stars in a row", g)
	case strings.ContainsAny(g, `?[]{}\^`):
		return fmt.Errorf("%q: only * and ** have a meaning; ? [ ] { } \\ ^ are not allowed", g)
	case strings.Trim(g, "*/") == "":
		return fmt.Errorf("%q matches everything: write any", g)
	}
	for _, r := range g {
		if r <= ' ' || r == 0x7f || r == utf8.RuneError {
			return fmt.Errorf("%q: white space and control characters are not allowed", g)
		}
	}
	return nil
}

// match reports whether the glob matches the whole of s. `*` stands for any run of bytes without a slash, `**` for any
// run; both also stand for nothing. Everything else stands for itself.
func match(glob, s string) bool {
	if len(s) > maxValue {
		return false
	}
	// reach[i] says that the glob read so far can match s[:i].
	reach := make([]bool, len(s)+1)
	reach[0] = true
	for i := 0; i < len(glob); i++ {
		if glob[i] != '*' {
			for j := len(s); j > 0; j-- {
				reach[j] = reach[j-1] && s[j-1] == glob[i]
			}
			reach[0] = false
			continue
		}
		crosses := i+1 < len(glob) && glob[i+1] == '*'
		if crosses {
			i++
		}
		for j := 1; j <= len(s); j++ {
			reach[j] = reach[j] || reach[j-1] && (crosses || s[j-1] != '/')
		}
	}
	return reach[len(s)]
}
