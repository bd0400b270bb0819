// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/test/stage"
)

// The demonstration's names.
const (
	owner, repo = "acme", "widget"
	artifact    = "age-linux-amd64.tar.gz"
)

// operatorToken is the operator's credential at the stand-in for GitHub. It opens nothing else.
const operatorToken = "ghp_demonstration" //nolint:gosec // a stand-in's.

// world is what stands outside the machine: the stand-in for GitHub and the server that keeps records.
type world struct {
	github  *fakegithub.Server
	ca      *fakegithub.Authority
	addr    netip.AddrPort // of the stand-in for GitHub, on loopback
	records *records

	sigstore   *stage.Sigstore
	dispatcher *dispatcher
	close      []func()
}

// newWorld starts both servers on loopback.
func newWorld(s *scene) (w *world, err error) {
	hosts := fakegithub.DemoHosts()
	w = &world{records: &records{files: map[string][]byte{}}}
	if w.sigstore, err = stage.NewSigstore(); err != nil {
		return nil, err
	}
	w.close = append(w.close, func() { _ = w.sigstore.Close() })
	if w.dispatcher, err = newDispatcher(filepath.Join(s.Dir, "dispatcher")); err != nil {
		return nil, err
	}
	w.close = append(w.close, w.dispatcher.stop)
	w.github, err = fakegithub.New(fakegithub.Config{
		Hosts: hosts, Operator: fakegithub.Operator{Login: owner, ID: 2, Token: secret.New(operatorToken)}, Apps: []fakegithub.App{w.dispatcher.atGitHub()},
	})
	if err != nil {
		return nil, err
	}
	if w.ca, err = fakegithub.NewAuthority(append(hosts.Names(), stage.RecordsHost), time.Now()); err != nil {
		return nil, err
	}
	if err := w.repositories(s); err != nil {
		return nil, err
	}
	listener, addr, err := loopback()
	if err != nil {
		return nil, err
	}
	w.addr = addr
	w.github.Serve(listener, w.ca)
	w.close = append(w.close, func() { _ = w.github.Close(context.Background()) })
	if listener, w.records.addr, err = loopback(); err != nil {
		return nil, err
	}
	server := &http.Server{Handler: w.records, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(tls.NewListener(listener, w.ca.TLS())) }() // ends with Close
	w.close = append(w.close, func() { _ = server.Close() })
	return w, nil
}

// repositories shows the demonstration's repository, this project as the action, and a stand-in for actions/checkout.
func (w *world) repositories(s *scene) error {
	err := w.github.AddRepository(fakegithub.Repository{
		Owner: owner, Name: repo, ID: 1, OwnerID: 2, Dir: s.widget, Refs: []string{"refs/heads/main"},
		Vars: map[string]string{"MASCOT": "kettle"},
	})
	if err != nil {
		return err
	}
	err = w.github.AddRepository(fakegithub.Repository{
		Owner: "kettle", Name: "attest", ID: 3, OwnerID: 4, Dir: s.Project, Include: []string{"action.yml", "README.md", "LICENSE"},
		Refs: []string{"refs/heads/main", "refs/tags/v1"},
	})
	if err != nil {
		return err
	}
	return w.github.AddCheckout("v4")
}

// trust writes the verifier's own copy of the issuer's keys.
func (w *world) trust(file string, now time.Time) error {
	text, err := stage.Trust(w.github, "https://"+fakegithub.DemoHosts().Server, now)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644) //nolint:gosec // public keys.
}

// download gets what the workflow published.
func (w *world) download(dir string, run int64) error {
	assets := w.github.Assets(owner, repo, fmt.Sprintf("v1.2.1-%d", run))
	for _, a := range assets {
		if err := os.WriteFile(filepath.Join(dir, path.Base(a.Name)), a.Data, 0o644); err != nil { //nolint:gosec // public.
			return err
		}
	}
	if len(assets) != 2 {
		return fmt.Errorf("the workflow published %d files, want the artifact and its bundle", len(assets))
	}
	return nil
}

func (w *world) shut() {
	for _, f := range w.close {
		f()
	}
}

// loopback listens on a free port of this machine alone.
func loopback() (net.Listener, netip.AddrPort, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0") //nolint:noctx // returns at once.
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	addr, err := netip.ParseAddrPort(l.Addr().String())
	return l, addr, err
}

// records keeps what environments deliver: create-only, as the sink demands.
type records struct {
	addr  netip.AddrPort
	mu    sync.Mutex
	files map[string][]byte // path → content; mu
}

// ServeHTTP implements [http.Handler].
func (r *records) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	data, err := io.ReadAll(http.MaxBytesReader(w, req.Body, 64<<20))
	if err != nil || req.Method != http.MethodPut {
		http.Error(w, "PUT a file", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if have, ok := r.files[req.URL.Path]; ok && string(have) != string(data) {
		w.WriteHeader(http.StatusConflict)
		return
	}
	r.files[req.URL.Path] = data
	w.WriteHeader(http.StatusCreated)
}

// complete demands that each of so many environments has delivered its whole record.
func (r *records) complete(environments int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	count := map[string]int{}
	for p := range r.files {
		count[path.Base(p)]++
	}
	for _, name := range []string{"boot.intoto.jsonl", "dispatch.intoto.jsonl", "response-1.intoto.jsonl", "final.intoto.jsonl", "journal.jsonl", "diag.tar.zst"} {
		if count[name] != environments {
			return fmt.Errorf("%d of %d environments have delivered %s", count[name], environments, name)
		}
	}
	return nil
}
