// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/cmd/internal/cli"
)

func TestReadPrivate(t *testing.T) {
	t.Parallel()
	const limit = 32 << 10
	dir := t.TempDir()
	for name, tt := range map[string]struct {
		content string
		mode    os.FileMode
		says    string
	}{
		"own":              {" a secret\n", 0o600, ""},
		"as large":         {strings.Repeat("x", limit), 0o400, ""},
		"too large":        {strings.Repeat("x", limit+1), 0o600, "more than 32768 bytes"},
		"of a group":       {"a secret", 0o640, "chmod 600"},
		"of everybody":     {"a secret", 0o604, "chmod 600"},
		"for one to write": {"a secret", 0o602, "chmod 600"},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		got, err := cli.ReadPrivate(path)
		switch {
		case tt.says == "" && (err != nil || got.Reveal() != strings.TrimSpace(tt.content)):
			t.Errorf("%s: %v", name, err)
		case tt.says != "" && (err == nil || !got.Empty() || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "a secret")):
			t.Errorf("%s: %v; want %q", name, err, tt.says)
		}
	}
	for name, path := range map[string]string{"a folder": dir, "nothing": filepath.Join(dir, "none")} {
		if got, err := cli.ReadPrivate(path); err == nil || !got.Empty() {
			t.Errorf("%s: no error", name)
		}
	}
}
