// SPDX-License-Identifier: Apache-2.0

package fakesigstore_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kettle/attest/internal/fakesigstore"
)

// That bundles, proofs and timestamps verify is shown in attest/bundle, by another implementation. The tests here hold
// certificates to what Fulcio documents, and the services to what they must refuse.

func today() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

func instance(t testing.TB, cfg fakesigstore.Config) *fakesigstore.Instance {
	t.Helper()
	cfg.Now = today
	i, err := fakesigstore.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func identity() fakesigstore.Identity {
	return fakesigstore.GitHub("acme/image", ".github/workflows/image.yml", "refs/heads/main")
}

func TestNoClock(t *testing.T) {
	t.Parallel()
	if _, err := fakesigstore.New(fakesigstore.Config{}); err == nil {
		t.Error("an instance without a clock")
	}
}

// TestCertificate compares every extension with Fulcio's directory of object identifiers (docs/oid-info.md of
// sigstore/fulcio): 1 to 6 are raw text, those from 8 on DER UTF8Strings.
func TestCertificate(t *testing.T) {
	t.Parallel()
	id := identity()
	id.JobWorkflowRef, id.Environment = "acme/shared/.github/workflows/build.yml@refs/tags/v1", "release"
	line, err := instance(t, fakesigstore.Config{}).Sign([]byte("{}"), fakesigstore.Options{Identity: id})
	if err != nil {
		t.Fatal(err)
	}
	leaf := leafOf(t, line)
	want := map[int]string{
		1: id.Issuer, 2: "push", 3: id.SHA, 4: "image", 5: "acme/image", 6: "refs/heads/main", 8: id.Issuer,
		9: "https://github.com/acme/shared/.github/workflows/build.yml@refs/tags/v1", 10: id.SHA, 11: "github-hosted",
		12: "https://github.com/acme/image", 13: id.SHA, 14: "refs/heads/main", 15: id.RepositoryID, 16: "https://github.com/acme",
		17: id.OwnerID, 18: "https://github.com/acme/image/.github/workflows/image.yml@refs/heads/main", 19: id.SHA, 20: "push",
		21: "https://github.com/acme/image/actions/runs/9001/attempts/1", 22: "public", 23: "release", 24: id.Subject,
	}
	got := map[int]string{}
	arc := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1}
	for _, e := range leaf.Extensions {
		if len(e.Id) != len(arc)+1 || !slices.Equal(e.Id[:len(arc)], arc) {
			continue
		}
		n, value := e.Id[len(arc)], e.Value
		if n >= 8 {
			if value[0] != 0x0c {
				t.Errorf("extension %d has tag %#x", n, value[0])
			}
			var text string
			if _, err := asn1.Unmarshal(value, &text); err != nil {
				t.Fatal(err)
			}
			value = []byte(text)
		}
		got[n] = string(value)
	}
	for n, text := range want {
		if got[n] != text {
			t.Errorf("extension %d: want %q, got %q", n, text, got[n])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d extensions, want %d", len(got), len(want))
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != want[9] || leaf.Subject.String() != "" || leaf.NotAfter.Sub(leaf.NotBefore) != 10*time.Minute {
		t.Errorf("certificate %v %v %v %v", leaf.URIs, leaf.Subject, leaf.NotBefore, leaf.NotAfter)
	}
}

func leafOf(t *testing.T, line []byte) *x509.Certificate {
	t.Helper()
	var b struct {
		VerificationMaterial struct {
			Certificate struct {
				RawBytes []byte `json:"rawBytes"`
			} `json:"certificate"`
		} `json:"verificationMaterial"`
	}
	if err := json.Unmarshal(line, &b); err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(b.VerificationMaterial.Certificate.RawBytes)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// TestIdentities shows that numbers tell a fork from what it was forked from, though the names below the owner agree.
func TestIdentities(t *testing.T) {
	t.Parallel()
	ours, fork := identity(), fakesigstore.GitHub("mallory/image", ".github/workflows/image.yml", "refs/heads/main")
	if ours.RepositoryID == fork.RepositoryID || ours.OwnerID == fork.OwnerID || ours.SHA == fork.SHA || ours.SAN() == fork.SAN() || ours != identity() {
		t.Errorf("%+v\n%+v", ours, fork)
	}
}

// TestTrustedRoot names what an instance has and nothing else.
func TestTrustedRoot(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cfg  fakesigstore.Config
		want []string
	}{
		"all":     {fakesigstore.Config{}, []string{"certificateAuthorities", "ctlogs", "mediaType", "timestampAuthorities", "tlogs"}},
		"GitHub":  {fakesigstore.Config{WithoutCT: true, WithoutLog: true}, []string{"certificateAuthorities", "mediaType", "timestampAuthorities"}},
		"no time": {fakesigstore.Config{WithoutTSA: true}, []string{"certificateAuthorities", "ctlogs", "mediaType", "tlogs"}},
	} {
		root := instance(t, tc.cfg).TrustedRoot()
		var m map[string]any
		if err := json.Unmarshal(root, &m); err != nil || bytes.ContainsAny(root, "\r\n") {
			t.Fatal(err)
		}
		var got []string
		for k := range m {
			got = append(got, k)
		}
		if slices.Sort(got); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// client asks a served instance.
type client struct {
	t     *testing.T
	url   string
	key   *ecdsa.PrivateKey
	token string
}

func serve(t *testing.T, cfg fakesigstore.Config) (*fakesigstore.Instance, *client) {
	t.Helper()
	i := instance(t, cfg)
	s := httptest.NewServer(i.Handler())
	t.Cleanup(s.Close)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	token, err := i.Token(identity())
	if err != nil {
		t.Fatal(err)
	}
	return i, &client{t: t, url: s.URL, key: key, token: token}
}

// post gives status and body.
func (c *client) post(path, kind string, body []byte) (int, []byte) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url+path, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	r.Header.Set("Authorization", "Bearer "+c.token)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return res.StatusCode, text
}

// certificate asks Fulcio, proving possession by a signature over the subject.
func (c *client) certificate(subject string) (int, []byte) {
	c.t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(c.key.Public())
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"publicKeyRequest": map[string]any{
		"publicKey":         map[string]any{"algorithm": "ECDSA", "content": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))},
		"proofOfPossession": c.sign([]byte(subject)),
	}})
	if err != nil {
		c.t.Fatal(err)
	}
	return c.post(fakesigstore.PathFulcio, "application/json", body)
}

