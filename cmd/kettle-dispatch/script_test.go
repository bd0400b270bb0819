// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/dispatch"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/imagetest"
	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/secret"
)

// TestMain lets scripts run the program with VMs that are doubles, and with little patience.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kettle-dispatch": func() {
		limits := dispatch.DefaultLimits()
		limits.Settle, limits.Patience, limits.Busy, limits.PowerOff = 20*time.Millisecond, time.Second, time.Second, time.Second
		os.Exit(cli.Main(context.Background(), "kettle-dispatch", func(ctx context.Context, streams *cli.IO) error {
			return (&app{io: streams, limits: limits, launch: launchDouble}).run(ctx, os.Args[1:])
		}))
	}})
}

const operatorToken = "ghp_operator"

// world is one script's GitHub.
type world struct {
	server  *fakegithub.Server
	down    atomic.Bool
	started map[string]*background
}

type background struct {
	cmd    *exec.Cmd
	output bytes.Buffer
}

func (w *world) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	if w.down.Load() {
		http.Error(out, "{}", http.StatusInternalServerError)
		return
	}
	w.server.ServeHTTP(out, r)
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": wantCode, "github": gitHub, "runners": wantRunners, "start": start, "signal": signalTo, "ended": ended, "await": await,
		},
		RequireExplicitExec: true,
	})
}

// setup makes a GitHub, an image and a credential for one script.
func setup(env *testscript.Env) error {
	w := &world{started: map[string]*background{}}
	hosts := fakegithub.DemoHosts()
	var err error
	if w.server, err = fakegithub.New(fakegithub.Config{
		Hosts: hosts, Operator: fakegithub.Operator{Login: "acme", ID: 2, Token: secret.New(operatorToken)},
	}); err != nil {
		return err
	}
	path := func(elem ...string) string { return filepath.Join(append([]string{env.WorkDir}, elem...)...) }
	for _, dir := range []string{"settings", "image", "repository", "sim"} {
		if err := os.MkdirAll(path(dir), 0o700); err != nil {
			return err
		}
	}
	ca, err := fakegithub.NewAuthority(hosts.Names(), time.Now())
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: w, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(tls.NewListener(listener, ca.TLS())) }()
	env.Defer(func() {
		_ = server.Close()
		for _, b := range w.started {
			if b.cmd.ProcessState == nil {
				_ = b.cmd.Process.Kill()
				_ = b.cmd.Wait()
			}
		}
	})
	files := map[string][]byte{
		"repository/README.md": []byte("A widget."), "settings/config.yaml": configuration(hosts), "settings/demo-ca.pem": ca.PEM(),
		"settings/simulator.pem": attesttest.Authority().RootsPEM(), "credential": []byte(operatorToken + "\n"),
	}
	if err := imageFiles(files); err != nil {
		return err
	}
	for name, data := range files {
		if err := os.WriteFile(path(name), data, 0o600); err != nil {
			return err
		}
	}
	env.Values["world"] = w
	env.Setenv("SETTINGS", path("settings"))
	env.Setenv("CREDENTIAL", path("credential"))
	env.Setenv("FORWARD", "10.0.2.100:443="+listener.Addr().String())
	env.Setenv("TOKEN", operatorToken)
	return errors.Join(attesttest.Authority().Save(path("sim")), w.server.AddRepository(fakegithub.Repository{
		Owner: "acme", Name: "widget", ID: 1, OwnerID: 2, Dir: path("repository"), Refs: []string{"refs/heads/main"},
	}))
}

// configuration is the image's, with every host at one forwarded address.
func configuration(hosts fakegithub.Hosts) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `schema: kettle.config/v1
github:
  url: https://%s
  apiUrl: https://%s
  issuer: https://%s
  scope: repo
  target: acme/widget
  registrar: rest
  runnerGroup: 1
  labels: [attested-cvm]
  roots: [demo-ca.pem]
  hosts: [%s]
image: {bundle: partition, trustedRoot: sigstore.json, maxAge: 720h}
credential: {from: launcher}
sandbox:
  profile: strict
  init: small
  scratch: memory
  limits: {memoryMiB: 1024, processes: 2048, cpus: 1, diskMiB: 1024, ioMiBps: 4096, outputMiB: 4096, freezeTime: 45s}
egress: {beforeDispatch: github-only, after: {mode: none}}
policy: policy.yaml
sink: {url: "https://%s/records"}
timeouts: {register: 60s, listen: 2m, ghost: 60s, idle: 5m, job: 10m, drain: 30m}
platforms: {allowed: [sim], roots: [simulator.pem]}
network:
  address: 10.0.2.15/24
  resolve:
`, hosts.Server, hosts.API, hosts.Issuer, strings.Join(hosts.Names(), ", "), hosts.Objects)
	for _, name := range hosts.Names() {
		fmt.Fprintf(&b, "    %s: 10.0.2.100\n", name)
	}
	return b.Bytes()
}

