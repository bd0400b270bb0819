// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kettle/attest/internal/stubrunner/expr"
	"github.com/kettle/attest/internal/stubrunner/message"
)

func TestParsePairs(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text string
		want []pair
		bad  bool
	}{
		"empty":             {text: ""},
		"plain":             {text: "a=1\nb=x=y\n\nc=", want: []pair{{"a", "1"}, {"b", "x=y"}, {"c", ""}}},
		"equals before <<":  {text: "a=1<<2\n", want: []pair{{"a", "1<<2"}}},
		"heredoc":           {text: "a<<E\n1\n\n2\nE\nb=3\n", want: []pair{{"a", "1\n\n2"}, {"b", "3"}}},
		"empty heredoc":     {text: "a<<E\nE\n", want: []pair{{"a", ""}}},
		"heredoc at end":    {text: "a<<E\n1\nE", want: []pair{{"a", "1"}}},
		"no delimiter":      {text: "x=1\na<<E\n1\n", want: []pair{{"x", "1"}}, bad: true},
		"no newline":        {text: "a<<E\n1", bad: true},
		"nameless":          {text: "<<E\nE\n", bad: true},
		"no delimiter name": {text: "a<<\n", bad: true},
		"neither":           {text: "word\n", bad: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parsePairs(tt.text)
			if (err != nil) != tt.bad || !cmp.Equal(got, tt.want, cmp.AllowUnexported(pair{})) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestParseCommand(t *testing.T) {
	t.Parallel()
	tests := map[string]*workflowCommand{
		"plain":                      nil,
		"::half":                     nil,
		"::a b=1,c=x%2Cy::d%0Ae:: f": {"a", map[string]string{"b": "1", "c": "x,y"}, "d\ne:: f"},
		"  ::Add-Mask::x":            {"add-mask", map[string]string{}, "x"},
		"text ##[error]x":            {"error", map[string]string{}, "x"},
		"##[x a=1;b=2%3B]":           {"x", map[string]string{"a": "1", "b": "2;"}, ""},
		"##[open":                    nil,
	}
	for line, want := range tests {
		got, ok := parseCommand(line)
		if want == nil {
			if ok {
				t.Errorf("%q was read as %v", line, got)
			}
			continue
		}
		if !ok || !cmp.Equal(got, *want, cmp.AllowUnexported(workflowCommand{})) {
			t.Errorf("%q: got %v, %v", line, got, ok)
		}
	}
}

func TestParseSubject(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.bin"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := subject{"a.bin", "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", "file"}
	digest := "sha256:" + strings.Repeat("AB", 32)
	image := subject{"ghcr.io/acme/x", strings.ToLower(digest), "oci"}
	for line, want := range map[string]subject{
		"a.bin": file, "./a.bin": file, "FILE://a.bin": file, filepath.Join(dir, "a.bin"): file,
		"ghcr.io/acme/x@" + digest: image, "oci://ghcr.io/acme/x@" + digest: image,
	} {
		if got, err := parseSubject(line, dir); got != want || err != nil {
			t.Errorf("%q: got %v, %v", line, got, err)
		}
	}
	for _, line := range []string{"a=b", "file:// ", "oci://x", "https://x/y", "absent", ".", "oci://x@sha256:ab", "oci://@" + digest, "/dev/null"} {
		if got, err := parseSubject(line, dir); err == nil {
			t.Errorf("%q was read as %v", line, got)
		}
	}
}

func TestSplitArguments(t *testing.T) {
	t.Parallel()
	got := splitArguments(`-e  {0} "a b" "" c"d e"`)
	if diff := cmp.Diff([]string{"-e", "{0}", "a b", "", "cd e"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestHashFiles(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	github := expr.NewObject()
	github.Set("repository", "acme/widget")
	j := &Job{config: Config{Work: work}, message: &message.Job{ContextData: map[string]message.Data{"github": {Value: github}}}}
	for _, name := range []string{"a.txt", "d/b.txt", "d/c.md"} {
		path := filepath.Join(j.workspace(), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hash := func(patterns ...string) string {
		t.Helper()
		sum, err := j.hashFiles(patterns)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	all := hash("**")
	if all == "" || all != hash("a.txt", "d") || all != hash("a.txt\nd/**") || all == hash("**/*.txt") {
		t.Error("the selection is wrong")
	}
	if hash("**", "!d/c.md") != hash("**/*.txt") {
		t.Error("an exclusion has no effect")
	}
	if hash("nothing") != "" {
		t.Error("no file has a hash")
	}
	if _, err := j.hashFiles([]string{"[a"}); err == nil {
		t.Error("a wrong pattern was used")
	}
}

func FuzzFiles(f *testing.F) {
	f.Add("a=1\nb<<E\nx\nE\n")
	f.Add("::a b=1::c")
	f.Add("##[a b=1]c")
	f.Fuzz(func(t *testing.T, text string) {
		pairs, err := parsePairs(text)
		for _, p := range pairs {
			if err == nil && strings.Contains(p.name, "\n") {
				t.Errorf("a name with a line break: %q", p.name)
			}
		}
		parseCommand(text)
		splitArguments(text)
		_, _ = imageSubject(text)
	})
}
