// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/dispatch/admission/admissiontest"
	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/secret"
	client "github.com/kettle/attest/runner/admission"
	"github.com/kettle/attest/runner/config"
	"github.com/kettle/attest/runner/github"
	"github.com/kettle/attest/runner/job/pinned"
)

// TestAdmitScripts runs the server as the operator does, with machines on a simulated processor.
func TestAdmitScripts(t *testing.T) {
	t.Parallel()
	authority, err := sim.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/admit",
		Setup: func(env *testscript.Env) error { return setupAdmit(env, authority) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": wantCode, "github": gitHub, "runners": wantRunners, "start": start, "signal": signalTo, "ended": ended,
			"boot": bootMachine, "ask": askAdmission, "register": registerWith,
		},
		RequireExplicitExec: true,
	})
}

// yard is what a script of admissions has beside its world.
type yard struct {
	authority *sim.Authority
	machines  map[string]*admissiontest.Machine
	released  map[string]client.Released
	dial      string // of GitHub
	hosts     fakegithub.Hosts
	ca        []byte
}

// setupAdmit makes a GitHub with an App, the operator's files and a free port.
func setupAdmit(env *testscript.Env, authority *sim.Authority) error {
	appKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	w := &world{started: map[string]*background{}}
	y := &yard{authority: authority, machines: map[string]*admissiontest.Machine{}, released: map[string]client.Released{}, hosts: fakegithub.DemoHosts()}
	if w.server, err = fakegithub.New(fakegithub.Config{
		Hosts: y.hosts, Operator: fakegithub.Operator{Login: "acme", ID: 2, Token: secret.New(operatorToken)},
		Apps: []fakegithub.App{{ID: 3, InstallationID: 5, Account: "acme", Key: &appKey.PublicKey, Permissions: map[string]string{
			"administration": "write", "actions": "read", "contents": "read",
		}}},
	}); err != nil {
		return err
	}
	ca, err := fakegithub.NewAuthority(y.hosts.Names(), time.Now())
	if err != nil {
		return err
	}
	y.ca = ca.PEM()
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	y.dial = listener.Addr().String()
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
	env.Values["world"], env.Values["yard"] = w, y
	for name, value := range map[string]string{"FORWARD": "10.0.2.100:443=" + y.dial, "ADDR": freePort(), "METRICS": freePort(), "TOKEN": operatorToken} {
		env.Setenv(name, value)
	}
	return errors.Join(operatorFiles(env, appKey, authority, y), w.server.AddRepository(fakegithub.Repository{
		Owner: "acme", Name: "widget", ID: 1, OwnerID: 2, Dir: filepath.Join(env.WorkDir, "repository"), Refs: []string{"refs/heads/main"},
	}))
}

// freePort gives an address that nobody listens on.
func freePort() string {
	l, err := net.Listen("tcp4", "127.0.0.1:0") //nolint:noctx // it ends at once.
	if err != nil {
		return err.Error()
	}
	defer l.Close()
	return l.Addr().String()
}

func operatorFiles(env *testscript.Env, appKey *rsa.PrivateKey, authority *sim.Authority, y *yard) error {
	operator, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(operator)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&operator.PublicKey)
	if err != nil {
		return err
	}
	appPEM := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(appKey)})
	app, err := json.Marshal(map[string]any{"appId": 3, "installationId": 5, "privateKey": string(appPEM)})
	if err != nil {
		return err
	}
	policyText := fmt.Sprintf(`apiVersion: kettle/v1
expires: never
environments:
  platforms: [sim]
  floor: strict
  revocation: if-present
  images: any
  measurements: [%q]
  lateCompromise: none
revoked: none
`, attesttest.Measurement())
	for name, data := range map[string][]byte{
		"repository/README.md": []byte("A widget."), "settings/config.yaml": configuration(y.hosts), "settings/demo-ca.pem": y.ca,
		"settings/simulator.pem": authority.RootsPEM(), "credential": []byte(operatorToken + "\n"), "app.json": app, "policy.yaml": []byte(policyText),
		"operator.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		"operator.pub": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
	} {
		path := filepath.Join(env.WorkDir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600)); err != nil {
			return err
		}
	}
	return nil
}

func yardOf(ts *testscript.TestScript) *yard {
	y, ok := ts.Value("yard").(*yard)
	if !ok {
		ts.Fatalf("no yard")
	}
	return y
}

// bootMachine boots a machine: "boot NAME", or one of another image: "boot NAME other".
func bootMachine(ts *testscript.TestScript, _ bool, args []string) {
	y, launch := yardOf(ts), attesttest.LaunchDigest()
	if len(args) > 1 {
		launch[0] ^= 1
	}
	p, err := y.authority.NewProcessor(launch, time.Now())
	ts.Check(err)
	y.machines[args[0]], err = admissiontest.Boot(context.Background(), p, time.Now())
	ts.Check(err)
}

// askAdmission has a machine ask the server, which is waited for: "ask NAME", or "! ask NAME CODE".
func askAdmission(ts *testscript.TestScript, neg bool, args []string) {
	y := yardOf(ts)
	spki, err := bundle.LoadPublicKey([]byte(ts.ReadFile("operator.pub")))
	ts.Check(err)
	var roots *x509.CertPool
	for range 500 { // the server makes its certificate before it listens
		if text, err := os.ReadFile(ts.MkAbs("tls.pem")); err == nil {
			roots = x509.NewCertPool()
			roots.AppendCertsFromPEM(text)
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	c, err := client.New(client.Config{
		URL: "https://" + ts.Getenv("ADDR"), Roots: roots, Operators: [][]byte{spki}, Prefix: admissiontest.Prefix, Tolerance: time.Minute, Now: time.Now,
	})
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err = c.Admit(ctx, y.machines[args[0]])
	if neg {
		if err == nil || !strings.Contains(err.Error(), args[1]) {
			ts.Fatalf("not refused for %s: %v", args[1], err)
		}
		return
	}
	ts.Check(err)
	y.released[args[0]], _ = c.Released()
}

// registerWith registers a runner with the token that a machine was given: "register NAME".
func registerWith(ts *testscript.TestScript, _ bool, args []string) {
	y := yardOf(ts)
	settings, err := config.Parse([]byte(ts.ReadFile("settings/config.yaml")))
	ts.Check(err)
	g, roots := settings.GitHub, x509.NewCertPool()
	roots.AppendCertsFromPEM(y.ca)
	c, err := github.New(github.Config{
		URL: g.URL, APIURL: g.APIURL, Scope: github.Scope(g.Scope), Target: g.Target, RunnerGroup: g.RunnerGroup, Labels: g.Labels,
		Hosts: pinned.Hosts(g.Hosts), Credential: github.Credential{Token: y.released[args[0]].Credential.Token}, Roots: roots,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, y.dial)
		},
	})
	ts.Check(err)
	defer c.Close()
	_, err = c.Register(context.Background(), admissiontest.Prefix+"-1")
	ts.Check(err)
	_, err = c.Repository(context.Background(), "acme/widget")
	ts.Check(err)
}
