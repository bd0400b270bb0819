// SPDX-License-Identifier: Apache-2.0

package github

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner/job/pinned"
)

var runnerKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// blob is a JIT configuration in parts, as GitHub makes it.
type blob struct {
	runner, credentials, data, key map[string]any
	outer                          map[string]any
}

func goodBlob() blob {
	return blob{
		runner: map[string]any{
			"AgentId": "42", "AgentName": "host-1-2", "PoolId": "1", "PoolName": nil, "ServerUrl": "https://pipelines.example/x/",
			"WorkFolder": "_work", "Ephemeral": "True", "GitHubUrl": "", "UseV2Flow": "True", "ServerUrlV2": "https://broker.example/",
		},
		credentials: map[string]any{"Scheme": "OAuth"},
		data:        map[string]any{"ClientId": "c1", "AuthorizationUrl": "https://token.example/oauth2/token", "RequireFipsCryptography": "True"},
		key:         keyParts(runnerKey()),
		outer:       map[string]any{},
	}
}

func keyParts(k *rsa.PrivateKey) map[string]any {
	return map[string]any{
		"d": k.D.Bytes(), "p": k.Primes[0].Bytes(), "q": k.Primes[1].Bytes(), "dp": k.Precomputed.Dp.Bytes(),
		"dq": k.Precomputed.Dq.Bytes(), "inverseQ": k.Precomputed.Qinv.Bytes(), "modulus": k.N.Bytes(),
		"exponent": big.NewInt(int64(k.E)).Bytes(),
	}
}

