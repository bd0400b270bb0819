// SPDX-License-Identifier: Apache-2.0

package fakegithub_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-github/v60/github"

	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/secret"
)

func TestEnterpriseAndGroups(t *testing.T) {
	t.Parallel()
	app, key := newApp(t, map[string]string{"organization_self_hosted_runners": "write"})
	s, base := startWith(t, func(c *fakegithub.Config) {
		c.Apps = []fakegithub.App{app}
		c.Enterprises = []fakegithub.Enterprise{{Slug: "big", Organizations: []string{"acme"}}}
		c.Groups = []fakegithub.Group{
			{ID: 5, Name: "tees", Owner: "acme", Repositories: []string{"acme/widget"}, Public: true},
			{ID: 6, Name: "private", Owner: "acme"},
			{ID: 7, Name: "wide", Owner: "big", Public: true, Workflows: []string{"acme/widget/.github/workflows/build.yml@refs/heads/main"}},
		}
	})
	gh := client(t, base, operatorToken)
	request := func(name string, group int64) *github.GenerateJITConfigRequest {
		return &github.GenerateJITConfigRequest{Name: name, RunnerGroupID: group, Labels: []string{"self-hosted", "attested-cvm"}}
	}
	for name, tt := range map[string]struct {
		group int64
		err   func(*github.GenerateJITConfigRequest) error
		want  int
	}{
		"someone else's group": {7, func(r *github.GenerateJITConfigRequest) error {
			_, _, err := gh.Actions.GenerateOrgJITConfig(t.Context(), "acme", r)
			return err
		}, http.StatusForbidden},
		"no such group": {9, func(r *github.GenerateJITConfigRequest) error {
			_, _, err := gh.Actions.GenerateOrgJITConfig(t.Context(), "acme", r)
			return err
		}, http.StatusNotFound},
		"group of an organization in a repository": {5, func(r *github.GenerateJITConfigRequest) error {
			_, _, err := gh.Actions.GenerateRepoJITConfig(t.Context(), "acme", "widget", r)
			return err
		}, http.StatusForbidden},
		"no such enterprise": {1, func(r *github.GenerateJITConfigRequest) error {
			_, _, err := gh.Enterprise.GenerateEnterpriseJITConfig(t.Context(), "small", r)
			return err
		}, http.StatusNotFound},
		"an App in an enterprise": {1, func(r *github.GenerateJITConfigRequest) error {
			_, _, err := client(t, base, installationToken(t, base, key)).Enterprise.GenerateEnterpriseJITConfig(t.Context(), "big", r)
			return err
		}, http.StatusForbidden},
		"nobody in an enterprise": {1, func(r *github.GenerateJITConfigRequest) error {
			_, _, err := client(t, base, "").Enterprise.GenerateEnterpriseJITConfig(t.Context(), "big", r)
			return err
		}, http.StatusUnauthorized},
	} {
		if got := status(tt.err(request("n", tt.group))); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
	run := dispatch(t, s, "widget", "build.yml")
	locked, _, err := gh.Actions.GenerateOrgJITConfig(t.Context(), "acme", request("locked", 6))
	if err != nil {
		t.Fatal(err)
	}
	fromJIT(t, locked.GetRunner().GetID(), locked.GetEncodedJITConfig()).connect() // its group takes no public repository
	wide, _, err := gh.Enterprise.GenerateEnterpriseJITConfig(t.Context(), "big", request("wide", 7))
	if err != nil {
		t.Fatal(err)
	}
	m := fromJIT(t, wide.GetRunner().GetID(), wide.GetEncodedJITConfig())
	m.connect()
	m.acquire(m.offeredAgain(run.Jobs[0].GUID))
	job, _, err := gh.Actions.GetWorkflowJobByID(t.Context(), "acme", "widget", run.Jobs[0].ID)
	if err != nil || job.GetRunnerGroupID() != 7 || job.GetRunnerGroupName() != "wide" {
		t.Errorf("%+v %v", job, err)
	}
	list, _, err := gh.Enterprise.ListRunners(t.Context(), "big", nil)
	if err != nil || list.TotalCount != 1 {
		t.Errorf("%+v %v", list, err)
	}
	if _, err := gh.Enterprise.RemoveRunner(t.Context(), "big", m.id); status(err) != http.StatusUnprocessableEntity {
		t.Errorf("removing a busy runner: %v", err)
	}
	if _, err := gh.Actions.RemoveOrganizationRunner(t.Context(), "acme", m.id); status(err) != http.StatusNotFound {
		t.Errorf("a runner of the enterprise from an organization: %v", err)
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	_, base := start(t)
	for i := range 5 {
		newMini(t, base, "host-"+strconv.Itoa(i), "a")
	}
	gh := client(t, base, operatorToken)
	var seen []string
	o := &github.ListOptions{PerPage: 2}
	for {
		list, resp, err := gh.Actions.ListRunners(t.Context(), "acme", "widget", o)
		if err != nil || list.TotalCount != 5 {
			t.Fatal(list, err)
		}
		for _, r := range list.Runners {
			seen = append(seen, r.GetName())
		}
		if resp.NextPage == 0 {
			break
		}
		o.Page = resp.NextPage
	}
	if want := []string{"host-0", "host-1", "host-2", "host-3", "host-4"}; !slices.Equal(seen, want) {
		t.Errorf("%v", seen)
	}
	code, body := send(t, http.MethodGet, base+"/repos/acme/widget/actions/runners?name=HOST-3", operatorToken, "", nil)
	var list struct {
		Total   int `json:"total_count"`
		Runners []map[string]any
	}
	unmarshal(t, body, &list)
	if code != http.StatusOK || list.Total != 1 || list.Runners[0]["ephemeral"] != true || list.Runners[0]["runner_group_id"] != 1.0 {
		t.Errorf("%d %s", code, body)
	}
	if _, ok := list.Runners[0]["version"]; !ok {
		t.Error("version is missing")
	}
	for _, query := range []string{"?page=9", "?page=-1&per_page=0", "?per_page=1000"} {
		if code, body := send(t, http.MethodGet, base+"/repos/acme/widget/actions/runners"+query, operatorToken, "", nil); code != http.StatusOK {
			t.Errorf("%s: %d %s", query, code, body)
		}
	}
}

func TestCertificatesThatDoNotFit(t *testing.T) {
	t.Parallel()
	hosts := fakegithub.DemoHosts()
	a, err := fakegithub.NewAuthority(hosts.Names(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, err := fakegithub.New(fakegithub.Config{Hosts: hosts, NewKey: lend(), Operator: fakegithub.Operator{Login: "operator", ID: 1, Token: secret.New("t")}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(l, a)
	t.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var remote *net.OpError
	for flaw, is := range map[fakegithub.Flaw]func(error) bool{
		fakegithub.Sound:            func(err error) bool { return err == nil },
		fakegithub.Expired:          func(err error) bool { return errors.As(err, &invalid) && invalid.Reason == x509.Expired },
		fakegithub.NotYetValid:      func(err error) bool { return errors.As(err, &invalid) && invalid.Reason == x509.Expired },
		fakegithub.WrongName:        func(err error) bool { return errors.As(err, &name) },
		fakegithub.UnknownAuthority: func(err error) bool { return errors.As(err, &unknown) },
		fakegithub.NoHandshake:      func(err error) bool { return errors.As(err, &remote) && remote.Op == "remote error" },
	} {
		a.Present(flaw)
		c := a.Client(l.Addr())
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+hosts.API+"/repos/x/y", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if !is(err) {
			t.Errorf("flaw %d: %v", flaw, err)
		}
		c.CloseIdleConnections()
	}
}
