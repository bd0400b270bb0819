// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kettle/attest/image/build"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		want []build.Profile
	}{
		{"", []build.Profile{build.Strict, build.Docker}},
		{"--profile strict", []build.Profile{build.Strict}},
		{"--profile docker", []build.Profile{build.Docker}},
		{"--kernel", []build.Profile{build.Strict, build.Docker}}, // not looked at
	} {
		r, err := parse(strings.Fields(tt.args), io.Discard)
		if err != nil || !slices.Equal(r.profiles, tt.want) || r.kernelOnly != (tt.args == "--kernel") {
			t.Errorf("%q: got %+v, %v", tt.args, r, err)
		}
	}
	for _, args := range []string{
		"--profile loose", "--kernel --profile strict", "--kernel --output /x", "--output /x --profile strict", "word", "--what",
		"--output /x --firmware /f --settings /nowhere",
	} {
		if r, err := parse(strings.Fields(args), io.Discard); err == nil {
			t.Errorf("%q: got %+v", args, r)
		}
	}
}

// TestProfileOfTheImage takes the profile from the configuration and from nowhere else.
func TestProfileOfTheImage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	_, config, _ := strings.Cut(string(text), "<!-- example: config -->\n```yaml\n")
	config, _, _ = strings.Cut(config, "```")
	dir := t.TempDir()
	put := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"--output", "/x", "--firmware", "/f", "--settings", dir}
	put(config)
	if r, err := parse(args, io.Discard); err != nil || r.image.Profile != build.Strict {
		t.Errorf("got %q, %v", r.image.Profile, err)
	}
	put(strings.Replace(config, "profile: strict", "profile: loose", 1))
	if r, err := parse(args, io.Discard); err == nil {
		t.Errorf("got %q", r.image.Profile)
	}
}
