// SPDX-License-Identifier: Apache-2.0

// Package docs_test holds the documentation to the code: the examples are read by the packages that own the formats,
// and links between pages lead somewhere.
package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/attest/token"
	"github.com/kettle/attest/runner/config"
)

// readers says which package reads which example, by the name in `<!-- example: NAME -->`.
var readers = map[string]func(t *testing.T, text string) error{
	"context": func(_ *testing.T, text string) error {
		_, err := binding.Parse([]byte(strings.TrimSuffix(text, "\n")))
		return err
	},
	"event-log": func(_ *testing.T, text string) error {
		_, err := eventlog.Parse([]byte(text))
		return err
	},
	"boot": func(t *testing.T, text string) error {
		s, err := statement.ParseBoot([]byte(strings.TrimSuffix(text, "\n")))
		if err == nil {
			same(t, text, s.Marshal)
		}
		return err
	},
	"response": func(t *testing.T, text string) error {
		s, err := statement.ParseResponse([]byte(strings.TrimSuffix(text, "\n")))
		if err == nil {
			same(t, text, s.Marshal)
		}
		return err
	},
	"provenance": func(_ *testing.T, text string) error {
		_, err := statement.ParseProvenance([]byte(text))
		return err
	},
	"reference-values": func(t *testing.T, text string) error {
		s, err := statement.ParseReferenceValues([]byte(strings.TrimSuffix(text, "\n")))
		if err == nil {
			same(t, text, s.Marshal)
		}
		return err
	},
	"vsa-environment": func(t *testing.T, text string) error {
		s, err := statement.ParseEnvironmentVSA([]byte(strings.TrimSuffix(text, "\n")))
		if err == nil {
			same(t, text, s.Marshal)
		}
		return err
	},
	"policy": func(_ *testing.T, text string) error {
		_, err := policy.Parse([]byte(text))
		return err
	},
	"trust": func(_ *testing.T, text string) error {
		_, err := token.ParseTrust([]byte(text))
		return err
	},
	"config": func(_ *testing.T, text string) error {
		_, err := config.Parse([]byte(text))
		return err
	},
}

// same demands that an example is what the code writes, byte for byte.
func same(t *testing.T, text string, marshal func() ([]byte, error)) {
	t.Helper()
	got, err := marshal()
	if err != nil {
		t.Fatal(err)
	}
	if string(got)+"\n" != text {
		t.Errorf("the code writes the example differently:\n got %s\nwant %s", got, text)
	}
}

var example = regexp.MustCompile("(?s)<!-- example: ([a-z-]+) -->\n```[a-z]+\n(.*?)```")

func TestExamples(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for page, text := range pages(t) {
		if marks, found := strings.Count(text, "<!-- example:"), len(example.FindAllString(text, -1)); marks != found {
			t.Errorf("%s: %d examples are marked, %d are followed by a code block", page, marks, found)
		}
		for _, m := range example.FindAllStringSubmatch(text, -1) {
			read, ok := readers[m[1]]
			if !ok {
				t.Errorf("%s: nobody reads the example %q", page, m[1])
				continue
			}
			seen[m[1]] = true
			if err := read(t, m[2]); err != nil {
				t.Errorf("%s: the example %q is refused: %v", page, m[1], err)
			}
		}
	}
	for name := range readers {
		if !seen[name] {
			t.Errorf("no page shows the example %q", name)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)

// TestLinks follows every relative link.
func TestLinks(t *testing.T) {
	t.Parallel()
	for page, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target := filepath.Join(filepath.Dir(page), m[1])
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which is not there", page, m[1])
			}
		}
	}
}

// pages reads every page of the project by its path from this folder.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"../*.md", "*.md", "*/*.md"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			out[name] = string(text)
		}
	}
	if len(out) < 10 {
		t.Fatalf("found %d pages", len(out))
	}
	return out
}
