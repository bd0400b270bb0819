// SPDX-License-Identifier: Apache-2.0

package outputs

import (
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kettle/attest/attest/refusal"
)

// Bounds on what a job may write.
const (
	maxName = 255  // bytes of a subject's name: NAME_MAX of Linux file systems
	maxPath = 4095 // bytes of a path: PATH_MAX without its terminator
)

// checkName refuses a subject name that a reader, a terminal or a shell could take for something else: names are
// relative, clean, at most 255 bytes of valid UTF-8, and every character is printable (no control characters, newlines,
// bidirectional overrides or spaces other than U+0020).
func checkName(name string) error {
	var want string
	switch {
	case name == "":
		want = "a subject name"
	case len(name) > maxName:
		want = "a subject name of at most 255 bytes"
	case !utf8.ValidString(name):
		want = "a subject name in UTF-8"
	case !printable(name):
		want = "a subject name of printable characters"
	case path.IsAbs(name) || path.Clean(name) != name || name == "." || name == ".." || strings.HasPrefix(name, "../"):
		want = "a relative subject name without empty, . or .. parts"
	default:
		return nil
	}
	return refuse(refusal.Malformed, want, quote(name), "rename the file, or say another name with subject-name")
}

// checkPath refuses a path that could not be written into a statement as it is.
func checkPath(p string) error {
	if len(p) <= maxPath && printable(p) {
		return nil
	}
	return refuse(refusal.Malformed, "a path of at most 4095 bytes of printable UTF-8", quote(p),
		"rename the file or its folder")
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// quote makes foreign text safe to print and short enough to read.
func quote(s string) string {
	const most = 300
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "…"
	}
	return strconv.QuoteToGraphic(s)
}
