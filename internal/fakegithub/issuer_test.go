// SPDX-License-Identifier: Apache-2.0

package fakegithub_test

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/go-cmp/cmp"
)

func TestIDToken(t *testing.T) {
	t.Parallel()
	s, base := start(t)
	m := newMini(t, base, "host-1", "self-hosted", "attested-cvm")
	m.connect()
	run := dispatch(t, s, "widget", "build.yml")
	w := m.acquire(m.offered())
	target := w.Resources.Endpoints[0].Data["GenerateIdTokenUrl"]
	if !strings.Contains(target, "/91//idtoken/"+w.Plan.PlanID+"/"+w.JobID+"?api-version=2.0") {
		t.Fatalf("url %q", target)
	}
	code, body := send(t, http.MethodGet, target+"&audience="+url.QueryEscape("kettle:abc"), w.system(), "", nil)
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	var answer struct{ Value string }
	unmarshal(t, body, &answer)
	provider, err := oidc.NewProvider(t.Context(), s.Issuer())
	if err != nil {
		t.Fatal(err)
	}
	token, err := provider.Verifier(&oidc.Config{ClientID: "kettle:abc"}).Verify(t.Context(), answer.Value)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := token.Claims(&got); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"iat", "exp", "nbf", "jti"} {
		delete(got, k)
	}
	ref := "acme/widget/.github/workflows/build.yml@refs/heads/main"
	want := map[string]any{
		"iss": s.Issuer(), "aud": "kettle:abc", "sub": "repo:acme/widget:ref:refs/heads/main", "actor": "operator", "actor_id": "1001",
		"base_ref": "", "head_ref": "", "event_name": "workflow_dispatch", "check_run_id": strconv.FormatInt(run.Jobs[0].ID, 10),
		"job_workflow_ref": ref, "job_workflow_sha": run.SHA, "workflow_ref": ref, "workflow_sha": run.SHA, "workflow": "build",
		"ref": "refs/heads/main", "ref_type": "branch", "ref_protected": "false", "sha": run.SHA, "repository": "acme/widget",
		"repository_id": "1296269", "repository_owner": "acme", "repository_owner_id": "583231", "repository_visibility": "public",
		"run_id": strconv.FormatInt(run.ID, 10), "run_number": "1", "run_attempt": "1", "runner_environment": "self-hosted",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	for name, test := range map[string]struct {
		token, url string
		want       int
	}{
		"nobody":      {"", target, http.StatusUnauthorized},
		"job token":   {w.Variables["system.github.token"].Value, target, http.StatusUnauthorized},
		"runner":      {m.token, target, http.StatusUnauthorized},
		"another job": {w.system(), strings.Replace(target, w.JobID, w.Plan.PlanID, 1), http.StatusForbidden},
	} {
		if code, _ := send(t, http.MethodGet, test.url, test.token, "", nil); code != test.want {
			t.Errorf("%s: %d, want %d", name, code, test.want)
		}
	}
	w.complete("succeeded", nil)
	if code, _ := send(t, http.MethodGet, target, w.system(), "", nil); code != http.StatusForbidden {
		t.Errorf("after the end of the job: %d", code)
	}
}

func TestNoIDTokenWithoutPermission(t *testing.T) {
	t.Parallel()
	s, base := start(t)
	m := newMini(t, base, "host-1", "attested-cvm")
	m.connect()
	dispatch(t, s, "widget", "two.yml")
	w := m.acquire(m.offered())
	if u, ok := w.Resources.Endpoints[0].Data["GenerateIdTokenUrl"]; ok {
		t.Errorf("url %q given without id-token: write", u)
	}
	target := base + "/_run/91//idtoken/" + w.Plan.PlanID + "/" + w.JobID
	if code, _ := send(t, http.MethodGet, target, w.system(), "", nil); code != http.StatusForbidden {
		t.Errorf("got %d", code)
	}
}
