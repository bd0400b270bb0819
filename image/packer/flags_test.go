// SPDX-License-Identifier: Apache-2.0

package packer_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestFlagsExist: every flag that the templates and the workflow give to kettle is one that kettle has.
func TestFlagsExist(t *testing.T) {
	t.Parallel()
	kettle := filepath.Join(t.TempDir(), "kettle")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", kettle, "../../cmd/kettle").CombinedOutput(); err != nil { //nolint:gosec // our own program.
		t.Fatalf("go build: %v\n%s", err, out)
	}
	// A call goes on to the end of its line, or over lines that end in a backslash or lie in the parentheses of an array.
	calls := regexp.MustCompile(`image (build|attest) ((?:[^\n]|\\\n|\n +--)*)`)
	flags := regexp.MustCompile(`--[a-z-]+`)
	found := map[string]int{}
	for _, file := range []string{"image.pkr.hcl", workflow} {
		b, err := os.ReadFile(file) //nolint:gosec // our own files.
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range calls.FindAllStringSubmatch(string(b), -1) {
			help, err := exec.CommandContext(t.Context(), kettle, "image", call[1], "--help").CombinedOutput() //nolint:gosec // our own program.
			if err != nil {
				t.Fatalf("kettle image %s --help: %v\n%s", call[1], err, help)
			}
			for _, flag := range flags.FindAllString(call[2], -1) {
				found[call[1]]++
				if !strings.Contains(string(help), " "+flag+" ") {
					t.Errorf("%s: kettle image %s has no %s", file, call[1], flag)
				}
			}
		}
	}
	if found["build"] < 10 || found["attest"] < 5 {
		t.Errorf("only %v flags were found", found)
	}
}
