// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/runner/door"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kettle-action": main})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		Setup:               setUp,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		RequireExplicitExec: true, RequireUniqueNames: true,
	})
}

// setUp gives each script a kettled behind a door and a GitHub, and the environment of a step.
func setUp(env *testscript.Env) error {
	dir, err := os.MkdirTemp("", "door") // the folder of a script may be too long for a socket
	if err != nil {
		return err
	}
	env.Defer(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &door.Server{Handler: kettled{out: env.WorkDir}, Check: func(context.Context, door.Peer) error { return nil }}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	env.Defer(func() { cancel(); <-done })
	srv := httptest.NewUnstartedServer(http.HandlerFunc(attestations))
	srv.StartTLS()
	env.Defer(srv.Close)
	roots := filepath.Join(env.WorkDir, "roots.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	env.Setenv("LF", "\n")
	env.Setenv("DOOR", socket)
	env.Setenv("SSL_CERT_FILE", roots)
	env.Setenv("GITHUB_API_URL", srv.URL)
	env.Setenv("GITHUB_WORKSPACE", env.WorkDir)
	env.Setenv("GITHUB_REPOSITORY", "acme/widget")
	env.Setenv("GITHUB_OUTPUT", filepath.Join(env.WorkDir, "output"))
	env.Setenv("GITHUB_STEP_SUMMARY", filepath.Join(env.WorkDir, "summary"))
	env.Setenv("RUNNER_TEMP", env.WorkDir)
	return os.WriteFile(roots, cert, 0o600)
}

// attestations is GitHub's attestations API; the token says what it answers.
func attestations(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Bundle json.RawMessage `json:"bundle"`
	}
	err := json.NewDecoder(r.Body).Decode(&body)
	w.Header().Set("X-GitHub-Request-Id", "REQ:9")
	switch token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "); {
	case r.Method+" "+r.URL.Path != "POST /repos/acme/widget/attestations" || err != nil || !strings.Contains(string(body.Bundle), "dsseEnvelope"):
		w.WriteHeader(http.StatusTeapot)
	case token == "good":
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"id":4711}`)
	case token == "redirect":
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	default:
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"message":"Resource not accessible\n::error::by integration"}`)
	}
}

// kettled answers by what it is asked: a name or job key "refuse CODE" is refused, "hang" waits, "break" hangs up.
type kettled struct{ out string }

func (k kettled) react(ctx context.Context, word string) error {
	switch {
	case strings.HasPrefix(word, "refuse "):
		return &refusal.Refusal{
			Link: "outputs", Code: refusal.Code(strings.TrimPrefix(word, "refuse ")), Want: "a good request", Got: "a bad one", Next: "do better",
		}
	case word == "hang":
		<-ctx.Done()
	case word == "break":
		return errors.New("out of luck")
	}
	return nil
}

func (k kettled) Started(ctx context.Context, s door.Started) error {
	if s.IDToken != nil && s.IDToken.Token.Reveal() != "bearer" {
		return errors.New("bearer")
	}
	return k.react(ctx, s.Claims["GITHUB_JOB"])
}

func (k kettled) Status(context.Context) (door.Status, error) {
	return door.Status{Phase: "running", Platform: "sim", Runner: "host-1-2", BuildID: "https://github.example/b", Responses: 1}, nil
}

func (k kettled) Attest(ctx context.Context, a door.Attest) (door.Attested, error) {
	if err := k.react(ctx, a.Name); err != nil || a.Name == "hang" {
		return door.Attested{}, err
	}
	seen, err := json.Marshal(a)
	if err != nil {
		return door.Attested{}, err
	}
	payload := base64.StdEncoding.EncodeToString([]byte(`{"predicateType":"https://slsa.dev/provenance/v1"}`))
	other := base64.StdEncoding.EncodeToString([]byte(`{"predicateType":"https://in-toto.io/attestation/scai/v0.3"}`))
	r := door.Attested{
		Sequence: 1, Dir: k.out, Platform: "sim", BuilderID: "https://github.com/kettle/attest/builders/sim/default/v1", Level: "none",
		BuildID: "https://github.example/acme/widget/actions/runs/1/attempts/1/job/2", Identity: "acme/widget/.github/workflows/b.yml@refs/heads/main",
		IdentitySource: "token", Measurement: strings.Repeat("ab", 48), StatementKey: strings.Repeat("cd", 32),
	}
	r.Bundle, r.Statement, r.Checksums = filepath.Join(k.out, "b.jsonl"), filepath.Join(k.out, "s.json"), filepath.Join(k.out, "sums")
	for name, text := range map[string]string{
		"b.jsonl": `{"dsseEnvelope":{"payload":"` + other + `"}}` + "\n" + `{"dsseEnvelope":{"payload":"` + payload + `"}}` + "\n",
		"s.json":  "{}", "sums": "x", "seen.json": string(seen),
	} {
		if err := os.WriteFile(filepath.Join(k.out, name), []byte(text), 0o600); err != nil {
			return r, err
		}
	}
	if len(a.Paths) > 0 && a.Paths[0] == "empty reply" {
		return door.Attested{}, nil
	}
	for i, p := range a.Paths {
		r.Subjects = append(r.Subjects, door.Subject{Name: p, Digest: fmt.Sprintf("%064x", i)})
	}
	r.SubjectCount = len(r.Subjects)
	return r, nil
}

// exits runs a program and demands its exit code: exits [-interrupt] CODE PROGRAM ARG….
func exits(ts *testscript.TestScript, neg bool, args []string) {
	interrupt := len(args) > 0 && args[0] == "-interrupt"
	if interrupt {
		args = args[1:]
	}
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits [-interrupt] CODE PROGRAM ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	program, err := exec.LookPath(args[1])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args[2:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = ts.MkAbs("."), ts.Stdout(), ts.Stderr()
	var errs strings.Builder
	cmd.Stderr = io.MultiWriter(ts.Stderr(), &errs)
	for _, name := range []string{
		"PATH", "HOME", "TMPDIR", "SSL_CERT_FILE", "GITHUB_ACTIONS", "GITHUB_API_URL", "GITHUB_WORKSPACE", "GITHUB_REPOSITORY", "GITHUB_OUTPUT",
		"GITHUB_STEP_SUMMARY", "GITHUB_JOB", "RUNNER_TEMP", "INPUT_SUBJECT_PATH", "INPUT_SUBJECT_NAME", "INPUT_GITHUB_TOKEN",
		"ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "TESTSCRIPT_COMMAND",
	} {
		if v := ts.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	ts.Check(cmd.Start())
	if interrupt {
		time.Sleep(300 * time.Millisecond)
		ts.Check(cmd.Process.Signal(os.Interrupt))
	}
	_ = cmd.Wait() // the code is what counts
	if got := cmd.ProcessState.ExitCode(); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
	if slices.Contains(args, "bearer") || strings.Contains(errs.String(), "bearer") {
		ts.Fatalf("the token was shown")
	}
}
