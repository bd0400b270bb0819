// SPDX-License-Identifier: Apache-2.0

package github

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/internal/strict"
	"github.com/kettle/attest/runner/job/pinned"
)

// maxBlob bounds a JIT configuration; GitHub's are about 4 KiB.
const maxBlob = 64 << 10

// minKeyBits is the size of the runner's RSA key, as the runner itself makes it (RSAFileKeyManager.cs).
const minKeyBits = 2048

// workFolder is the only work folder that is asked for and accepted.
const workFolder = "_work"

// JITWant is what a JIT configuration must say to be used.
type JITWant struct {
	ID    int64  // of the runner, from GitHub's own answer
	Name  string // of the runner
	Hosts pinned.Hosts
}

// jitFiles are the three files that the Listener writes into the runner's root (Runner.cs, "jitconfig").
type jitFiles struct {
	Runner      []byte `json:".runner"`
	Credentials []byte `json:".credentials"`
	Key         []byte `json:".credentials_rsaparams"`
}

// runnerFile is the part of RunnerSettings (ConfigurationStore.cs) that is passed on. What is not here is dropped:
// MonitorSocketAddress, for one, would have the Listener dial an address of the blob's choice and tell it the job's token.
type runnerFile struct {
	AgentID          flexible `json:"AgentId"`
	AgentName        string   `json:"AgentName"`
	PoolID           flexible `json:"PoolId,omitempty"`
	PoolName         string   `json:"PoolName,omitempty"`
	ServerURL        string   `json:"ServerUrl,omitempty"`
	GitHubURL        string   `json:"GitHubUrl,omitempty"`
	WorkFolder       string   `json:"WorkFolder"`
	UseV2Flow        flexible `json:"UseV2Flow,omitempty"`
	ServerURLV2      string   `json:"ServerUrlV2,omitempty"`
	SkipSessionRecov flexible `json:"SkipSessionRecover,omitempty"`
	Ephemeral        flexible `json:"Ephemeral"`
	DisableUpdate    flexible `json:"DisableUpdate"`
}

// credentialsFile is the part of CredentialData that is passed on. "oauthEndpointUrl", for one, is dropped: it would
// override the authorisation URL (OAuthCredential.cs).
type credentialsFile struct {
	Scheme string          `json:"Scheme"`
	Data   credentialsData `json:"Data"`
}

type credentialsData struct {
	ClientID           string   `json:"clientId"`
	AuthorizationURL   string   `json:"authorizationUrl"`
	AuthorizationURLV2 string   `json:"authorizationUrlV2,omitempty"`
	AuthMigration      flexible `json:"enableAuthMigrationByDefault,omitempty"`
	RequireFipsCrypto  flexible `json:"requireFipsCryptography,omitempty"`
}

// keyFile is RSAParametersSerializable (IRSAKeyManager.cs): big-endian integers in base64.
type keyFile struct {
	D        []byte `json:"d"`
	DP       []byte `json:"dp"`
	DQ       []byte `json:"dq"`
	Exponent []byte `json:"exponent"`
	InverseQ []byte `json:"inverseQ"`
	Modulus  []byte `json:"modulus"`
	P        []byte `json:"p"`
	Q        []byte `json:"q"`
}

// flexible is a value that GitHub writes as a string and the runner reads as a number or a boolean. It is written as a
// string.
type flexible string

// UnmarshalJSON implements [json.Unmarshaler].
func (f *flexible) UnmarshalJSON(data []byte) error {
	switch {
	case string(data) == "null":
		*f = ""
		return nil
	case len(data) > 0 && data[0] == '"':
		return json.Unmarshal(data, (*string)(f))
	case len(data) > 0 && data[0] != '{' && data[0] != '[':
		*f = flexible(data)
		return nil
	}
	return errors.New("neither a string, a number nor a boolean")
}

func (f flexible) is(want string) bool { return strings.EqualFold(string(f), want) }

