// SPDX-License-Identifier: Apache-2.0

package stubrunner_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kettle/attest/runner/door"
)

// installed is where the image has the program that action.yml and the started hook start.
const installed = "/usr/lib/kettle/kettle-action"

// buildAction makes kettle-action as it is in the image: static.
var buildAction = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kettle-action")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "kettle-action")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "../../cmd/kettle-action")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

// kettled is the other side of the door: it hashes what it is asked to, by itself, and remembers it.
type kettled struct {
	out string

	mu      sync.Mutex
	started []door.Started
	asked   []door.Attest
	digests map[string]string // of the files that were attested, by their paths
}

func (k *kettled) Started(_ context.Context, s door.Started) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.started = append(k.started, s)
	return nil
}

func (k *kettled) Status(context.Context) (door.Status, error) {
	return door.Status{Phase: "running"}, nil
}

func (k *kettled) Attest(_ context.Context, a door.Attest) (door.Attested, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked = append(k.asked, a)
	r := door.Attested{Platform: "sim", Bundle: filepath.Join(k.out, "bundle"), Statement: filepath.Join(k.out, "statement"), Checksums: filepath.Join(k.out, "sums")}
	for _, p := range a.Paths {
		data, err := os.ReadFile(filepath.Join(a.Workspace, p))
		if err != nil {
			return r, err
		}
		sum := sha256.Sum256(data)
		k.digests[filepath.Join(a.Workspace, p)] = hex.EncodeToString(sum[:])
		r.Subjects = append(r.Subjects, door.Subject{Name: p, Digest: hex.EncodeToString(sum[:])})
	}
	r.SubjectCount = len(r.Subjects)
	for _, path := range []string{r.Bundle, r.Statement, r.Checksums} {
		if err := os.WriteFile(path, []byte("{}\n"), 0o600); err != nil {
			return r, err
		}
	}
	return r, nil
}

// openDoor serves a door until the test ends and gives kettled and the path of its socket.
func openDoor(t *testing.T) (*kettled, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "door") //nolint:usetesting // t.TempDir may exceed the 108 bytes of a socket's path.
	if err != nil {
		t.Fatal(err)
	}
	k := &kettled{out: dir, digests: map[string]string{}}
	path := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	s := &door.Server{Handler: k, Check: func(context.Context, door.Peer) error { return nil }}
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(dir)
	})
	return k, path
}

// published reads a file of the project with the program's place and door put in.
func published(t *testing.T, name, socket string) string {
	t.Helper()
	program, err := buildAction()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, command := range []string{"attest", "started"} {
		text = strings.ReplaceAll(text, installed+" "+command, program+" "+command+" --door "+socket)
	}
	return strings.ReplaceAll(text, installed, program)
}

// poisoned leaves everything that it can in the environment of the step that attests: folders of its own programs in front
// of PATH, files that shells read, functions, settings of the dynamic linker (which then writes a file for each program
// that it starts), a proxy, and the action's own inputs. The programs and files say who ran them with which token.
const poisoned = `
on: workflow_dispatch
jobs:
  build:
    runs-on: tee
    steps:
      - shell: bash
        run: |
          evil="$HOME/evil"; mkdir -p "$evil" "$HOME/ld" dist; printf honest > dist/app; printf forged > dist/other
          for name in bash sh dash env cat exec kettle-action sha256sum; do
            printf '#!/bin/sh\necho "%s ${INPUT_GITHUB_TOKEN:-none}" >> "%s/ran"\n' "$name" "$HOME" > "$evil/$name"; chmod +x "$evil/$name"
          done
          printf 'echo "file ${INPUT_GITHUB_TOKEN:-none}" >> "%s/ran"\n' "$HOME" > "$HOME/evil.sh"
          echo "$evil" >> "$GITHUB_PATH"
          cat >> "$GITHUB_ENV" <<EOF
          PATH=$evil
          BASH_ENV=$HOME/evil.sh
          ENV=$HOME/evil.sh
          IFS=/
          PS4=\$(echo "trace \${INPUT_GITHUB_TOKEN:-none}" >> $HOME/ran)
          BASH_FUNC_exec%%=() { echo "function \${INPUT_GITHUB_TOKEN:-none}" >> $HOME/ran; }
          LD_DEBUG=files
          LD_DEBUG_OUTPUT=$HOME/ld/started
          LD_PRELOAD=$HOME/evil.so
          LD_LIBRARY_PATH=$evil
          HTTPS_PROXY=http://127.0.0.1:9
          https_proxy=http://127.0.0.1:9
          INPUT_SUBJECT_PATH=dist/other
          GITHUB_WORKSPACE=/etc
          GITHUB_OUTPUT=$HOME/output
          EOF
      - id: attest
        uses: acme/attest@v1
        with: {subject-path: dist/app, github-attestation: false}
`

