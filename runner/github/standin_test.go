// SPDX-License-Identifier: Apache-2.0

package github_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/internal/stubrunner/registration"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/github"
	"github.com/kettle/attest/runner/job/pinned"
)

const workflow = `on: workflow_dispatch
jobs:
  build:
    runs-on: attested-cvm
    steps:
      - run: "true"
`

// standIn starts the stand-in for GitHub under its own host names, and a client of it.
func standIn(t *testing.T) (*fakegithub.Server, *github.Client) {
	t.Helper()
	hosts := fakegithub.DemoHosts()
	s, err := fakegithub.New(fakegithub.Config{
		Hosts: hosts, Operator: fakegithub.Operator{Login: "operator", ID: 1001, Token: secret.New("ghp_operator")},
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, ".github/workflows"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".github/workflows/build.yml"), []byte(workflow), 0o600); err != nil {
		t.Fatal(err)
	}
	repo := fakegithub.Repository{Owner: "acme", Name: "widget", ID: 1296269, OwnerID: 583231, Dir: dir, Refs: []string{"refs/heads/main", "refs/tags/v1"}}
	if err := s.AddRepository(repo); err != nil {
		t.Fatal(err)
	}
	authority, err := fakegithub.NewAuthority(hosts.Names(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's own listener.
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(l, authority)
	cl, err := github.New(github.Config{
		URL: "https://" + hosts.Server, APIURL: "https://" + hosts.API, Scope: github.Repo, Target: "acme/widget", RunnerGroup: 1,
		Labels: []string{"attested-cvm"}, Hosts: pinned.Hosts(hosts.Names()), Roots: authority.Pool(),
		Credential: github.Credential{Token: secret.New("ghp_operator")},
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cl.Close()
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return s, cl
}

// TestStandIn registers a runner with the stand-in, and the runner program of the stand-in reads the rebuilt files.
func TestStandIn(t *testing.T) {
	t.Parallel()
	s, cl := standIn(t)
	ctx := t.Context()
	reg, err := cl.Register(ctx, "host-boot-1")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := registration.Save(root, reg.JIT.Reveal()); err != nil {
		t.Fatal(err)
	}
	settings, err := registration.Load(root)
	if err != nil || settings.AgentID != reg.ID || settings.AgentName != "host-boot-1" || !settings.DisableUpdate || !settings.Ephemeral || !settings.V2 {
		t.Fatalf("the runner reads %+v, %v", settings, err)
	}
	if _, err := registration.Credential(root); err != nil {
		t.Fatal(err)
	}
	if sight, err := cl.Observe(ctx, reg); err != nil || sight != runner.SightOffline {
		t.Errorf("observed %q, %v", sight, err)
	}
	if list, err := cl.Runners(ctx, "host-"); err != nil || len(list) != 1 || list[0].ID != reg.ID {
		t.Errorf("runners %+v, %v", list, err)
	}
	if _, err := cl.Register(ctx, "host-boot-1"); !errors.Is(err, github.ErrNameTaken) {
		t.Errorf("registering twice: %v", err)
	}
	if sight, err := cl.Observe(ctx, reg); err != nil || sight != runner.SightGone {
		t.Errorf("the runner of the taken name stayed: %q, %v", sight, err)
	}
	if err := cl.Remove(ctx, reg); err != nil {
		t.Errorf("removing twice: %v", err)
	}
	asks(t, s, cl)
}

// asks reads a run, its job and a ref back.
func asks(t *testing.T, s *fakegithub.Server, cl *github.Client) {
	t.Helper()
	ctx := t.Context()
	dispatched, err := s.Dispatch(ctx, fakegithub.Dispatch{Owner: "acme", Repo: "widget", Workflow: "build.yml", Ref: "main"})
	if err != nil {
		t.Fatal(err)
	}
	sha, _ := s.Commit("acme", "widget", "v1")
	got, err := cl.Run(ctx, "acme/widget", dispatched.ID)
	if err != nil || got.HeadSHA != sha || got.Path != ".github/workflows/build.yml" || got.Repository.ID != 1296269 || got.HeadRepository.OwnerID != 583231 {
		t.Errorf("run %+v, %v", got, err)
	}
	jobs, err := cl.Jobs(ctx, "acme/widget", dispatched.ID, 1)
	if err != nil || len(jobs) != 1 || jobs[0].Status != "queued" || jobs[0].RunnerID != 0 || jobs[0].Labels[0] != "attested-cvm" {
		t.Errorf("jobs %+v, %v", jobs, err)
	}
	if resolved, err := cl.ResolveRef(ctx, "acme/widget", "v1"); err != nil || resolved != sha {
		t.Errorf("resolved %s, %v", resolved, err)
	}
	if _, err := cl.ResolveRef(ctx, "acme/widget", "nope"); !errors.Is(err, github.ErrRemote) {
		t.Errorf("resolved nope: %v", err)
	}
	if repo, err := cl.Repository(ctx, "acme/widget"); err != nil || repo.OwnerID != 583231 {
		t.Errorf("repository %+v, %v", repo, err)
	}
	if _, err := cl.Register(ctx, ""); err == nil || errors.Is(err, refusal.ErrNotVerified) {
		t.Errorf("registering without a name: %v", err)
	}
}
