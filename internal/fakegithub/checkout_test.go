// SPDX-License-Identifier: Apache-2.0

package fakegithub_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The stand-in for actions/checkout is a script: run it as a runner would, with a private repository and a job's token.
func TestCheckout(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"bash", "curl", "tar"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	s, base := start(t)
	raw, err := os.ReadFile(filepath.Join("checkout", "action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var action struct {
		Runs struct {
			Using string
			Steps []struct{ Run string }
		}
	}
	if err := yaml.Unmarshal(raw, &action); err != nil || action.Runs.Using != "composite" || len(action.Runs.Steps) != 1 {
		t.Fatalf("%+v: %v", action, err)
	}
	sha, _ := s.Commit("acme", "safe", "main")
	run := func(t *testing.T, token, ref, path string) (string, string, error) {
		t.Helper()
		dir := t.TempDir()
		for _, d := range []string{"work", "temp"} {
			if err := os.Mkdir(filepath.Join(dir, d), 0o750); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), "bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", action.Runs.Steps[0].Run)
		cmd.Env = append(os.Environ(), "IN_REPOSITORY=acme/safe", "IN_REF="+ref, "IN_TOKEN="+token, "IN_PATH="+path, "GITHUB_REPOSITORY=acme/safe",
			"GITHUB_SHA="+sha, "GITHUB_API_URL="+base, "GITHUB_WORKSPACE="+filepath.Join(dir, "work"), "RUNNER_TEMP="+filepath.Join(dir, "temp"),
			"GITHUB_OUTPUT="+filepath.Join(dir, "output"))
		text, err := cmd.CombinedOutput()
		if err != nil {
			t.Logf("%s", text)
		}
		left, globErr := filepath.Glob(filepath.Join(dir, "temp", "*"))
		if globErr != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, globErr)
		}
		return filepath.Join(dir, "work"), filepath.Join(dir, "output"), err
	}
	for name, test := range map[string]struct{ ref, path, want string }{
		"own commit": {"", ".", sha}, "branch": {"main", "sub dir", "main"},
	} {
		t.Run(name, func(t *testing.T) {
			work, output, err := run(t, operatorToken, test.ref, test.path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(work, test.path, ".github", "workflows", "build.yml")); err != nil {
				t.Error(err)
			}
			got, err := os.ReadFile(output)
			if err != nil || string(got) != "ref="+test.want+"\ncommit="+sha+"\n" {
				t.Errorf("outputs %q: %v", got, err)
			}
		})
	}
	t.Run("wrong token", func(t *testing.T) {
		if work, _, err := run(t, "ghs_wrong", "", "."); err == nil {
			t.Errorf("no error; %s", work)
		}
	})
	if !strings.Contains(string(raw), "stand-in") {
		t.Error("the action must say what it is")
	}
}
