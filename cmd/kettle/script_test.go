// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/cmd/internal/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kettle": main})
}

// fixture is the files that every script finds in its folder, made once: keys and signatures cost time.
var fixture struct {
	once  sync.Once
	files map[string][]byte
}

func fixtureFiles(t testing.TB) map[string][]byte {
	t.Helper()
	fixture.once.Do(func() {
		l := attesttest.Whole(t, attesttest.Options{})
		plain := attesttest.Whole(t, attesttest.Options{NoToken: true})
		digest := attesttest.LaunchDigest()
		digest[0] ^= 1
		altered := attesttest.Whole(t, attesttest.Options{Processor: attesttest.Processor(t, digest)})
		evil := attesttest.Whole(t, attesttest.Options{Hooks: attesttest.Hooks{
			Provenance: func(p *statement.Provenance) { p.Subjects[0].Name = "\x1b]0;owned\a\u202e" },
			Response:   func(*statement.Response) {},
		}})
		collection, err := evidence.Parse(l.BootEvidence)
		if err != nil {
			t.Fatal(err)
		}
		noDispatch := l
		noDispatch.Dispatch = nil
		flipped := bytes.Clone(l.Artifact)
		flipped[0] ^= 1
		fixture.files = map[string][]byte{
			"widget.tar.gz": l.Artifact, "widget.tar.gz.intoto.jsonl": l.Bytes(),
			"flipped/widget.tar.gz": flipped, "flipped/widget.tar.gz.intoto.jsonl": l.Bytes(),
			"altered.tar.gz": altered.Artifact, "altered.tar.gz.intoto.jsonl": altered.Bytes(),
			"plain.tar.gz": plain.Artifact, "plain.tar.gz.intoto.jsonl": plain.Bytes(),
			"evil.tar.gz": evil.Artifact, "evil.tar.gz.intoto.jsonl": evil.Bytes(),
			"lonely.tar.gz":      []byte("no bundle lies beside it"),
			"no-dispatch.jsonl":  noDispatch.Bytes(),
			"cut.jsonl":          l.Bytes()[:len(l.Bytes())-100],
			"boot.cmw":           append(bytes.Clone(l.BootEvidence), '\n'),
			"report.bin":         collection.Report,
			"vcek.der":           collection.Leaf,
			"roots.pem":          attesttest.Authority().RootsPEM(),
			"github.json":        attesttest.TrustFile(t),
			"policy.yaml":        attesttest.PolicyFile(t),
			"policy-plain.yaml":  attesttest.PolicyFile(t, "identitySource: token", "identitySource: any", "[register-replay, token]", "none"),
			"policy-other.yaml":  attesttest.PolicyFile(t, "release.yml", "other.yml"),
			"policy-broken.yaml": attesttest.PolicyFile(t, "events: [push]", "events: any"),
		}
	})
	return fixture.files
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			for name, b := range fixtureFiles(t) {
				path := filepath.Join(env.WorkDir, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o600)); err != nil {
					return err
				}
			}
			env.Setenv("AT", "2026-11-21T13:00:00Z")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": wantCode, "golden": golden, "snapshot": snapshot, "unchanged": unchanged,
		},
		RequireExplicitExec: true,
	})
}

// wantCode runs a program that has to end with exactly this code, as in "code N program args".
func wantCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N program args...")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s\n%s\n%s", got, args[0], ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

var hexRun = regexp.MustCompile(`[0-9a-f]{12}…|[0-9a-f]{64,}`)

// golden compares the output, its random numbers masked, with a file of testdata/golden.
func golden(ts *testscript.TestScript, _ bool, args []string) {
	got := hexRun.ReplaceAllString(ts.ReadFile("stdout"), "HEX")
	path := filepath.Join(goldenDir, args[0])
	if os.Getenv("UPDATE_GOLDEN") != "" {
		ts.Check(os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	ts.Check(err)
	if got != string(want) {
		ts.Fatalf("output differs from %s (UPDATE_GOLDEN=1 rewrites it); got:\n%s", args[0], got)
	}
}

var goldenDir = func() string {
	dir, err := filepath.Abs("testdata/golden")
	if err != nil {
		panic(err)
	}
	return dir
}()

const snapshotEnv = "KETTLE_TEST_FILES"

// snapshot remembers which files there are; unchanged demands the same ones later.
func snapshot(ts *testscript.TestScript, _ bool, _ []string) { ts.Setenv(snapshotEnv, listing(ts)) }

func unchanged(ts *testscript.TestScript, _ bool, _ []string) {
	if now := listing(ts); now != ts.Getenv(snapshotEnv) {
		ts.Fatalf("files changed, now:\n%s", now)
	}
}

func listing(ts *testscript.TestScript) string {
	var names []string
	ts.Check(filepath.WalkDir(ts.MkAbs("."), func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	}))
	return strings.Join(names, "|")
}

// call runs a command line in this process.
func call(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errOut bytes.Buffer
	streams := &cli.IO{In: strings.NewReader(""), Out: &out, Err: &errOut}
	err := run(ctx, streams, args)
	streams.Report("kettle", err)
	return cli.ExitCode(err), out.String(), errOut.String()
}

// TestInterrupted shows that a cancelled context ends the work with the code of an interruption.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, b := range fixtureFiles(t) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, args := range [][]string{
		{"verify", filepath.Join(dir, "widget.tar.gz"), "--policy", filepath.Join(dir, "policy.yaml")},
		{"evidence", "verify", filepath.Join(dir, "boot.cmw")},
	} {
		if code, out, _ := call(ctx, args...); code != cli.ExitInterrupted || strings.Contains(out, "verified") {
			t.Errorf("%v: code %d, %s", args, code, out)
		}
	}
}

// TestHashInterrupted shows that an interruption ends the hashing of a large artifact.
func TestHashInterrupted(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "large")
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(f.Truncate(1<<40), f.Close())
	}
	if err != nil {
		t.Skipf("no sparse files here: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := hashFile(ctx, path, (&cli.IO{Err: os.Stderr}).Progress())
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