// RebuildJIT makes a JIT configuration anew from the fields that an ephemeral runner needs, after checking each: the
// blob is not signed, and whoever hands it over could otherwise point the runner at a broker of their own, let it
// update itself or take a second job. The error is a [refusal.Refusal] and quotes nothing secret.
func RebuildJIT(blob secret.String, want JITWant) (secret.String, error) {
	files, err := parseJIT(blob.Reveal())
	if err != nil {
		return secret.String{}, err
	}
	var out jitFiles
	if out.Runner, err = rebuildRunner(files.Runner, want); err != nil {
		return secret.String{}, err
	}
	if out.Credentials, err = rebuildCredentials(files.Credentials, want.Hosts); err != nil {
		return secret.String{}, err
	}
	if out.Key, err = rebuildKey(files.Key); err != nil {
		return secret.String{}, err
	}
	encoded, err := json.Marshal(out)
	if err != nil {
		return secret.String{}, fmt.Errorf("encoding the JIT configuration: %w", err)
	}
	return secret.New(base64.StdEncoding.EncodeToString(encoded)), nil
}

func parseJIT(blob string) (*jitFiles, error) {
	if len(blob) == 0 || len(blob) > maxBlob {
		return nil, badJIT(fmt.Sprintf("1 to %d bytes", maxBlob), fmt.Sprintf("%d bytes", len(blob)))
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(blob)
	if err != nil {
		return nil, badJIT("base64", "other bytes")
	}
	var files jitFiles
	if err := readFile(raw, &files, "the outer object"); err != nil {
		return nil, err
	}
	if len(files.Runner) == 0 || len(files.Credentials) == 0 || len(files.Key) == 0 {
		return nil, badJIT("the files .runner, .credentials and .credentials_rsaparams", "one or more of them missing")
	}
	return &files, nil
}

// readFile decodes JSON that the runner will decode too: unambiguous, but unknown fields are left behind.
func readFile(raw []byte, v any, what string) error {
	if err := strict.Unique(raw); err != nil {
		return badJIT("unambiguous JSON in "+what, "something else")
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return badJIT("the runner's fields in "+what, "fields of another type")
	}
	return nil
}

func rebuildRunner(raw []byte, want JITWant) ([]byte, error) {
	var f runnerFile
	if err := readFile(raw, &f, ".runner"); err != nil {
		return nil, err
	}
	id, err := strconv.ParseInt(string(f.AgentID), 10, 64)
	switch {
	case err != nil || id != want.ID || id <= 0:
		return nil, foreignJIT(fmt.Sprintf("AgentId %d, as GitHub answered", want.ID), fmt.Sprintf("%.32q", string(f.AgentID)))
	case f.AgentName != want.Name || want.Name == "":
		return nil, foreignJIT(fmt.Sprintf("AgentName %q", want.Name), fmt.Sprintf("%.64q", f.AgentName))
	case !f.Ephemeral.is("true"):
		return nil, foreignJIT("Ephemeral true", fmt.Sprintf("%.32q", string(f.Ephemeral)))
	case f.WorkFolder != "" && f.WorkFolder != workFolder:
		return nil, foreignJIT("WorkFolder "+workFolder, fmt.Sprintf("%.64q", f.WorkFolder))
	case f.ServerURL == "" && f.ServerURLV2 == "":
		return nil, badJIT("ServerUrl or ServerUrlV2", "neither")
	}
	urls := map[string]string{"ServerUrl": f.ServerURL, "GitHubUrl": f.GitHubURL, "ServerUrlV2": f.ServerURLV2}
	if err := checkURLs(urls, want.Hosts); err != nil {
		return nil, err
	}
	f.AgentID, f.WorkFolder, f.Ephemeral, f.DisableUpdate = flexible(strconv.FormatInt(id, 10)), workFolder, "True", "True"
	if err := number(&f.PoolID); err != nil {
		return nil, err
	}
	if err := booleans(&f.UseV2Flow, &f.SkipSessionRecov); err != nil {
		return nil, err
	}
	return json.Marshal(f)
}

func rebuildCredentials(raw []byte, hosts pinned.Hosts) ([]byte, error) {
	var f credentialsFile
	if err := readFile(raw, &f, ".credentials"); err != nil {
		return nil, err
	}
	if f.Scheme != "OAuth" || f.Data.ClientID == "" || f.Data.AuthorizationURL == "" {
		return nil, badJIT("scheme OAuth with clientId and authorizationUrl", "another credential")
	}
	urls := map[string]string{"authorizationUrl": f.Data.AuthorizationURL, "authorizationUrlV2": f.Data.AuthorizationURLV2}
	if err := checkURLs(urls, hosts); err != nil {
		return nil, err
	}
	if err := booleans(&f.Data.AuthMigration, &f.Data.RequireFipsCrypto); err != nil {
		return nil, err
	}
	return json.Marshal(f)
}

// rebuildKey checks that the parameters are one whole RSA key; the runner would fail on another in a less clear way.
func rebuildKey(raw []byte) ([]byte, error) {
	var f keyFile
	if err := readFile(raw, &f, ".credentials_rsaparams"); err != nil {
		return nil, err
	}
	e := new(big.Int).SetBytes(f.Exponent)
	if !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 {
		return nil, badJIT("an RSA exponent", "another number")
	}
	n := new(big.Int).SetBytes(f.Modulus)
	if n.BitLen() < minKeyBits || n.BitLen() > 8192 {
		return nil, badJIT(fmt.Sprintf("an RSA key of %d to 8192 bits", minKeyBits), fmt.Sprintf("%d bits", n.BitLen()))
	}
	key := rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: n, E: int(e.Int64())},
		D:         new(big.Int).SetBytes(f.D),
		Primes:    []*big.Int{new(big.Int).SetBytes(f.P), new(big.Int).SetBytes(f.Q)},
	}
	if key.Validate() != nil {
		return nil, badJIT("a consistent RSA key", "parameters that do not belong together")
	}
	key.Precompute()
	for _, pair := range []struct {
		got  []byte
		want *big.Int
	}{{f.DP, key.Precomputed.Dp}, {f.DQ, key.Precomputed.Dq}, {f.InverseQ, key.Precomputed.Qinv}} {
		if pair.want == nil || new(big.Int).SetBytes(pair.got).Cmp(pair.want) != 0 {
			return nil, badJIT("a consistent RSA key", "CRT parameters that do not belong to it")
		}
	}
	return json.Marshal(f)
}

