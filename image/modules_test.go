// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/kettle/attest/image"
)

func TestModules(t *testing.T) {
	t.Parallel()
	want := []image.Module{{File: "a.ko"}, {File: "brd.ko", Parameters: []string{"rd_nr=1", "rd_size=1024"}}, {File: "xt_MASQUERADE.ko"}, {File: "gve.ko", Optional: true}}
	text, err := image.FormatModules(want)
	if err != nil || text != "a.ko\nbrd.ko rd_nr=1 rd_size=1024\nxt_MASQUERADE.ko\n?gve.ko\n" {
		t.Fatalf("got %q, %v", text, err)
	}
	got, err := image.ParseModules(text)
	if err != nil || !slices.EqualFunc(got, want, func(a, b image.Module) bool { return a.String() == b.String() }) {
		t.Errorf("want %v, got %v, %v", want, got, err)
	}
}

func TestModulesRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing":             "",
		"an empty line":       "\n",
		"no last end":         "a.ko",
		"a path":              "../a.ko\n",
		"an absolute path":    "/etc/a.ko\n",
		"compressed":          "a.ko.xz\n",
		"no module":           "a\n",
		"twice":               "a.ko\na.ko\n",
		"optional and not":    "a.ko\n?a.ko\n",
		"twice optional":      "??a.ko\n",
		"a mark at the end":   "a.ko?\n",
		"a mark alone":        "?\n",
		"a mark and a space":  "? a.ko\n",
		"a space at the end":  "a.ko \n",
		"two spaces":          "a.ko  b=1\n",
		"a space first":       " a.ko\n",
		"a tab":               "a.ko\tb=1\n",
		"a carriage return":   "a.ko\r\n",
		"a bare parameter":    "a.ko force\n",
		"an empty value":      "a.ko b=\n",
		"an empty name":       "a.ko =1\n",
		"a quoted value":      "a.ko b=\"1 2\"\n",
		"a parameter's comma": "a.ko b=1,2\n",
		"a zero byte":         "a.ko b=1\x00\n",
		"too long":            "a.ko\n" + strings.Repeat("b", 64<<10) + ".ko\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := image.ParseModules(text); err == nil {
				t.Errorf("%.40q was accepted as %v", text, got)
			}
		})
	}
	for _, modules := range [][]image.Module{nil, {{}}, {{File: "a.ko", Parameters: []string{"b=1 c=2"}}}, {{File: "a.ko\nb.ko"}}} {
		if text, err := image.FormatModules(modules); err == nil {
			t.Errorf("%v was written as %q", modules, text)
		}
	}
}

func FuzzParseModules(f *testing.F) {
	f.Add("a.ko\nbrd.ko rd_nr=1 rd_size=1024\n")
	f.Add("a.ko\na.ko\n")
	f.Add("?a.ko\nb.ko\n")
	f.Fuzz(func(t *testing.T, text string) {
		modules, err := image.ParseModules(text)
		if err != nil {
			return
		}
		if again, err := image.FormatModules(modules); err != nil || again != text {
			t.Fatalf("two spellings: %q and %q, %v", text, again, err)
		}
	})
}
