// SPDX-License-Identifier: Apache-2.0

package outputs

import (
	"errors"
	"path"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/refusal"
)

const someSum = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

// checkClaims demands of any parser's output what opening and naming rely on.
func checkClaims(t *testing.T, claims []claim, err error) {
	t.Helper()
	if err != nil {
		if !errors.Is(err, refusal.ErrNotVerified) {
			t.Fatalf("not a refusal: %v", err)
		}
		return
	}
	if len(claims) == 0 {
		t.Fatal("accepted nothing")
	}
	for _, c := range claims {
		if c.name == "" || len(c.name) > maxName || path.IsAbs(c.name) || path.Clean(c.name) != c.name ||
			strings.HasPrefix(c.name, "..") && (c.name == ".." || c.name[2] == '/') || !printable(c.name) {
			t.Fatalf("accepted the name %q", c.name)
		}
	}
}

func FuzzChecksums(f *testing.F) {
	f.Add([]byte(someSum + "  dist/app\n"))
	f.Add([]byte(someSum + " *./dist/app\n\n" + someSum + "  ../x"))
	f.Add([]byte("\\" + someSum + "  a\\nb\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		claims, err := parseChecksums(raw)
		checkClaims(t, claims, err)
	})
}

func FuzzArtifactsList(f *testing.F) {
	f.Add([]byte(`{"version":1,"subjects":[{"name":"dist/app","digest":"sha256:` + someSum + `","kind":"file"}]}`))
	f.Add([]byte(`{"version":1,"version":1,"subjects":null}`))
	f.Add([]byte(`[[[[[[]]]]]]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		claims, err := parseArtifactsList(raw)
		checkClaims(t, claims, err)
	})
}

// A pattern of the job never panics, and what it matches lies below its fixed part.
func FuzzPattern(f *testing.F) {
	f.Add("dist/**/*.tar.gz", "/ws/dist/a/b.tar.gz")
	f.Add("!{a,b/c}[^x]?", "/ws/b/cy")
	f.Add("../../**", "/etc/passwd")
	f.Fuzz(func(t *testing.T, text, abs string) {
		c := &collector{req: Request{Workspace: "/ws"}}
		p, err := c.parsePattern(text)
		if err != nil {
			return
		}
		abs = path.Clean("/" + abs)
		if p.match(abs) && abs != p.base {
			if _, ok := below(p.base, abs); !ok {
				t.Fatalf("%q matches %q outside of %q", text, abs, p.base)
			}
		}
	})
}
