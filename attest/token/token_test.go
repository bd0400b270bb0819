// SPDX-License-Identifier: Apache-2.0

package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

var at = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// testKey is made once: RSA keys are slow to make.
var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func jwks(pub crypto.PublicKey, id string) []byte {
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: pub, KeyID: id, Algorithm: "RS256", Use: "sig"}}})
	if err != nil {
		panic(err)
	}
	return b
}

func sign(t testing.TB, key any, alg jose.SignatureAlgorithm, kid string, payload any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", kid))
	if err != nil {
		t.Fatal(err)
	}
	b, ok := payload.([]byte)
	if !ok {
		if b, err = json.Marshal(payload); err != nil {
			t.Fatal(err)
		}
	}
	o, err := s.Sign(b)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := o.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

const issuerURL = "https://token.actions.githubusercontent.com"

func want() Want {
	return Want{
		Issuer:   issuerURL,
		Audience: Audience(binding.Sum([]byte("key")), binding.Sum([]byte("nonce"))),
		Facts: statement.Facts{
			Server: "https://github.com", Repository: "acme/widget", RepositoryID: "1296269", RepositoryOwnerID: "583231",
			RunID: "1536140711", RunAttempt: "1", JobID: "987654321", Ref: "refs/heads/main", SHA: strings.Repeat("a1", 20),
			Event: "push", WorkflowPath: ".github/workflows/release@x.yml", ActorID: "42",
			JobWorkflowRef: "acme/called/.github/workflows/build.yml@refs/tags/v1", JobWorkflowSHA: strings.Repeat("b2", 20),
		},
	}
}

// payload is a token as GitHub writes it, with claims that Kettle does not look at.
func payload() map[string]any {
	return map[string]any{
		"iss": issuerURL, "aud": want().Audience, "sub": "repo:acme/widget:ref:refs/heads/main", "jti": "id-1",
		"iat": at.Add(-3 * time.Second).Unix(), "nbf": at.Add(-603 * time.Second).Unix(), "exp": at.Add(297 * time.Second).Unix(),
		"runner_environment": "self-hosted", "repository": "acme/widget", "repository_id": "1296269",
		"repository_owner_id": "583231", "run_id": "1536140711", "run_attempt": "1", "check_run_id": "987654321",
		"ref": "refs/heads/main", "sha": strings.Repeat("a1", 20), "event_name": "push", "actor_id": "42",
		"workflow_ref":     "acme/widget/.github/workflows/release@x.yml@refs/heads/main",
		"job_workflow_ref": "acme/called/.github/workflows/build.yml@refs/tags/v1",
		"job_workflow_sha": strings.Repeat("b2", 20), "enterprise": "acme",
	}
}

func keys(t testing.TB) *Keys {
	t.Helper()
	k, err := ParseKeys(jwks(&testKey().PublicKey, "k1"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestAudienceGolden may never change: tokens of the past carry it.
func TestAudienceGolden(t *testing.T) {
	t.Parallel()
	var key, nonce binding.Digest
	for i := range key {
		key[i], nonce[i] = byte(i), byte(255-i)
	}
	const golden = "cbd3aabe6d5a9125f0e086ced756cff43bcf46c307d73ec8c6bc5382c5640689"
	if got := Audience(key, nonce); got != golden {
		t.Errorf("audience %s, want %s", got, golden)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	c, err := Verify(sign(t, testKey(), jose.RS256, "k1", payload()), keys(t), want(), at)
	if err != nil {
		t.Fatal(err)
	}
	if c.Issuer != issuerURL || c.ID != "id-1" || c.Subject == "" || !c.IssuedAt.Equal(at.Add(-3*time.Second)) || c.Expires.IsZero() {
		t.Errorf("claims %+v", c)
	}
	numbers := payload()
	numbers["check_run_id"], numbers["run_id"], numbers["aud"] = 987654321, 1536140711, []string{want().Audience}
	if _, err := Verify(sign(t, testKey(), jose.RS256, "k1", numbers), keys(t), want(), at); err != nil {
		t.Errorf("numbers and a list of one audience: %v", err)
	}
}

// TestAttackForeignToken hands in tokens that GitHub signed for something else.
func TestAttackForeignToken(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		claim string
		value any // nil removes the claim
		want  error
	}{
		"issuer":             {"iss", "https://token.actions.githubusercontent.com/acme", refusal.ErrIdentity},
		"no issuer":          {"iss", nil, refusal.ErrIdentity},
		"environment":        {"environment", "production", refusal.ErrIdentity},
		"environment's key":  {"aud", Audience(binding.Sum([]byte("another key")), binding.Sum([]byte("nonce"))), refusal.ErrBinding},
		"nonce":              {"aud", Audience(binding.Sum([]byte("key")), binding.Sum([]byte("another nonce"))), refusal.ErrBinding},
		"job as text":        {"check_run_id", " 987654321", refusal.ErrIdentity},
		"job as truth":       {"check_run_id", true, refusal.ErrMalformed},
		"job as object":      {"check_run_id", map[string]any{"id": 987654321}, refusal.ErrMalformed},
		"negative job":       {"check_run_id", -987654321, refusal.ErrMalformed},
		"ref as list":        {"ref", []string{"refs/heads/main"}, refusal.ErrMalformed},
		"audience":           {"aud", "sts.amazonaws.com", refusal.ErrBinding},
		"no audience":        {"aud", nil, refusal.ErrBinding},
		"two audiences":      {"aud", []string{want().Audience, "x"}, refusal.ErrBinding},
		"audience as prefix": {"aud", want().Audience + "0", refusal.ErrBinding},
		"hosted runner":      {"runner_environment", "github-hosted", refusal.ErrIdentity},
		"no runner":          {"runner_environment", nil, refusal.ErrIdentity},
		"repository":         {"repository", "acme/Widget", refusal.ErrIdentity},
		"repository id":      {"repository_id", "1", refusal.ErrIdentity},
		"owner id":           {"repository_owner_id", "1", refusal.ErrIdentity},
		"run":                {"run_id", "1536140712", refusal.ErrIdentity},
		"attempt":            {"run_attempt", "2", refusal.ErrIdentity},
		"job":                {"check_run_id", "987654322", refusal.ErrIdentity},
		"no job":             {"check_run_id", nil, refusal.ErrIdentity},
		"job as float":       {"check_run_id", 9.87654321e8 + 0.5, refusal.ErrMalformed},
		"job as list":        {"check_run_id", []string{"987654321"}, refusal.ErrMalformed},
		"ref":                {"ref", "refs/heads/dev", refusal.ErrIdentity},
		"sha":                {"sha", strings.Repeat("a2", 20), refusal.ErrIdentity},
		"event":              {"event_name", "pull_request_target", refusal.ErrIdentity},
		"actor":              {"actor_id", "43", refusal.ErrIdentity},
		"workflow":           {"workflow_ref", "acme/widget/.github/workflows/other.yml@refs/heads/main", refusal.ErrIdentity},
		"workflow's ref":     {"workflow_ref", "acme/widget/.github/workflows/release@x.yml@refs/heads/dev", refusal.ErrIdentity},
		"workflow like ref":  {"workflow_ref", "acme/widget/.github/workflows/release@x.yml@evil.yml@refs/heads/main", refusal.ErrIdentity},
		"workflow, more":     {"workflow_ref", "acme/widget/.github/workflows/release@x.yml@refs/heads/main2", refusal.ErrIdentity},
		"workflow, no ref":   {"workflow_ref", "acme/widget/.github/workflows/release@x.yml", refusal.ErrIdentity},
		"no workflow":        {"workflow_ref", nil, refusal.ErrIdentity},
		"called":             {"job_workflow_ref", "acme/called/.github/workflows/build.yml@refs/tags/v2", refusal.ErrIdentity},
		"not called":         {"job_workflow_ref", nil, refusal.ErrIdentity},
		"called commit":      {"job_workflow_sha", strings.Repeat("b3", 20), refusal.ErrIdentity},
		"no called commit":   {"job_workflow_sha", nil, refusal.ErrIdentity},
		"expired":            {"exp", at.Add(-Skew).Unix(), refusal.ErrExpired},
		"not yet":            {"nbf", at.Add(Skew + time.Second).Unix(), refusal.ErrExpired},
		"old":                {"iat", at.Add(-MaxAge - time.Second).Unix(), refusal.ErrExpired},
		"from the future":    {"iat", at.Add(Skew + time.Second).Unix(), refusal.ErrExpired},
		"no expiry":          {"exp", nil, refusal.ErrMalformed},
		"no issue":           {"iat", nil, refusal.ErrMalformed},
		"no start":           {"nbf", nil, refusal.ErrMalformed},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := payload()
			delete(p, tc.claim)
			if tc.value != nil {
				p[tc.claim] = tc.value
			}
			c, err := Verify(sign(t, testKey(), jose.RS256, "k1", p), keys(t), want(), at)
			if !errors.Is(err, tc.want) || c != (Claims{}) {
				t.Fatalf("got %+v, %v; want %v", c, err, tc.want)
			}
			if all := refusal.All(err); len(all) != 1 {
				t.Errorf("%d refusals, want one: %v", len(all), err)
			}
		})
	}
}

// TestHostileWorkflowFile has a file whose name ends like a ref: a token for it is none for the file before the @.
func TestHostileWorkflowFile(t *testing.T) {
	t.Parallel()
	for name, ref := range map[string]string{"push": "refs/heads/evil.yml", "pull request": "refs/pull/7/merge"} {
		p, w := payload(), want()
		p["ref"], w.Facts.Ref = ref, ref
		p["workflow_ref"] = "acme/widget/.github/workflows/release.yml@evil.yml@" + ref
		raw := sign(t, testKey(), jose.RS256, "k1", p)
		w.Facts.WorkflowPath = ".github/workflows/release.yml@evil.yml"
		if _, err := Verify(raw, keys(t), w, at); err != nil {
			t.Errorf("%s: its own name: %v", name, err)
		}
		w.Facts.WorkflowPath = ".github/workflows/release.yml"
		if _, err := Verify(raw, keys(t), w, at); !errors.Is(err, refusal.ErrIdentity) {
			t.Errorf("%s: another's name: %v", name, err)
		}
	}
}

// TestIncompleteWant shows that nothing that is expected may be left blank.
func TestIncompleteWant(t *testing.T) {
	t.Parallel()
	raw := sign(t, testKey(), jose.RS256, "k1", payload())
	for name, blank := range map[string]func(*Want){
		"issuer": func(w *Want) { w.Issuer = "" }, "audience": func(w *Want) { w.Audience = "" },
		"repository": func(w *Want) { w.Facts.Repository = "" }, "repository id": func(w *Want) { w.Facts.RepositoryID = "" },
		"owner id": func(w *Want) { w.Facts.RepositoryOwnerID = "" }, "run": func(w *Want) { w.Facts.RunID = "" },
		"attempt": func(w *Want) { w.Facts.RunAttempt = "" }, "job": func(w *Want) { w.Facts.JobID = "" },
		"ref": func(w *Want) { w.Facts.Ref = "" }, "sha": func(w *Want) { w.Facts.SHA = "" },
		"event": func(w *Want) { w.Facts.Event = "" }, "workflow": func(w *Want) { w.Facts.WorkflowPath = "" },
	} {
		w := want()
		blank(&w)
		if _, err := Verify(raw, keys(t), w, at); !errors.Is(err, refusal.ErrMissing) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Verify(raw, keys(t), want(), time.Time{}); !errors.Is(err, refusal.ErrMissing) {
		t.Errorf("no time: %v", err)
	}
}

func trustFile(from, until time.Time, server string) string {
	return fmt.Sprintf(`{"schema":"kettle.trust/v1","asOf":"2026-11-21T00:00:00Z","issuers":[{"issuer":%q,"server":%q,"from":%q,"until":%q,"jwks":%s}]}`,
		issuerURL, server, from.Format(time.RFC3339), until.Format(time.RFC3339), jwks(&testKey().PublicKey, "k1"))
}

func TestTrust(t *testing.T) {
	t.Parallel()
	raw := sign(t, testKey(), jose.RS256, "k1", payload())
	from, until := at.Add(-time.Hour), at.Add(time.Hour)
	tests := map[string]struct {
		file   string
		change func(*Want)
		at     time.Time
		want   error
	}{
		"good":           {trustFile(from, until, "https://github.com"), func(w *Want) { w.Issuer = "" }, at, nil},
		"issuer named":   {trustFile(from, until, "https://github.com"), func(*Want) {}, at, nil},
		"other issuer":   {trustFile(from, until, "https://github.com"), func(w *Want) { w.Issuer = "https://x" }, at, refusal.ErrMissing},
		"other server":   {trustFile(from, until, "https://ghes.example"), func(*Want) {}, at, refusal.ErrMissing},
		"keys too new":   {trustFile(at.Add(time.Second), until, "https://github.com"), func(*Want) {}, at, refusal.ErrMissing},
		"keys too old":   {trustFile(from, at, "https://github.com"), func(*Want) {}, at, refusal.ErrMissing},
		"another claim":  {trustFile(from, until, "https://github.com"), func(w *Want) { w.Facts.JobID = "1" }, at, refusal.ErrIdentity},
		"long after":     {trustFile(from, until, "https://github.com"), func(*Want) {}, at.Add(59 * time.Minute), refusal.ErrExpired},
		"another server": {trustFile(from, until, "https://github.com"), func(w *Want) { w.Facts.Server = "https://ghes.example" }, at, refusal.ErrMissing},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr, err := ParseTrust([]byte(tc.file))
			if err != nil {
				t.Fatal(err)
			}
			w := want()
			tc.change(&w)
			if _, err := tr.Verify(raw, w, tc.at); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
	if _, err := (*Trust)(nil).Verify(raw, want(), at); !errors.Is(err, refusal.ErrMissing) {
		t.Errorf("no trust: %v", err)
	}
	tr, err := ParseTrust([]byte(trustFile(from, until, "https://github.com")))
	if err != nil || tr.AsOf().IsZero() {
		t.Errorf("as of %v, %v", tr.AsOf(), err)
	}
}

func TestParseTrustRefuses(t *testing.T) {
	t.Parallel()
	good := trustFile(at, at.Add(time.Hour), "https://github.com")
	weak, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // a weak key is what the test is about.
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set := string(jwks(&testKey().PublicKey, "k1"))
	change := func(old, with string) string { return strings.Replace(good, old, with, 1) }
	for name, text := range map[string]string{
		"empty":          "",
		"schema":         change("trust/v1", "trust/v2"),
		"no date":        change(`"asOf":"2026-11-21T00:00:00Z",`, ""),
		"unknown key":    change(`"asOf"`, `"x":1,"asOf"`),
		"repeated key":   change(`"asOf"`, `"ASOF":"2020-01-01T00:00:00Z","asOf"`),
		"folded key":     change(`"asOf"`, `"a\u017fOf":"2020-01-01T00:00:00Z","asOf"`),
		"trailing data":  good + "{}",
		"no issuers":     `{"schema":"kettle.trust/v1","asOf":"2026-11-21T00:00:00Z","issuers":[]}`,
		"no server":      change(`"server":"https://github.com",`, ""),
		"http issuer":    change(`"https://token`, `"http://token`),
		"final slash":    change(`githubusercontent.com"`, `githubusercontent.com/"`),
		"backward":       trustFile(at, at.Add(-time.Hour), "https://github.com"),
		"no end":         change(`"until"`, `"untl"`),
		"no keys":        change(set, `{"keys":[]}`),
		"weak key":       change(set, string(jwks(&weak.PublicKey, "k1"))),
		"EC key":         change(set, string(jwks(&ec.PublicKey, "k1"))),
		"private key":    change(set, string(jwks(testKey(), "k1"))),
		"no key id":      change(set, string(jwks(&testKey().PublicKey, ""))),
		"key id twice":   change(set, strings.Replace(set, "]", ","+strings.TrimSuffix(strings.TrimPrefix(set, `{"keys":[`), "]}")+"]", 1)),
		"for encryption": change(`"use":"sig"`, `"use":"enc"`),
		"another alg":    change(`"RS256"`, `"RS512"`),
		"too large":      good + strings.Repeat(" ", MaxTrust),
		"deep":           strings.Repeat("[", 40),
	} {
		if tr, err := ParseTrust([]byte(text)); !errors.Is(err, ErrInvalidTrust) || tr != nil {
			t.Errorf("%s: %v, %v", name, tr, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(sign(f, testKey(), jose.RS256, "k1", payload()))
	f.Add("a.b.c")
	k := keys(f)
	good := sign(f, testKey(), jose.RS256, "k1", payload())
	f.Fuzz(func(t *testing.T, raw string) {
		// The unused bits of the last base64 digit may differ; header and payload may not.
		c, err := Verify(raw, k, want(), at)
		signed := good[:strings.LastIndexByte(good, '.')+1]
		if err == nil && !strings.HasPrefix(raw, signed) || err != nil && c != (Claims{}) {
			t.Fatalf("accepted %q: %+v %v", raw, c, err)
		}
	})
}

func FuzzParseTrust(f *testing.F) {
	f.Add([]byte(trustFile(at, at.Add(time.Hour), "https://github.com")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if tr, err := ParseTrust(b); (tr == nil) == (err == nil) {
			t.Fatal("trust and an error, or neither")
		}
	})
}