// imageFiles adds an image's folder whose manifest fits its files and the configuration.
func imageFiles(files map[string][]byte) error {
	m := imagetest.Manifest()
	for name, file := range map[string]*image.File{
		"firmware.bin": &m.Files.Firmware, "vmlinuz": &m.Files.Kernel, "initrd.cpio": &m.Files.Initrd, "root.erofs": &m.Files.Root,
	} {
		files["image/"+name] = []byte(name)
		*file = image.File{Name: name, SHA256: sha256.Sum256([]byte(name)), Size: int64(len(name))}
	}
	for i, c := range m.Components {
		if c.Name == image.ComponentConfiguration {
			m.Components[i].SHA256 = sha256.Sum256(files["settings/config.yaml"])
		}
	}
	imagetest.Relabel(m)
	data, err := m.Marshal()
	files["image/"+image.ManifestName], files["image/"+image.DiskFile] = data, data
	return err
}

func worldOf(ts *testscript.TestScript) *world {
	w, ok := ts.Value("world").(*world)
	if !ok {
		ts.Fatalf("no world")
	}
	return w
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

// gitHub makes GitHub fail, or work again: "github down", "github up".
func gitHub(ts *testscript.TestScript, _ bool, args []string) {
	worldOf(ts).down.Store(args[0] == "down")
}

// wantRunners demands how many runners GitHub lists.
func wantRunners(ts *testscript.TestScript, _ bool, args []string) {
	if got := worldOf(ts).server.Runners(); strconv.Itoa(len(got)) != args[0] {
		ts.Fatalf("GitHub lists %+v, want %s", got, args[0])
	}
}

// start runs the program beside the script: "start NAME args...".
func start(ts *testscript.TestScript, _ bool, args []string) {
	var program string
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if path := filepath.Join(dir, "kettle-dispatch"); program == "" {
			if _, err := os.Stat(path); err == nil {
				program = path
			}
		}
	}
	b := &background{cmd: exec.Command(program, args[1:]...)}
	for _, name := range []string{"PATH", "SETTINGS", "CREDENTIAL", "FORWARD", "KETTLE_TEST_VM", "TMPDIR", "HOME"} {
		b.cmd.Env = append(b.cmd.Env, name+"="+ts.Getenv(name))
	}
	b.cmd.Dir, b.cmd.Stdout, b.cmd.Stderr = ts.MkAbs("."), &b.output, &b.output
	ts.Check(b.cmd.Start())
	worldOf(ts).started[args[0]] = b
}

// signalTo sends a signal: "signal NAME TERM".
func signalTo(ts *testscript.TestScript, _ bool, args []string) {
	s := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL}[args[1]]
	ts.Check(worldOf(ts).started[args[0]].cmd.Process.Signal(s))
}

// ended waits for the end of what was started, and demands its code and a word of what it said: "ended NAME CODE [WORD]".
func ended(ts *testscript.TestScript, _ bool, args []string) {
	b := worldOf(ts).started[args[0]]
	_ = b.cmd.Wait() // its code says it
	if got := strconv.Itoa(b.cmd.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("%s ended with %s, want %s\n%s", args[0], got, args[1], b.output.String())
	}
	if len(args) > 2 && !strings.Contains(b.output.String(), args[2]) {
		ts.Fatalf("%s did not say %q:\n%s", args[0], args[2], b.output.String())
	}
}

// await waits until so many machines are in a state, or are drained: "await N STATE".
func await(ts *testscript.TestScript, _ bool, args []string) {
	state := ts.MkAbs("state")
	for range 1000 {
		all, err := dispatch.Survey(state)
		ts.Check(err)
		n := 0
		for _, s := range all {
			if s.Step != dispatch.Following {
				continue
			}
			if said, err := dispatch.Ask(context.Background(), state, s.Environment, false); err == nil {
				s = said
			}
			if string(s.State) == args[1] || s.Draining && args[1] == "draining" {
				n++
			}
		}
		if strconv.Itoa(n) == args[0] {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	ts.Fatalf("no %s machines came to %s", args[0], args[1])
}