// poison runs the poisoned workflow with an action.yml.
func poison(t *testing.T, k *kettled, action string) *world {
	t.Helper()
	w := newWorld(t, map[string]string{".github/workflows/build.yml": poisoned})
	w.addRepository("attest", 3, map[string]string{"action.yml": action})
	job, l := w.run(nil)
	if job.Conclusion != "success" {
		t.Errorf("conclusion %s: %s%s\n%s", job.Conclusion, l.out, l.err, w.log(job))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	app := filepath.Join(w.root, "_work/widget/widget/dist/app")
	want := sha256.Sum256([]byte("honest"))
	if len(k.asked) != 1 || len(k.digests) != 1 || k.digests[app] != hex.EncodeToString(want[:]) {
		t.Errorf("asked %+v, attested %v", k.asked, k.digests)
	}
	return w
}

// ran tells what of the poison ran with the token of the step that attests, and in which programs the dynamic linker did.
func (w *world) ran() (stolen, linked string) {
	w.t.Helper()
	raw, err := os.ReadFile(filepath.Join(w.root, "ran"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if !strings.HasSuffix(line, " none\n") {
			stolen += line
		}
	}
	files, err := filepath.Glob(filepath.Join(w.root, "ld/started.*"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			w.t.Fatal(err)
		}
		linked += string(text)
	}
	return stolen, linked
}

// TestAttackPoison attests in a poisoned environment. Nothing of the poison runs in the step that attests, and what is
// attested is what the workflow says.
func TestAttackPoison(t *testing.T) {
	t.Parallel()
	k, socket := openDoor(t)
	w := poison(t, k, published(t, "../../action.yml", socket))
	stolen, linked := w.ran()
	if stolen != "" || strings.Contains(linked, "kettle-action") {
		t.Errorf("in the step that attests ran:\n%s%s", stolen, linked)
	}
	if linked == "" { // the step before it looks for the program with a shell
		t.Error("there is no poison")
	}
}

// TestPoisonWorks shows that the poison is one: a shell that starts the program, as most actions have it, runs some of it
// with the step's token. Even so, what is attested is what stands in the file.
func TestPoisonWorks(t *testing.T) {
	t.Parallel()
	k, socket := openDoor(t)
	program, err := buildAction()
	if err != nil {
		t.Fatal(err)
	}
	w := poison(t, k, `
inputs: {subject-path: {}, github-attestation: {}, github-token: {default: "${{ github.token }}"}}
runs:
  using: composite
  steps:
    - shell: /bin/bash --noprofile --norc -e {0}
      env: {INPUT_SUBJECT_PATH: "${{ inputs.subject-path }}", INPUT_GITHUB_ATTESTATION: "false", INPUT_GITHUB_TOKEN: "${{ inputs.github-token }}"}
      run: `+program+` attest --door `+socket+`
`)
	stolen, linked := w.ran()
	if !strings.Contains(stolen, "file ghs_") || !strings.Contains(linked, "calling init") {
		t.Errorf("the poison does nothing: %q, %.500s", stolen, linked)
	}
}

// early has its poison in the workflow file, where it stands before any step runs.
const early = `
on: workflow_dispatch
env: {PATH: "$HOME/evil", BASH_ENV: "/tmp/$(id)", LD_DEBUG: files, LD_DEBUG_OUTPUT: "OUTPUT/workflow", GITHUB_REPOSITORY: acme/other, GITHUB_RUN_ID: "1"}
jobs:
  build:
    runs-on: tee
    env: {ENV: "/tmp/$(id)", LD_DEBUG: files, LD_DEBUG_OUTPUT: "OUTPUT/job", RUNNER_NAME: other, ACTIONS_ID_TOKEN_REQUEST_URL: https://evil.test/, "BASH_FUNC_trap%%": "() { exit 0; }"}
    steps:
      - run: "true"
        env: {PATH: /usr/bin:/bin}
`

// TestAttackEarlyPoison tries the same on the started hook. No step has run before it, and what a workflow writes under
// env is for its steps: the runner gives a hook neither (JobHookProvider.cs).
func TestAttackEarlyPoison(t *testing.T) {
	t.Parallel()
	k, socket := openDoor(t)
	output := t.TempDir()
	w := newWorld(t, map[string]string{".github/workflows/build.yml": strings.ReplaceAll(early, "OUTPUT", output)})
	w.hook("STARTED", published(t, "../../action/started.sh", socket))
	job, l := w.run(nil)
	if job.Conclusion != "success" {
		t.Errorf("conclusion %s: %s%s\n%s", job.Conclusion, l.out, l.err, w.log(job))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.started) != 1 {
		t.Fatalf("%d started hooks", len(k.started))
	}
	c := k.started[0].Claims
	if c["GITHUB_REPOSITORY"] != "acme/widget" || c["GITHUB_RUN_ID"] == "1" || c["RUNNER_NAME"] != "r1" || k.started[0].IDToken != nil {
		t.Errorf("claims %v, token %v", c, k.started[0].IDToken)
	}
	files, err := filepath.Glob(output + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if text, err := os.ReadFile(name); err != nil || strings.Contains(string(text), "started.sh") || strings.Contains(string(text), "kettle-action") {
			t.Errorf("the hook ran with the job's environment: %v\n%s", err, text)
		}
	}
}
