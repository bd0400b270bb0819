// SPDX-License-Identifier: Apache-2.0

package fakegithub_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-github/v60/github"

	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/secret"
)

func names(t *testing.T, archive []byte) []string {
	t.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, h.Name)
	}
}

func TestRepositoryContent(t *testing.T) {
	t.Parallel()
	s, base := start(t)
	sha, ok := s.Commit("acme", "widget", "main")
	if !ok || len(sha) != 40 {
		t.Fatal(sha)
	}
	for repo, token := range map[string]string{"widget": "", "safe": operatorToken} {
		c := client(t, base, token)
		for _, ref := range []string{"main", "v1.0.0", "refs/heads/main", "heads/main", sha, sha[:7], "HEAD"} {
			commit, _, err := c.Repositories.GetCommit(t.Context(), "acme", repo, ref, nil)
			if err != nil || commit.GetSHA() != sha {
				t.Errorf("%s: %v %v", ref, commit.GetSHA(), err)
			}
		}
		if got, _, err := c.Repositories.GetCommitSHA1(t.Context(), "acme", repo, "main", ""); err != nil || got != sha {
			t.Errorf("sha alone: %q %v", got, err)
		}
		if r, _, err := c.Git.GetRef(t.Context(), "acme", repo, "tags/v1.0.0"); err != nil || r.GetObject().GetSHA() != sha {
			t.Errorf("ref: %v %v", r, err)
		}
		link, _, err := c.Repositories.GetArchiveLink(t.Context(), "acme", repo, github.Tarball, &github.RepositoryContentGetOptions{Ref: sha}, 0)
		if err != nil {
			t.Fatal(err)
		}
		code, body := send(t, http.MethodGet, link.String(), "", "", nil)
		if code != http.StatusOK {
			t.Fatalf("archive of %s: %d", repo, code)
		}
		want := "acme-" + repo + "-" + sha[:7] + "/.github/workflows/build.yml"
		if all := names(t, body); !strings.Contains(strings.Join(all, "\n"), want) {
			t.Errorf("archive holds %v", all)
		}
		file, _, _, err := c.Repositories.GetContents(t.Context(), "acme", repo, "src/main.go.txt", nil)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := file.GetContent(); err != nil || !strings.HasPrefix(text, "package main") {
			t.Errorf("content %q: %v", text, err)
		}
	}
	anonymous := client(t, base, "")
	if _, _, err := anonymous.Repositories.Get(t.Context(), "acme", "safe"); status(err) != http.StatusNotFound {
		t.Errorf("private repository seen by nobody: %v", err)
	}
	if code, _ := send(t, http.MethodGet, base+"/_codeload/acme/safe/legacy.tar.gz/"+sha, "", "", nil); code != http.StatusNotFound {
		t.Errorf("private archive for nobody: %d", code)
	}
	if _, _, err := anonymous.Repositories.GetCommit(t.Context(), "acme", "widget", "nothing", nil); status(err) != http.StatusUnprocessableEntity {
		t.Errorf("unknown ref: %v", err)
	}
	if r, _, err := anonymous.Repositories.Get(t.Context(), "ACME", "Widget"); err != nil || r.GetID() != 1296269 || r.GetOwner().GetID() != 583231 {
		t.Errorf("repository %+v: %v", r, err)
	}
}

func TestSetRef(t *testing.T) {
	t.Parallel()
	s, _ := start(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("b"), 0o600); err != nil {
		t.Fatal(err)
	}
	old, _ := s.Commit("acme", "widget", "main")
	sha, err := s.SetRef(fakegithub.Repository{Owner: "acme", Name: "widget", Dir: dir, Refs: []string{"refs/heads/main"}})
	if err != nil {
		t.Fatal(err)
	}
	if now, _ := s.Commit("acme", "widget", "main"); now != sha || now == old {
		t.Errorf("main is %s", now)
	}
	if _, ok := s.Commit("acme", "widget", old); !ok {
		t.Error("the old commit is gone")
	}
}

