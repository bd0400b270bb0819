// SPDX-License-Identifier: Apache-2.0

//go:build vms

package soak_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/measure"
	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/fakegithub/fault"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner/github"
	"github.com/kettle/attest/runner/job/pinned"
	"github.com/kettle/attest/test/stage"
)

// machineTimeouts are short, and long enough for an emulated machine on a busy host.
const machineTimeouts = "{register: 60s, listen: 60s, ghost: 20s, idle: 60s, job: 2m, drain: 60s}"

// listener stands in the runner program's place and asks the world what is to go wrong with it: all machines of a soak have
// the same image.
const listener = `#!/bin/sh
STUBRUNNER_FAULTS=$(/usr/bin/curl --fail --silent --max-time 20 https://api.github.demo.test/soak/faults)
export STUBRUNNER_FAULTS
exec "${0%Listener}Stub" "$@"
`

func newVMs(t *testing.T, turns []turn) *vms {
	t.Helper()
	w := newMachineWorld(t, turns)
	v := &vms{soak: emptySoak(t, w, len(turns)), mark: "KETTLE_SOAK=" + rand.Text(), tmp: t.TempDir()}
	v.strict = true
	home := *keep
	if home == "" {
		home = t.TempDir()
	}
	v.logs, v.soak.state = filepath.Join(home, "logs"), filepath.Join(home, "state")
	s, err := stage.Open(t.Context(), "", "soak")
	if err != nil {
		t.Fatal(err)
	}
	v.stage = s
	settings, credential := filepath.Join(s.Dir, "settings"), filepath.Join(t.TempDir(), "token")
	if err := errors.Join(os.MkdirAll(v.logs, 0o700), os.WriteFile(credential, []byte(operatorToken), 0o600), prepare(t.Context(), s)); err != nil {
		t.Fatal(err)
	}
	v.simulator = s.Sim
	goroot, err := noToolchain(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := stage.NewSigstore()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = signer.Close() })
	if err := s.Settings(settings, stage.Outside{Timeouts: machineTimeouts, CA: w.ca, Sigstore: signer}); err != nil {
		t.Fatal(err)
	}
	m, err := s.Bake(t.Context(), stage.Parts{Settings: settings, GoRoot: goroot})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Attest(t.Context(), signer); err != nil {
		t.Fatal(err)
	}
	t.Logf("the image: root of %d bytes, kernel %s", m.Files.Root.Size, m.KernelVersion)
	v.measurement = measured(m)
	v.place = func() []string {
		return []string{
			"--state", v.state, "--settings", settings, "--credential", credential, "--forward", stage.GuestGitHub().String() + "=" + w.host,
			"--forward", stage.GuestRecords().String() + "=" + w.sinkURL,
		}
	}
	return v
}

func measured(m *image.Manifest) [48]byte { return measure.Sim(measure.Manifest(m)) }

// prepare builds the programs and what the image stands on, and puts the listener that asks in the place of the stand-in.
func prepare(ctx context.Context, s *stage.Stage) error {
	path := filepath.Join(s.Bin, "runner/bin/Runner.Listener")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // Go overwrites no script
		return err
	}
	var group errgroup.Group
	group.Go(func() error {
		return s.Programs(ctx, stage.Program{Package: "./cmd/kettle-dispatch", File: "kettle-dispatch"}, stage.Program{Package: "./cmd/kettle", File: "kettle"})
	})
	group.Go(func() error { return s.Base(ctx) })
	group.Go(s.Authority)
	if err := group.Wait(); err != nil {
		return err
	}
	if err := os.Rename(path, filepath.Join(s.Bin, "runner/bin/Runner.Stub")); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(listener), 0o755)
}

