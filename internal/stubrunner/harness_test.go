// SPDX-License-Identifier: Apache-2.0

package stubrunner_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/fakegithub/fault"
	"github.com/kettle/attest/internal/secret"

	// What the programs under test are built from, so that a change of them runs these tests again.
	_ "github.com/kettle/attest/action"
	_ "github.com/kettle/attest/internal/stubrunner/listener"
	_ "github.com/kettle/attest/internal/stubrunner/worker"
)

const operatorToken = "ghp_operator"

// build makes the program once for all tests.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "stubrunner")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "Runner.Listener")
	args := []string{"build", "-o", path}
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./cmd/stubrunner")...)
	if !raceEnabled {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	for _, made := range []func() (string, error){build, buildAction} {
		if path, err := made(); err == nil {
			_ = os.RemoveAll(filepath.Dir(path))
		}
	}
	os.Exit(code)
}

// world is one GitHub with one repository and one runner folder.
type world struct {
	t      *testing.T
	github *fakegithub.Server
	faults *fault.Handler
	base   string
	root   string
	env    []string
}

func newWorld(t *testing.T, files map[string]string) *world {
	t.Helper()
	program, err := build()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	w := &world{t: t, base: "http://" + server.Listener.Addr().String(), root: t.TempDir()}
	w.github, err = fakegithub.New(fakegithub.Config{
		Base: w.base, Operator: fakegithub.Operator{Login: "operator", ID: 1001, Token: secret.New(operatorToken)},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.faults = fault.New(w.github, nil)
	server.Config.Handler = w.faults
	server.Start()
	t.Cleanup(func() {
		w.faults.Close()
		_ = w.github.Close(context.WithoutCancel(t.Context()))
		server.Close()
	})
	w.addRepository("widget", 1, files)
	if err := os.MkdirAll(filepath.Join(w.root, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.root, "bin/Runner.Listener"), data, 0o755); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) addRepository(name string, id int64, files map[string]string) {
	w.t.Helper()
	content := fstest.MapFS{}
	for path, text := range files {
		content[path] = &fstest.MapFile{Data: []byte(text), Mode: 0o755}
	}
	err := w.github.AddRepository(fakegithub.Repository{
		Owner: "acme", Name: name, ID: id, OwnerID: 9, FS: content, Refs: []string{"refs/heads/main", "refs/tags/v1"},
		Vars: map[string]string{"MASCOT": "mona"}, Secrets: map[string]secret.String{"DEPLOY_KEY": secret.New("hunter2.key")},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// hook writes a hook that appends to a file and sets the Listener's environment for it.
func (w *world) hook(name, body string) {
	w.t.Helper()
	path := filepath.Join(w.root, strings.ToLower(name)+".sh")
	if err := os.WriteFile(path, []byte(body), 0o755); err != nil {
		w.t.Fatal(err)
	}
	w.env = append(w.env, "ACTIONS_RUNNER_HOOK_JOB_"+name+"="+path)
}

func (w *world) jit() string {
	w.t.Helper()
	body := `{"name":"r1","runner_group_id":1,"labels":["self-hosted","tee"],"work_folder":"_work"}`
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost,
		w.base+"/repos/acme/widget/actions/runners/generate-jitconfig", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+operatorToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Config string `json:"encoded_jit_config"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Config == "" {
		w.t.Fatalf("jit: %d %v", resp.StatusCode, err)
	}
	return answer.Config
}

// listener is a running program.
type listener struct {
	cmd *exec.Cmd
	out *bytes.Buffer
	err *bytes.Buffer
}

func (w *world) start(args ...string) *listener {
	w.t.Helper()
	l := &listener{out: &bytes.Buffer{}, err: &bytes.Buffer{}}
	l.cmd = exec.CommandContext(w.t.Context(), filepath.Join(w.root, "bin/Runner.Listener"), args...)
	l.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.root, "ACTIONS_RUNNER_INPUT_JITCONFIG=" + w.jit()}, w.env...)
	l.cmd.Stdout, l.cmd.Stderr = l.out, l.err
	l.cmd.WaitDelay = 10 * time.Second
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := l.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(l.end)
	return l
}

// end kills the listener and its workers, which outlive one that crashes, and waits until none of them writes any more.
func (l *listener) end() {
	group := -l.cmd.Process.Pid
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if errors.Is(syscall.Kill(group, syscall.SIGKILL), syscall.ESRCH) {
			return
		}
	}
}

// limit bounds each run of the program.
const limit = time.Minute

func (l *listener) wait() int {
	guard := time.AfterFunc(limit, func() { _ = l.cmd.Process.Kill() })
	defer guard.Stop()
	_ = l.cmd.Wait()
	return l.cmd.ProcessState.ExitCode()
}

func (w *world) dispatch(inputs map[string]string) *fakegithub.Run {
	w.t.Helper()
	run, err := w.github.Dispatch(w.t.Context(), fakegithub.Dispatch{
		Owner: "acme", Repo: "widget", Workflow: "build.yml", Ref: "main", Inputs: inputs,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return run
}

// await waits for the end of a run.
func (w *world) await(run *fakegithub.Run) *fakegithub.Run {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), limit)
	defer cancel()
	now, err := w.github.Wait(ctx, run)
	if err != nil {
		w.t.Fatalf("the run did not end: %v", err)
	}
	return now
}

// run dispatches the workflow and runs it to its end.
func (w *world) run(inputs map[string]string) (fakegithub.Job, *listener) {
	w.t.Helper()
	run := w.dispatch(inputs)
	l := w.start("run")
	code := l.wait()
	now := w.await(run)
	if code != 0 {
		w.t.Errorf("exit code %d: %s%s", code, l.out, l.err)
	}
	return now.Jobs[0], l
}

func (w *world) log(job fakegithub.Job) string {
	w.t.Helper()
	text, ok := w.github.JobLog(job.ID)
	if !ok {
		w.t.Fatal("there is no job log")
	}
	return string(text)
}

func (w *world) read(pattern string) string {
	w.t.Helper()
	paths, err := filepath.Glob(filepath.Join(w.root, pattern))
	if err != nil || len(paths) != 1 {
		w.t.Fatalf("%s: %v %v", pattern, paths, err)
	}
	text, err := os.ReadFile(paths[0])
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

func wants(t *testing.T, where, text string, parts ...string) {
	t.Helper()
	rest := text
	for _, p := range parts {
		_, after, ok := strings.Cut(rest, p)
		if !ok {
			t.Errorf("%s: %q is missing or out of order in:\n%s", where, p, text)
			return
		}
		rest = after
	}
}

func lacks(t *testing.T, where, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if strings.Contains(text, p) {
			t.Errorf("%s: %q must not be in:\n%s", where, p, text)
		}
	}
}

// awaitFile waits until a file holds a text.
func (w *world) awaitFile(name, text string) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if data, err := os.ReadFile(filepath.Join(w.root, name)); err == nil && strings.Contains(string(data), text) {
			return
		}
	}
	w.t.Fatalf("%s never held %q", name, text)
}