func TestResolveActions(t *testing.T) {
	t.Parallel()
	s, base := start(t)
	m := newMini(t, base, "host-1", "self-hosted", "attested-cvm")
	m.connect()
	dispatch(t, s, "widget", "build.yml")
	w := m.acquire(m.offered())
	target := base + "/actions/build/" + w.Plan.PlanID + "/jobs/" + w.JobID + "/runnerresolve/actions"
	ask := func(token, action, version string) (int, []byte) {
		return m.call(target, token, map[string]any{"actions": []any{map[string]string{"action": action, "version": version, "path": ""}}})
	}
	code, body := ask(w.system(), "actions/checkout", "v4")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	var answer struct {
		Actions map[string]struct {
			SHA string `json:"resolved_sha"`
			Tar string `json:"tar_url"`
		}
	}
	unmarshal(t, body, &answer)
	got := answer.Actions["actions/checkout@v4"]
	if sha, _ := s.Commit("actions", "checkout", "v4"); got.SHA != sha {
		t.Errorf("resolved %+v", got)
	}
	if code, body := send(t, http.MethodGet, got.Tar, "", "", nil); code != http.StatusOK || !strings.HasSuffix(names(t, body)[2], "/action.yml") {
		t.Errorf("archive of the action: %d %v", code, names(t, body))
	}
	if code, body := ask(w.system(), "actions/checkout", "v99"); code != http.StatusUnprocessableEntity || !strings.Contains(string(body), `"actions/checkout@v99":{"message"`) {
		t.Errorf("unknown version: %d %s", code, body)
	}
	if code, _ := ask(w.system(), "acme/safe", "main"); code != http.StatusUnprocessableEntity {
		t.Errorf("private action: %d", code)
	}
	if code, _ := ask(m.token, "actions/checkout", "v4"); code != http.StatusUnauthorized {
		t.Errorf("with the runner's token: %d", code)
	}
}

// attestable makes a bundle of the right shape; change may spoil it.
func attestable(change func(bundle, statement map[string]any)) json.RawMessage {
	statement := map[string]any{
		"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1", "predicate": map[string]any{},
		"subject": []any{map[string]any{"name": "a", "digest": map[string]string{"sha256": strings.Repeat("ab", 32)}}},
	}
	envelope := map[string]any{"payloadType": "application/vnd.in-toto+json", "signatures": []any{map[string]any{"sig": "AAAA"}}}
	bundle := map[string]any{
		"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "dsseEnvelope": envelope,
		"verificationMaterial": map[string]any{"publicKey": map[string]string{"hint": "x"}},
	}
	if change != nil {
		change(bundle, statement)
	}
	payload, err := json.Marshal(statement)
	if err != nil {
		return nil
	}
	envelope["payload"] = base64.StdEncoding.EncodeToString(payload)
	raw, err := json.Marshal(map[string]any{"bundle": bundle})
	if err != nil {
		return nil
	}
	return raw
}