// noToolchain is a folder that says which Go this is and lacks the rest: the soak's jobs build nothing, and every byte of the
// root image is copied and hashed at each start.
func noToolchain(ctx context.Context, s *stage.Stage) (string, error) {
	goroot, err := stage.Output(ctx, s.Project, "go", "env", "GOROOT")
	if err != nil {
		return "", err
	}
	version, err := os.ReadFile(filepath.Join(goroot, "VERSION"))
	if err != nil {
		return "", err
	}
	dir := filepath.Join(s.Dir, "goroot")
	return dir, errors.Join(os.MkdirAll(dir, 0o755), stage.Replace(filepath.Join(dir, "VERSION"), version, 0o644))
}

// newMachineWorld is the world under the names that the image has for it.
func newMachineWorld(t *testing.T, turns []turn) *world {
	t.Helper()
	hosts := fakegithub.DemoHosts()
	socket, _ := loopback(t)
	w := &world{host: socket.Addr().String(), server: "https://" + hosts.Server, url: "https://" + hosts.API, records: newRecords()}
	var err error
	if w.ca, err = fakegithub.NewAuthority(append(hosts.Names(), stage.RecordsHost), time.Now()); err != nil {
		t.Fatal(err)
	}
	w.github, err = fakegithub.New(fakegithub.Config{
		Hosts: hosts, Operator: fakegithub.Operator{Login: "acme", ID: 2, Token: secret.New(operatorToken)},
		Poll: 10 * time.Second, Offer: 30 * time.Second, Lock: 62 * time.Second, // a runner renews each minute
	})
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	for _, j := range turns {
		pause := 0
		if j.plan.slow {
			pause = 10
		}
		files[".github/workflows/"+workflowFile(j.n)] = &fstest.MapFile{Data: []byte(workflow("attested-cvm", pause, image.ToolsDir+"/kettle-action attest"))}
	}
	err = w.github.AddRepository(fakegithub.Repository{Owner: "acme", Name: "widget", ID: 1, OwnerID: 2, Refs: []string{"refs/heads/main"}, FS: files})
	if err != nil {
		t.Fatal(err)
	}
	w.faults = fault.New(w.github, nil)
	w.github.ServeWith(socket, w.ca, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if program := w.program.Load(); program != nil && r.URL.Path == "/soak/faults" {
			_, _ = rw.Write([]byte(*program))
			return
		}
		w.faults.ServeHTTP(rw, r)
	}))
	w.sinkURL = strings.Replace(w.serveSink(t), "localhost", "127.0.0.1", 1)
	w.client, err = github.New(github.Config{
		URL: w.server, APIURL: w.url, Scope: github.Repo, Target: "acme/widget", RunnerGroup: 1, Labels: []string{"attested-cvm"},
		Hosts: pinned.Hosts(hosts.Names()), Credential: github.Credential{Token: secret.New(operatorToken)}, Roots: w.ca.Pool(),
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, w.host)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.client.Close()
		w.faults.Close()
		_ = w.github.Close(context.WithoutCancel(t.Context()))
	})
	return w
}

// leftovers are what launchers have left on this host: processes, temporary files, sockets, and machines' own files.
func (v *vms) leftovers() (left []string) {
	for _, pid := range pids() {
		env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
		if err == nil && bytes.Contains(env, []byte(v.mark)) {
			name, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
			left = append(left, "process "+strings.TrimSpace(string(name)))
		}
	}
	if entries, _ := os.ReadDir(v.tmp); len(entries) > 0 {
		left = append(left, "temporary file "+entries[0].Name())
	}
	for _, name := range v.folders() {
		if _, err := os.Stat(filepath.Join(v.state, name, "reaped.json")); err != nil {
			continue // somebody is to tidy up still
		}
		files, _ := os.ReadDir(filepath.Join(v.state, name))
		for _, f := range files {
			switch f.Name() {
			case "lock", "launch.json", "journal.jsonl", "console.log", "reaped.json":
			default:
				left = append(left, "file "+filepath.Join(name, f.Name()))
			}
		}
	}
	return left
}

func netLinks() (names []string) {
	entries, _ := os.ReadDir("/sys/class/net")
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func asExit(err error, exit **exec.ExitError) bool { return errors.As(err, exit) }