func (c *client) sign(data []byte) []byte {
	c.t.Helper()
	sum := sha256.Sum256(data)
	sig, err := ecdsa.SignASN1(rand.Reader, c.key, sum[:])
	if err != nil {
		c.t.Fatal(err)
	}
	return sig
}

// TestFulcio shows whom the certificate authority certifies, and whom not.
func TestFulcio(t *testing.T) {
	t.Parallel()
	_, c := serve(t, fakesigstore.Config{})
	id := identity()
	status, body := c.certificate(id.Subject)
	if status != http.StatusOK || strings.Count(string(body), "BEGIN CERTIFICATE") != 3 {
		t.Fatalf("%d %s", status, body)
	}
	if status, _ := c.certificate("repo:somebody/else"); status != http.StatusBadRequest {
		t.Errorf("a proof over another subject: %d", status)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := map[string]any{
		"iss": fakesigstore.GitHubIssuer, "sub": id.Subject, "aud": "sigstore", "exp": today().Add(time.Minute).Unix(), "nbf": today().Unix(), "job_workflow_ref": "x",
	}
	_, foreign := serve(t, fakesigstore.Config{Issuers: map[string]jose.JSONWebKeySet{
		fakesigstore.GitHubIssuer: {Keys: []jose.JSONWebKey{{Key: other.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}},
	}})
	mint := func(claim string, value any) string {
		claims := map[string]any{}
		for k, v := range good {
			claims[k] = v
		}
		if claim != "" {
			claims[claim] = value
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: other, KeyID: "k"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := jwt.Signed(signer).Claims(claims).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	foreign.token = mint("", nil)
	if status, body := foreign.certificate(id.Subject); status != http.StatusOK {
		t.Errorf("a token of a configured issuer: %d %s", status, body)
	}
	for name, token := range map[string]string{
		"none": "", "garbage": "a.b.c", "expired": mint("exp", today().Add(-time.Minute).Unix()), "later": mint("nbf", today().Add(time.Hour).Unix()),
		"endless": mint("exp", nil), "audience": mint("aud", "https://github.com/acme"), "issuer": mint("iss", "https://issuer.example.com"),
		"no subject": mint("sub", ""), "no workflow": mint("job_workflow_ref", ""), "the instance's own key": c.token,
	} {
		foreign.token = token
		if status, body := foreign.certificate(id.Subject); status != http.StatusUnauthorized {
			t.Errorf("token %s: %d %s", name, status, body)
		}
	}
}

// TestRekor shows that the log takes only what verifies.
func TestRekor(t *testing.T) {
	t.Parallel()
	_, c := serve(t, fakesigstore.Config{})
	spki, err := x509.MarshalPKIXPublicKey(c.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("data"))
	entry := func(digest, sig []byte, details string) []byte {
		body, err := json.Marshal(map[string]any{"hashedRekordRequestV002": map[string]any{"digest": digest, "signature": map[string]any{
			"content": sig, "verifier": map[string]any{"keyDetails": details, "publicKey": map[string]any{"rawBytes": spki}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	const details = "PKIX_ECDSA_P256_SHA_256"
	sig := c.sign([]byte("data"))
	for n := range 3 {
		status, body := c.post(fakesigstore.PathRekor, "application/json", entry(digest[:], sig, details))
		var e struct {
			LogIndex       string `json:"logIndex"`
			InclusionProof struct {
				TreeSize string   `json:"treeSize"`
				Hashes   [][]byte `json:"hashes"`
			} `json:"inclusionProof"`
		}
		if err := json.Unmarshal(body, &e); err != nil || status != http.StatusCreated || e.LogIndex != fmt.Sprint(n+3) ||
			e.InclusionProof.TreeSize != fmt.Sprint(n+4) || len(e.InclusionProof.Hashes) == 0 {
			t.Errorf("%d %s", status, body)
		}
	}
	for name, body := range map[string][]byte{
		"another digest": entry(make([]byte, 32), sig, details), "another signature": entry(digest[:], c.sign([]byte("other")), details),
		"a short digest": entry(digest[:20], sig, details), "another algorithm": entry(digest[:], sig, "PKIX_ED25519"), "garbage": []byte("x"), "nothing": []byte("{}"),
		"too long": bytes.Repeat([]byte(" "), 2<<20),
	} {
		if status, _ := c.post(fakesigstore.PathRekor, "application/json", body); status != http.StatusBadRequest {
			t.Errorf("%s: %d", name, status)
		}
	}
	_, without := serve(t, fakesigstore.Config{WithoutLog: true, WithoutTSA: true})
	for _, path := range []string{fakesigstore.PathRekor, fakesigstore.PathTimestamp} {
		if status, _ := without.post(path, "application/json", entry(digest[:], sig, details)); status != http.StatusBadRequest {
			t.Errorf("%s of an instance without: %d", path, status)
		}
	}
}

// TestTemplate shows that a certificate can be made wrong by asking for it.
func TestTemplate(t *testing.T) {
	t.Parallel()
	line, err := instance(t, fakesigstore.Config{}).Sign([]byte("{}"), fakesigstore.Options{Identity: identity(), Template: func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}})
		c.EmailAddresses = []string{"mallory@example.com"}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if leaf := leafOf(t, line); len(leaf.EmailAddresses) != 1 || len(leaf.URIs) != 1 {
		t.Errorf("%v %v", leaf.EmailAddresses, leaf.URIs)
	}
}