func TestAttestations(t *testing.T) {
	t.Parallel()
	s, base := start(t)
	m := newMini(t, base, "host-1", "self-hosted", "attested-cvm")
	m.connect()
	dispatch(t, s, "widget", "build.yml")
	token := m.acquire(m.offered()).Variables["system.github.token"].Value
	target := base + "/repos/acme/widget/attestations"
	for name, change := range map[string]func(b, st map[string]any){
		"media type": func(b, _ map[string]any) { b["mediaType"] = "text/plain" },
		"material":   func(b, _ map[string]any) { b["verificationMaterial"] = map[string]any{} },
		"envelope":   func(b, _ map[string]any) { delete(b, "dsseEnvelope") },
		"statement":  func(_, st map[string]any) { st["_type"] = "x" },
		"subject":    func(_, st map[string]any) { st["subject"] = []any{} },
		"digest":     func(_, st map[string]any) { st["subject"] = []any{map[string]any{"name": "a"}} },
		"predicate":  func(_, st map[string]any) { delete(st, "predicateType") },
	} {
		if code, body := send(t, http.MethodPost, target, token, "", attestable(change)); code != http.StatusUnprocessableEntity {
			t.Errorf("without %s: %d %s", name, code, body)
		}
	}
	code, body := send(t, http.MethodPost, target, token, "", attestable(nil))
	if code != http.StatusCreated || string(body) != `{"id":1}` {
		t.Fatalf("%d %s", code, body)
	}
	if got := s.Attestations("acme", "widget"); len(got) != 1 || got[0].PredicateType != "https://slsa.dev/provenance/v1" {
		t.Errorf("stored %+v", got)
	}
	if code, body := send(t, http.MethodGet, target+"/sha256:"+strings.Repeat("ab", 32), "", "", nil); code != http.StatusOK || !strings.Contains(string(body), `"repository_id":1296269`) {
		t.Errorf("list: %d %s", code, body)
	}
	for _, query := range []string{strings.Repeat("cd", 32), strings.Repeat("ab", 32) + "?predicate_type=other"} {
		if code, _ := send(t, http.MethodGet, target+"/sha256:"+query, "", "", nil); code != http.StatusNotFound {
			t.Errorf("list of %s: %d", query, code)
		}
	}
	plain := newMini(t, base, "host-2", "attested-cvm")
	plain.connect()
	dispatch(t, s, "widget", "two.yml")
	weak := plain.acquire(plain.offered()).Variables["system.github.token"].Value
	if code, body := send(t, http.MethodPost, target, weak, "", attestable(nil)); code != http.StatusForbidden || !strings.Contains(string(body), "Resource not accessible by integration") {
		t.Errorf("without attestations: write: %d %s", code, body)
	}
}

