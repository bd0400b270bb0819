// SPDX-License-Identifier: Apache-2.0

package fakegithub_test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"testing"
	"time"

	"github.com/bradleyfalzon/ghinstallation/v2"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-github/v60/github"

	"github.com/kettle/attest/internal/fakegithub"
)

func newApp(t *testing.T, permissions map[string]string) (fakegithub.App, *rsa.PrivateKey) {
	t.Helper()
	all, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	key := all[0]
	return fakegithub.App{ID: 77, InstallationID: 88, Account: "acme", Key: &key.PublicKey, Permissions: permissions}, key
}

func TestInstallation(t *testing.T) {
	t.Parallel()
	app, key := newApp(t, map[string]string{"administration": "write", "actions": "read"})
	s, base := start(t, app)
	raw := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	tr, err := ghinstallation.New(http.DefaultTransport, 77, 88, raw)
	if err != nil {
		t.Fatal(err)
	}
	tr.BaseURL = base
	c := github.NewClient(&http.Client{Transport: tr})
	c.BaseURL = client(t, base, "").BaseURL
	req := &github.GenerateJITConfigRequest{Name: "host-1", RunnerGroupID: 1, Labels: []string{"attested-cvm"}}
	cfg, _, err := c.Actions.GenerateRepoJITConfig(t.Context(), "acme", "safe", req)
	if err != nil {
		t.Fatal(err)
	}
	run := dispatch(t, s, "safe", "build.yml")
	if job, _, err := c.Actions.GetWorkflowJobByID(t.Context(), "acme", "safe", run.Jobs[0].ID); err != nil || job.GetRunnerID() != 0 {
		t.Errorf("job %+v: %v", job, err)
	}
	if _, err := c.Actions.RemoveRunner(t.Context(), "acme", "safe", cfg.GetRunner().GetID()); err != nil {
		t.Error(err)
	}
	if _, _, err := c.Actions.GenerateOrgJITConfig(t.Context(), "acme", req); status(err) != http.StatusForbidden {
		t.Errorf("organization without permission: %v", err)
	}
	if _, _, err := c.Actions.GenerateRepoJITConfig(t.Context(), "actions", "checkout", req); status(err) != http.StatusForbidden {
		t.Errorf("a repository of someone else: %v", err)
	}
	if _, err := c.Actions.CreateWorkflowDispatchEventByFileName(t.Context(), "acme", "safe", "build.yml", github.CreateWorkflowDispatchEventRequest{Ref: "main"}); status(err) != http.StatusForbidden {
		t.Errorf("dispatch with actions: read: %v", err)
	}
}

func TestAppTokenRefused(t *testing.T) {
	t.Parallel()
	app, key := newApp(t, map[string]string{"actions": "read"})
	_, base := start(t, app)
	all, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	other := all[1]
	now := time.Now()
	good := map[string]any{"iss": "77", "iat": now.Add(-time.Minute).Unix(), "exp": now.Add(5 * time.Minute).Unix()}
	with := func(k string, v any) map[string]any {
		out := map[string]any{"iss": good["iss"], "iat": good["iat"], "exp": good["exp"]}
		out[k] = v
		return out
	}
	tests := map[string]struct {
		claims map[string]any
		key    *rsa.PrivateKey
		alg    jose.SignatureAlgorithm
		path   string
		body   string
		want   int
	}{
		"good":                  {good, key, jose.RS256, "88", "", http.StatusCreated},
		"issuer as number":      {with("iss", 77), key, jose.RS256, "88", "", http.StatusCreated},
		"fewer permissions":     {good, key, jose.RS256, "88", `{"permissions":{"actions":"read"}}`, http.StatusCreated},
		"more permissions":      {good, key, jose.RS256, "88", `{"permissions":{"actions":"write"}}`, http.StatusUnprocessableEntity},
		"another installation":  {good, key, jose.RS256, "89", "", http.StatusNotFound},
		"another key":           {good, other, jose.RS256, "88", "", http.StatusUnauthorized},
		"another algorithm":     {good, key, jose.PS256, "88", "", http.StatusUnauthorized},
		"unknown app":           {with("iss", "78"), key, jose.RS256, "88", "", http.StatusUnauthorized},
		"expired":               {with("exp", now.Add(-time.Minute).Unix()), key, jose.RS256, "88", "", http.StatusUnauthorized},
		"no expiry":             {with("exp", nil), key, jose.RS256, "88", "", http.StatusUnauthorized},
		"too long":              {with("exp", now.Add(time.Hour).Unix()), key, jose.RS256, "88", "", http.StatusUnauthorized},
		"issued in the future":  {with("iat", now.Add(time.Hour).Unix()), key, jose.RS256, "88", "", http.StatusUnauthorized},
		"no time of issue":      {with("iat", nil), key, jose.RS256, "88", "", http.StatusUnauthorized},
		"malformed permissions": {good, key, jose.RS256, "88", `{`, http.StatusBadRequest},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			signer, err := jose.NewSigner(jose.SigningKey{Algorithm: test.alg, Key: test.key}, nil)
			if err != nil {
				t.Fatal(err)
			}
			token, err := jwt.Signed(signer).Claims(test.claims).Serialize()
			if err != nil {
				t.Fatal(err)
			}
			code, body := send(t, http.MethodPost, base+"/app/installations/"+test.path+"/access_tokens", token, "", []byte(test.body))
			if code != test.want {
				t.Errorf("got %d %s, want %d", code, body, test.want)
			}
		})
	}
	if code, _ := send(t, http.MethodPost, base+"/app/installations/88/access_tokens", "", "", nil); code != http.StatusUnauthorized {
		t.Errorf("without a token: %d", code)
	}
}