func checkURLs(urls map[string]string, hosts pinned.Hosts) error {
	for name, raw := range urls {
		if raw == "" {
			continue
		}
		if _, err := hosts.Parse(raw); err != nil {
			return foreignJIT(name+" with https and a pinned host", fmt.Sprintf("%.128q", raw)).Because(err)
		}
	}
	return nil
}

func booleans(fields ...*flexible) error {
	for _, f := range fields {
		switch {
		case *f == "":
		case f.is("true"):
			*f = "True"
		case f.is("false"):
			*f = "False"
		default:
			return badJIT("true or false", fmt.Sprintf("%.32q", string(*f)))
		}
	}
	return nil
}

func number(f *flexible) error {
	if *f == "" {
		return nil
	}
	n, err := strconv.Atoi(string(*f))
	if err != nil || n < 0 {
		return badJIT("a number as PoolId", fmt.Sprintf("%.32q", string(*f)))
	}
	*f = flexible(strconv.Itoa(n))
	return nil
}

func badJIT(want, got string) *refusal.Refusal {
	return &refusal.Refusal{
		Link: "registration", Code: refusal.Malformed, Want: "a JIT configuration with " + want, Got: got,
		Next: "register again; if it stays so, GitHub changed the format and this image needs an update.",
	}
}

func foreignJIT(want, got string) *refusal.Refusal {
	return &refusal.Refusal{
		Link: "registration", Code: refusal.Identity, Want: "a JIT configuration with " + want, Got: got,
		Next: "compare github.hosts of the configuration with your GitHub's hosts; if they are right, whoever handed the configuration over changed it.",
	}
}
