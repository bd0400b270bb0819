// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/dispatch/admission"
	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/test/stage"
)

// appID and installation name the operator's GitHub App at the stand-in.
const appID, installation = 11, 12

// dispatcher is `kettle-dispatch admit`: it appraises machines from outside, and only it holds what opens GitHub.
type dispatcher struct {
	dir      string // its files; nobody else reads some of them
	app      *rsa.PrivateKey
	ca       []byte // PEM, that its certificate leads to
	operator []byte // PEM, public half of the key that admits
	addr     netip.AddrPort
	process  *exec.Cmd
}

// newDispatcher makes what the operator has: an App's key, a certificate, and a key that admits.
func newDispatcher(dir string) (*dispatcher, error) {
	d := &dispatcher{dir: dir}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return nil, err
	}
	var err error
	if d.app, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return nil, err
	}
	credential, err := json.Marshal(map[string]any{
		"appId": appID, "installationId": installation,
		"privateKey": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(d.app)})),
	})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(d.file("app.json"), credential, 0o600); err != nil {
		return nil, err
	}
	if err := admission.SelfSign(d.file("tls.pem"), d.file("tls.key"), []string{stage.DispatchHost}, time.Now()); err != nil {
		return nil, err
	}
	if d.ca, err = os.ReadFile(d.file("tls.pem")); err != nil {
		return nil, err
	}
	return d, d.key()
}

// key makes the operator's key with the tool that operators are told of.
func (d *dispatcher) key() error {
	ctx := context.Background()
	err := stage.Command(ctx, d.dir, nil, "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "operator.pem")
	if err == nil {
		err = errors.Join(os.Chmod(d.file("operator.pem"), 0o600),
			stage.Command(ctx, d.dir, nil, "openssl", "pkey", "-in", "operator.pem", "-pubout", "-out", "operator.pub"))
	}
	if err != nil {
		return err
	}
	if d.operator, err = os.ReadFile(d.file("operator.pub")); err != nil {
		return err
	}
	_, err = bundle.LoadPublicKey(d.operator)
	return err
}

func (d *dispatcher) file(name string) string { return filepath.Join(d.dir, name) }

// atGitHub is the App as the stand-in for GitHub knows it.
func (d *dispatcher) atGitHub() fakegithub.App {
	return fakegithub.App{
		ID: appID, InstallationID: installation, Account: owner, Key: &d.app.PublicKey,
		Permissions: map[string]string{"administration": "write", "actions": "read", "contents": "read", "metadata": "read"},
	}
}

// start starts the server. It ends with stop.
func (d *dispatcher) start(s *scene, w *world, settings string) error {
	if err := os.WriteFile(d.file("policy.yaml"), machines(w.sigstore.Signer(), "none"), 0o600); err != nil {
		return err
	}
	d.process = exec.Command(filepath.Join(s.Bin, "kettle-dispatch"), "admit", "--listen", "127.0.0.1:0", //nolint:gosec,noctx // ends with stop.
		"--certificate", d.file("tls.pem"), "--key", d.file("tls.key"), "--operator-key", d.file("operator.pem"),
		"--policy", d.file("policy.yaml"), "--trusted-root", filepath.Join(s.Dir, "trusted_root.json"), "--root", filepath.Join(settings, "simulator.pem"),
		"--ledger", d.file("ledger"), "--audit", d.file("audit.jsonl"), "--settings", settings,
		"--credential", d.file("app.json"), "--forward", stage.GuestGitHub().String()+"="+w.addr.String(), "--log", "text")
	log, err := os.Create(d.file("log"))
	if err != nil {
		return err
	}
	defer log.Close()
	d.process.Stderr = log
	d.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := d.process.StdoutPipe()
	if err != nil {
		return err
	}
	if err := d.process.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if addr, ok := strings.CutPrefix(lines.Text(), "listening"); ok {
			d.addr, err = netip.ParseAddrPort(strings.TrimSpace(addr))
			return err
		}
	}
	said, _ := os.ReadFile(d.file("log"))
	return fmt.Errorf("kettle-dispatch admit does not listen: %s", said)
}

func (d *dispatcher) stop() {
	if d.process == nil || d.process.Process == nil {
		return
	}
	_ = d.process.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = d.process.Wait()
}
