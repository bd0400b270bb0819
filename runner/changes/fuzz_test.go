// SPDX-License-Identifier: Apache-2.0

package changes

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// Every name gives one line of printable JSON from which its bytes can be had again, and no two names give the same.
func FuzzNames(f *testing.F) {
	for _, name := range []string{"/etc/passwd", "/a\nb", "/bad\xff", "/\u202e", "/\xed\xa0\x80", "/\U000e0001", `/"\`, "/\ufffd", "/\x7f", "/<é>"} {
		f.Add(name, "/other")
	}
	read := func(t *testing.T, name string) (string, string) {
		t.Helper()
		c := &collector{limits: Limits{ListBytes: 1 << 30}, bounds: map[Bound]bool{}, result: &Changes{}}
		if err := c.add(opCreated, name, nil, &state{Target: text(name)}); err != nil {
			t.Fatal(err)
		}
		changes, err := c.finish()
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(changes.Lines()), "\n")
		if len(lines) != 3 || lines[2] != "" {
			t.Fatalf("%q gives %d lines", name, len(lines))
		}
		for _, r := range lines[1] {
			if !unicode.IsPrint(r) || r == utf8.RuneError {
				t.Fatalf("%q gives %q, unsafe to print", name, lines[1])
			}
		}
		var e struct {
			Path string
			Raw  []byte
			New  struct{ Target string }
		}
		if err := json.Unmarshal([]byte(lines[1]), &e); err != nil {
			t.Fatalf("%q gives %s: %v", name, lines[1], err)
		}
		if (len(e.Raw) == 0) != utf8.ValidString(name) || e.New.Target != e.Path || e.Path != strings.ToValidUTF8(name, "") && utf8.ValidString(name) {
			t.Fatalf("%q gives %s", name, lines[1])
		}
		if len(e.Raw) > 0 {
			return string(e.Raw), lines[1]
		}
		return e.Path, lines[1]
	}
	f.Fuzz(func(t *testing.T, name, other string) {
		back, one := read(t, name)
		if back != name {
			t.Fatalf("%q comes back as %q", name, back)
		}
		if _, two := read(t, other); name != other && one == two {
			t.Fatalf("%q and %q give the same line", name, other)
		}
	})
}