func TestReleases(t *testing.T) {
	t.Parallel()
	s, base := start(t)
	c := client(t, base, operatorToken)
	tag := "v1.0.0"
	rel, _, err := c.Repositories.CreateRelease(t.Context(), "acme", "widget", &github.RepositoryRelease{TagName: &tag})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join("testdata", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	asset, _, err := c.Repositories.UploadReleaseAsset(t.Context(), "acme", "widget", rel.GetID(), &github.UploadOptions{Name: "README.md"}, f) // closes f
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if code, body := send(t, http.MethodGet, asset.GetBrowserDownloadURL(), "", "", nil); code != http.StatusOK || !bytes.Equal(body, want) {
		t.Errorf("download: %d, %d bytes", code, len(body))
	}
	if got := s.Assets("acme", "widget", tag); len(got) != 1 || !bytes.Equal(got[0].Data, want) {
		t.Errorf("assets: %d", len(got))
	}
	if _, _, err := client(t, base, "").Repositories.CreateRelease(t.Context(), "acme", "widget", &github.RepositoryRelease{TagName: &tag}); status(err) != http.StatusUnauthorized {
		t.Errorf("release by nobody: %v", err)
	}
	if got, _, err := c.Repositories.GetReleaseByTag(t.Context(), "acme", "widget", tag); err != nil || len(got.Assets) != 1 {
		t.Errorf("release %+v: %v", got, err)
	}
}

func TestDispatchRefused(t *testing.T) {
	t.Parallel()
	s, base := start(t)
	c := client(t, base, operatorToken)
	for name, test := range map[string]struct {
		file, ref string
		inputs    map[string]any
		want      int
	}{
		"unknown file":     {"none.yml", "main", nil, http.StatusNotFound},
		"outside":          {"../../src/main.go.txt", "main", nil, http.StatusNotFound},
		"unknown ref":      {"build.yml", "none", nil, http.StatusUnprocessableEntity},
		"undeclared input": {"build.yml", "main", map[string]any{"x": "y"}, http.StatusUnprocessableEntity},
		"wrong choice":     {"build.yml", "main", map[string]any{"channel": "x"}, http.StatusUnprocessableEntity},
	} {
		req := github.CreateWorkflowDispatchEventRequest{Ref: test.ref, Inputs: test.inputs}
		if _, err := c.Actions.CreateWorkflowDispatchEventByFileName(t.Context(), "acme", "widget", test.file, req); status(err) != test.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if runs := s.Runs(); len(runs) != 0 {
		t.Errorf("runs made: %d", len(runs))
	}
	req := github.CreateWorkflowDispatchEventRequest{Ref: "main", Inputs: map[string]any{"channel": "beta"}}
	if _, err := c.Actions.CreateWorkflowDispatchEventByFileName(t.Context(), "acme", "widget", "build.yml", req); err != nil {
		t.Fatal(err)
	}
	runs, _, err := c.Actions.ListRepositoryWorkflowRuns(t.Context(), "acme", "widget", nil)
	if err != nil || runs.GetTotalCount() != 1 || runs.WorkflowRuns[0].GetRepository().GetOwner().GetID() != 583231 {
		t.Fatalf("runs %+v: %v", runs, err)
	}
	id := runs.WorkflowRuns[0].GetID()
	if run, _, err := c.Actions.GetWorkflowRunAttempt(t.Context(), "acme", "widget", id, 1, nil); err != nil || run.GetHeadBranch() != "main" || run.GetEvent() != "workflow_dispatch" {
		t.Errorf("attempt: %+v %v", run, err)
	}
	if jobs, _, err := c.Actions.ListWorkflowJobsAttempt(t.Context(), "acme", "widget", id, 1, nil); err != nil || jobs.GetTotalCount() != 1 || jobs.Jobs[0].RunnerID != nil {
		t.Errorf("jobs: %+v %v", jobs, err)
	}
	if _, _, err := c.Actions.GetWorkflowRunAttempt(t.Context(), "acme", "widget", id, 2, nil); status(err) != http.StatusNotFound {
		t.Errorf("second attempt: %v", err)
	}
	if _, err := s.Dispatch(t.Context(), fakegithub.Dispatch{Owner: "acme", Repo: "widget", Workflow: "build.yml", Ref: "v1.0.0", Event: "push"}); err == nil {
		t.Error("a push of a tag must not start a workflow that filters branches")
	}
	if _, err := s.Dispatch(t.Context(), fakegithub.Dispatch{Owner: "acme", Repo: "widget", Workflow: "build.yml", Ref: "main", Event: "push"}); err != nil {
		t.Error(err)
	}
}

// One listener answers for every name of the demo, over TLS, under the throw-away root alone.
func TestHostsOverTLS(t *testing.T) {
	t.Parallel()
	hosts := fakegithub.DemoHosts()
	s, err := fakegithub.New(fakegithub.Config{Hosts: hosts, NewKey: lend(), Operator: fakegithub.Operator{Login: "operator", ID: 1, Token: secret.New(operatorToken)}})
	if err != nil {
		t.Fatal(err)
	}
	populate(t, s)
	ca, err := fakegithub.NewAuthority(hosts.Names(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(l, ca)
	t.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	c := ca.Client(l.Addr())
	t.Cleanup(c.CloseIdleConnections)
	for target, want := range map[string]int{
		"https://token.actions.github.demo.test/.well-known/openid-configuration": http.StatusOK,
		"https://broker.actions.github.demo.test/health":                          http.StatusOK,
		"https://api.github.demo.test/repos/acme/widget":                          http.StatusOK,
		"https://api.github.demo.test/repos/acme/widget/tarball/main":             http.StatusOK,
		"https://github.demo.test/repos/acme/widget":                              http.StatusNotFound,
	} {
		if got := get(t, c, target); got != want {
			t.Errorf("%s: %d, want %d", target, got, want)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://elsewhere.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := c.Do(req); err == nil {
		_ = resp.Body.Close()
		t.Error("a name that is not ours got a handshake")
	}
	if s.Issuer() != "https://token.actions.github.demo.test" || !strings.HasPrefix(string(ca.PEM()), "-----BEGIN CERTIFICATE") {
		t.Error(s.Issuer())
	}
	log := s.Requests()
	if len(log) != 6 || log[0].Status == 0 { // the archive takes two
		t.Errorf("request log: %+v", log)
	}
}