// A job's token can do what the workflow's permissions say, in its own repository, until the job ends.
func TestJobToken(t *testing.T) {
	t.Parallel()
	s, base := start(t)
	m := newMini(t, base, "host-1", "self-hosted", "attested-cvm")
	m.connect()
	dispatch(t, s, "widget", "build.yml")
	w := m.acquire(m.offered())
	token := w.Variables["system.github.token"].Value
	tests := map[string]struct {
		method, path, body string
		want               int
	}{
		"commit":            {http.MethodGet, "/repos/acme/widget/commits/main", "", http.StatusOK},
		"another, private":  {http.MethodGet, "/repos/acme/safe/commits/main", "", http.StatusNotFound},
		"another, public":   {http.MethodGet, "/repos/actions/checkout/commits/v4", "", http.StatusOK},
		"release":           {http.MethodPost, "/repos/acme/widget/releases", `{"tag_name":"v9"}`, http.StatusForbidden},
		"dispatch":          {http.MethodPost, "/repos/acme/widget/actions/workflows/build.yml/dispatches", `{"ref":"main"}`, http.StatusForbidden},
		"runners":           {http.MethodGet, "/repos/acme/widget/actions/runners", "", http.StatusForbidden},
		"org runners":       {http.MethodGet, "/orgs/acme/actions/runners", "", http.StatusForbidden},
		"attestation":       {http.MethodPost, "/repos/acme/widget/attestations", `{}`, http.StatusUnprocessableEntity},
		"other attestation": {http.MethodPost, "/repos/actions/checkout/attestations", `{}`, http.StatusForbidden},
		"no such route":     {http.MethodGet, "/repos/acme/widget/stargazers", "", http.StatusNotFound},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			code, body := send(t, test.method, base+test.path, token, "", []byte(test.body))
			if code != test.want {
				t.Errorf("got %d %s, want %d", code, body, test.want)
			}
			if code >= 400 {
				var e struct {
					Message string
					URL     string `json:"documentation_url"`
				}
				unmarshal(t, body, &e)
				if e.Message == "" || e.URL == "" {
					t.Errorf("error body %s", body)
				}
			}
		})
	}
	for what, bad := range map[string]string{"system": w.system(), "runner": m.token} {
		if code, _ := send(t, http.MethodGet, base+"/repos/acme/widget", bad, "", nil); code != http.StatusUnauthorized {
			t.Errorf("REST with the %s token: %d", what, code)
		}
	}
	w.complete("failed", nil)
	if code, _ := send(t, http.MethodGet, base+"/repos/acme/widget", token, "", nil); code != http.StatusUnauthorized {
		t.Errorf("after the end of the job: %d", code)
	}
}

// installationToken gets a token of the App of newApp.
func installationToken(t *testing.T, base string, key *rsa.PrivateKey) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	raw, err := jwt.Signed(signer).Claims(map[string]any{"iss": "77", "iat": now.Add(-time.Minute).Unix(), "exp": now.Add(8 * time.Minute).Unix()}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	code, body := send(t, http.MethodPost, base+"/app/installations/88/access_tokens", raw, "", nil)
	var out struct{ Token string }
	unmarshal(t, body, &out)
	if code != http.StatusCreated || out.Token == "" {
		t.Fatalf("%d %s", code, body)
	}
	return out.Token
}