func (b blob) encode(t testing.TB) string {
	t.Helper()
	b.credentials["Data"] = b.data
	outer := map[string]any{
		".runner": marshal(t, b.runner), ".credentials": marshal(t, b.credentials), ".credentials_rsaparams": marshal(t, b.key),
	}
	maps.Copy(outer, b.outer)
	maps.DeleteFunc(outer, func(_ string, v any) bool { return v == nil })
	return base64.StdEncoding.EncodeToString(marshal(t, outer))
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func jitWant() JITWant {
	return JITWant{ID: 42, Name: "host-1-2", Hosts: pinned.Hosts{"pipelines.example", "broker.example", "token.example"}}
}

func decodeJIT(t testing.TB, s secret.String) map[string]map[string]any {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(s.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	var files map[string][]byte
	if err := json.Unmarshal(raw, &files); err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]any{}
	for name, file := range files {
		var m map[string]any
		if err := json.Unmarshal(file, &m); err != nil {
			t.Fatal(err)
		}
		out[name] = m
	}
	return out
}

func TestRebuildJIT(t *testing.T) {
	t.Parallel()
	b := goodBlob()
	b.runner["DisableUpdate"] = "False"
	b.runner["MonitorSocketAddress"] = "127.0.0.1:4444"
	b.runner["Novelty"] = map[string]any{"x": 1}
	b.data["oauthEndpointUrl"] = "https://evil.test/"
	b.outer[".env"] = []byte("LD_PRELOAD=/x")
	got, err := RebuildJIT(secret.New(b.encode(t)), jitWant())
	if err != nil {
		t.Fatal(err)
	}
	files := decodeJIT(t, got)
	want := map[string]any{
		"AgentId": "42", "AgentName": "host-1-2", "PoolId": "1", "ServerUrl": "https://pipelines.example/x/", "WorkFolder": "_work",
		"UseV2Flow": "True", "ServerUrlV2": "https://broker.example/", "Ephemeral": "True", "DisableUpdate": "True",
	}
	if d := cmp.Diff(want, files[".runner"]); d != "" {
		t.Error(d)
	}
	wantCred := map[string]any{"Scheme": "OAuth", "Data": map[string]any{
		"clientId": "c1", "authorizationUrl": "https://token.example/oauth2/token", "requireFipsCryptography": "True",
	}}
	if d := cmp.Diff(wantCred, files[".credentials"]); d != "" {
		t.Error(d)
	}
	if len(files) != 3 || len(files[".credentials_rsaparams"]) != 8 {
		t.Errorf("files %v", files)
	}
	again, err := RebuildJIT(got, jitWant())
	if err != nil || again.Reveal() != got.Reveal() {
		t.Errorf("rebuilding is not stable: %v", err)
	}
}

func TestRebuildJITTypedValues(t *testing.T) {
	t.Parallel()
	b := goodBlob()
	b.runner["AgentId"], b.runner["PoolId"], b.runner["Ephemeral"], b.runner["UseV2Flow"] = 42, 1, true, false
	delete(b.runner, "WorkFolder")
	got, err := RebuildJIT(secret.New(b.encode(t)), jitWant())
	if err != nil {
		t.Fatal(err)
	}
	r := decodeJIT(t, got)[".runner"]
	if r["AgentId"] != "42" || r["Ephemeral"] != "True" || r["UseV2Flow"] != "False" || r["WorkFolder"] != "_work" {
		t.Errorf("got %v", r)
	}
}

func TestBadJIT(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*blob)
		want   error
	}{
		"other id":              {func(b *blob) { b.runner["AgentId"] = "43" }, refusal.ErrIdentity},
		"no id":                 {func(b *blob) { delete(b.runner, "AgentId") }, refusal.ErrIdentity},
		"id with junk":          {func(b *blob) { b.runner["AgentId"] = "42 " }, refusal.ErrIdentity},
		"other name":            {func(b *blob) { b.runner["AgentName"] = "x" }, refusal.ErrIdentity},
		"not ephemeral":         {func(b *blob) { b.runner["Ephemeral"] = "False" }, refusal.ErrIdentity},
		"ephemeral absent":      {func(b *blob) { delete(b.runner, "Ephemeral") }, refusal.ErrIdentity},
		"foreign broker":        {func(b *blob) { b.runner["ServerUrlV2"] = "https://evil.test/" }, refusal.ErrIdentity},
		"foreign server":        {func(b *blob) { b.runner["ServerUrl"] = "https://evil.test/" }, refusal.ErrIdentity},
		"foreign GitHub":        {func(b *blob) { b.runner["GitHubUrl"] = "https://evil.test/" }, refusal.ErrIdentity},
		"http":                  {func(b *blob) { b.runner["ServerUrlV2"] = "http://broker.example/" }, refusal.ErrIdentity},
		"user info":             {func(b *blob) { b.runner["ServerUrlV2"] = "https://broker.example@evil.test/" }, refusal.ErrIdentity},
		"no server":             {func(b *blob) { b.runner["ServerUrl"], b.runner["ServerUrlV2"] = "", "" }, refusal.ErrMalformed},
		"work folder elsewhere": {func(b *blob) { b.runner["WorkFolder"] = "../../etc" }, refusal.ErrIdentity},
		"pool is no number":     {func(b *blob) { b.runner["PoolId"] = "x" }, refusal.ErrMalformed},
		"flow is no boolean":    {func(b *blob) { b.runner["UseV2Flow"] = "maybe" }, refusal.ErrMalformed},
		"name is a number":      {func(b *blob) { b.runner["AgentName"] = 7 }, refusal.ErrMalformed},
		"id is an object":       {func(b *blob) { b.runner["AgentId"] = map[string]any{} }, refusal.ErrMalformed},
		"same field twice":      {func(b *blob) { b.runner["ephemeral"] = "False" }, refusal.ErrMalformed},
		"other scheme":          {func(b *blob) { b.credentials["Scheme"] = "OAuthAccessToken" }, refusal.ErrMalformed},
		"foreign token host":    {func(b *blob) { b.data["AuthorizationUrl"] = "https://evil.test/" }, refusal.ErrIdentity},
		"foreign token host 2":  {func(b *blob) { b.data["authorizationUrlV2"] = "https://evil.test/" }, refusal.ErrIdentity},
		"no client":             {func(b *blob) { delete(b.data, "ClientId") }, refusal.ErrMalformed},
		"no token host":         {func(b *blob) { delete(b.data, "AuthorizationUrl") }, refusal.ErrMalformed},
		"key parts swapped":     {func(b *blob) { b.key["p"], b.key["dp"] = b.key["dp"], b.key["p"] }, refusal.ErrMalformed},
		"foreign dq":            {func(b *blob) { b.key["dq"] = b.key["dp"] }, refusal.ErrMalformed},
		"foreign d":             {func(b *blob) { b.key["d"] = b.key["dq"] }, refusal.ErrMalformed},
		"small key":             {func(b *blob) { b.key["modulus"] = []byte{5} }, refusal.ErrMalformed},
		"even exponent":         {func(b *blob) { b.key["exponent"] = []byte{2} }, refusal.ErrMalformed},
		"no exponent":           {func(b *blob) { delete(b.key, "exponent") }, refusal.ErrMalformed},
		"no key":                {func(b *blob) { b.outer[".credentials_rsaparams"] = nil }, refusal.ErrMalformed},
		"no runner":             {func(b *blob) { b.outer[".runner"] = nil }, refusal.ErrMalformed},
		"empty credentials":     {func(b *blob) { b.outer[".credentials"] = []byte{} }, refusal.ErrMalformed},
		"file is no base64":     {func(b *blob) { b.outer[".runner"] = "*" }, refusal.ErrMalformed},
		"file is no JSON":       {func(b *blob) { b.outer[".runner"] = []byte("x") }, refusal.ErrMalformed},
		"file with a tail":      {func(b *blob) { b.outer[".runner"] = []byte(`{} {}`) }, refusal.ErrMalformed},
		"file is a list":        {func(b *blob) { b.outer[".credentials"] = []byte(`[]`) }, refusal.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := goodBlob()
			tc.change(&b)
			got, err := RebuildJIT(secret.New(b.encode(t)), jitWant())
			if !errors.Is(err, tc.want) || !got.Empty() {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if strings.Contains(err.Error(), base64.StdEncoding.EncodeToString(runnerKey().D.Bytes())[:20]) {
				t.Fatal("the refusal quotes the key")
			}
		})
	}
	for name, in := range map[string]string{"empty": "", "no base64": "****", "no object": "W10=", "huge": strings.Repeat("A", maxBlob+1)} {
		if _, err := RebuildJIT(secret.New(in), jitWant()); !errors.Is(err, refusal.ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestRebuildCannotTellWhoseCredential: a blob with another runner's client and key is as good as any. Only that it comes in
// one answer of GitHub with the runner's id says whose it is (docs/adr/020).
func TestRebuildCannotTellWhoseCredential(t *testing.T) {
	t.Parallel()
	own := goodBlob()
	if _, err := RebuildJIT(secret.New(own.encode(t)), jitWant()); err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, minKeyBits)
	if err != nil {
		t.Fatal(err)
	}
	swapped := goodBlob()
	swapped.data["ClientId"], swapped.key = "c2", keyParts(key) // those of runner 43, beside the id and name of runner 42
	got, err := RebuildJIT(secret.New(swapped.encode(t)), jitWant())
	if err != nil {
		t.Fatalf("something tells them apart: docs/adr/020 has to be thought over: %v", err)
	}
	files := decodeJIT(t, got)
	data, _ := files[".credentials"]["Data"].(map[string]any)
	if files[".runner"]["AgentId"] != "42" || data["clientId"] != "c2" || files[".credentials_rsaparams"]["modulus"] != base64.StdEncoding.EncodeToString(key.N.Bytes()) {
		t.Errorf("rebuilt %v, %v", files[".runner"], data)
	}
}

func FuzzRebuildJIT(f *testing.F) {
	b := goodBlob()
	b.credentials["Data"] = b.data
	f.Add(marshal(f, b.runner), marshal(f, b.credentials), marshal(f, b.key))
	f.Add([]byte(`{"AgentId":42}`), []byte(`{}`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, r, c, k []byte) {
		raw := marshal(t, jitFiles{Runner: r, Credentials: c, Key: k})
		got, err := RebuildJIT(secret.New(base64.StdEncoding.EncodeToString(raw)), jitWant())
		if err != nil {
			if !errors.Is(err, refusal.ErrNotVerified) {
				t.Fatalf("not a refusal: %v", err)
			}
			return
		}
		files := decodeJIT(t, got)
		if files[".runner"]["DisableUpdate"] != "True" || files[".runner"]["Ephemeral"] != "True" || files[".runner"]["AgentId"] != "42" {
			t.Fatalf("rebuilt %v", files[".runner"])
		}
	})
}
