// SPDX-License-Identifier: Apache-2.0

//go:build bench

package startup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/build"
	"github.com/kettle/attest/image/launch"
	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner/channel"
	"github.com/kettle/attest/runner/github"
	"github.com/kettle/attest/runner/job/pinned"
	"github.com/kettle/attest/test/stage"
)

const operatorToken = "ghp_startup" //nolint:gosec // a stand-in's.

// world is the image, GitHub's stand-in, and the program of the machine without kettled.
type world struct {
	*stage.Stage
	manifest *image.Manifest
	github   *fakegithub.Server
	client   *github.Client // of whoever registers the other machine's runner
	ca       *fakegithub.Authority
	addr     netip.AddrPort
	plain    string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s, err := stage.Open(t.Context(), t.TempDir(), "")
	must(t, err)
	w := &world{Stage: s, plain: filepath.Join(s.Bin, "plain")}
	must(t, s.Programs(t.Context(), stage.Program{Package: "./cmd/kettle", File: "kettle"}, stage.Program{Package: "./test/startup/testdata/plain", File: "plain"}))
	must(t, s.Base(t.Context()))
	must(t, s.Authority())
	w.serve(t)
	signer, err := stage.NewSigstore()
	must(t, err)
	t.Cleanup(func() { _ = signer.Close() })
	settings := filepath.Join(s.Dir, "settings")
	must(t, s.Settings(settings, stage.Outside{Timeouts: stage.DemoTimeouts, CA: w.ca, Sigstore: signer}))
	w.manifest, err = s.Bake(t.Context(), stage.Parts{Settings: settings})
	must(t, err)
	must(t, s.Attest(t.Context(), signer))
	return w
}

// serve starts the stand-in for GitHub, and makes a client of it.
func (w *world) serve(t *testing.T) {
	t.Helper()
	hosts := fakegithub.DemoHosts()
	var err error
	w.ca, err = fakegithub.NewAuthority(append(hosts.Names(), stage.RecordsHost), time.Now())
	must(t, err)
	w.github, err = fakegithub.New(fakegithub.Config{
		Hosts: hosts, Operator: fakegithub.Operator{Login: "acme", ID: 2, Token: secret.New(operatorToken)},
	})
	must(t, err)
	must(t, w.github.AddRepository(fakegithub.Repository{
		Owner: "acme", Name: "widget", ID: 1, OwnerID: 2, Refs: []string{"refs/heads/main"}, FS: fstest.MapFS{"README.md": {}},
	}))
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	must(t, err)
	w.addr = listener.Addr().(*net.TCPAddr).AddrPort()
	w.github.Serve(listener, w.ca)
	t.Cleanup(func() { _ = w.github.Close(context.WithoutCancel(t.Context())) })
	w.client, err = github.New(github.Config{
		URL: "https://" + hosts.Server, APIURL: "https://" + hosts.API, Scope: github.Repo, Target: "acme/widget", RunnerGroup: 1,
		Labels: []string{"attested-cvm"}, Hosts: pinned.Hosts(hosts.Names()), Roots: w.ca.Pool(),
		Credential: github.Credential{Token: secret.New(operatorToken)},
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, w.addr.String())
		},
	})
	must(t, err)
	t.Cleanup(w.client.Close)
}

// machine is the image's own, started directly from its kernel.
func (w *world) machine(folder string) launch.Config {
	f := w.manifest.Files
	return launch.Config{
		Firmware: w.File(f.Firmware), Kernel: w.File(f.Kernel), Initrd: w.File(f.Initrd), Disk: w.Disk(), CommandLine: w.manifest.CommandLine,
		MemoryMiB: 3072, CPUs: 1, Acceleration: launch.Auto, Console: filepath.Join(folder, "console"),
		Forwards: []launch.Forward{{Guest: stage.GuestGitHub(), Host: w.addr}},
		NewProcessor: func(digest [48]byte) (launch.Processor, error) {
			return w.Sim.NewProcessor(digest, time.Now())
		},
	}
}

// without is the same machine with the other program in its initrd, whose runner is registered already.
func (w *world) without(t *testing.T, folder, name string) launch.Config {
	t.Helper()
	reg, err := w.client.Register(t.Context(), name)
	must(t, err)
	names := map[string]string{}
	for _, host := range fakegithub.DemoHosts().Names() {
		names[host] = stage.GuestGitHub().Addr().String()
	}
	hosts, err := json.Marshal(names)
	must(t, err)
	config := filepath.Join(folder, "config")
	must(t, os.Mkdir(config, 0o700))
	for name, content := range map[string][]byte{
		"config.yaml": []byte("plain\n"), "hosts.json": hosts, "jit": []byte(reg.JIT.Reveal()), "demo-ca.pem": w.ca.PEM(),
	} {
		must(t, os.WriteFile(filepath.Join(config, name), content, 0o600))
	}
	cache, err := build.CacheDir(os.Getenv)
	must(t, err)
	kernel, err := build.CachedKernel(cache)
	must(t, err)
	var initrd bytes.Buffer
	_, err = build.WriteInitrd(t.Context(), &initrd, build.Initrd{Init: w.plain, Config: config, Modules: kernel.Modules, Profile: build.Strict})
	must(t, err)
	c := w.machine(folder)
	c.Initrd = filepath.Join(folder, "initrd")
	must(t, os.WriteFile(c.Initrd, initrd.Bytes(), 0o600))
	return c
}

// start starts a machine, hands it a credential when it asks, and waits until a runner whose name begins so has its session.
// It gives how long that took from the start of QEMU, and when the guest's clock showed each phase.
func (w *world) start(t *testing.T, c launch.Config, prefix string) (took time.Duration, phases []channel.Phase) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	vm, err := launch.Start(ctx, c)
	must(t, err)
	heard := make(chan []channel.Phase, 1)
	go func() { heard <- follow(ctx, vm, prefix) }()
	for !w.listening(prefix) && ctx.Err() == nil {
		select {
		case <-vm.Done():
			cancel()
		case <-time.After(2 * time.Millisecond):
		}
	}
	took = time.Since(vm.Timings().Started)
	vm.Kill()
	if err := vm.Wait(); ctx.Err() != nil || err != nil && !errors.Is(err, context.Canceled) {
		console, _ := os.ReadFile(c.Console)
		t.Fatalf("the machine did not come to listen: %v, phases %v\n%s", err, <-heard, console)
	}
	must(t, vm.Control().Close())
	return took, <-heard
}

// listening says whether such a runner has its session.
func (w *world) listening(prefix string) bool {
	for _, r := range w.github.Runners() {
		if r.Online && strings.HasPrefix(r.Name, prefix) {
			return true
		}
	}
	return false
}

// follow takes what the guest says until it is gone.
func follow(ctx context.Context, vm *launch.VM, prefix string) (phases []channel.Phase) {
	l := channel.NewLauncher(vm.Control())
	for {
		message, err := l.Next(ctx)
		if err != nil {
			return phases
		}
		switch message := message.(type) {
		case channel.Hello:
			if message.Program != "kettled" {
				continue
			}
			if l.Admit(ctx, channel.Admission{Prefix: prefix, Credential: secret.New(operatorToken)}) != nil {
				return phases
			}
		case channel.Phase:
			phases = append(phases, message)
		case channel.Status:
			if n := len(phases); n == 0 || phases[n-1].Name != message.State {
				phases = append(phases, channel.Phase{Name: message.State, Elapsed: message.Elapsed - message.Since})
			}
		case channel.End:
			phases = append(phases, channel.Phase{Name: message.Outcome})
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
