// SPDX-License-Identifier: Apache-2.0

package attesttest

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/attest/token"
)

// Issuer is the issuer of every token.
const Issuer = "https://token.actions.githubusercontent.com"

const (
	profile = "default"
	commit  = "c27d339ee6075c1f744c5d4b200f7901aad2c369"
	keyID   = "attesttest-1"
)

// BuilderID is the builder of every provenance.
func BuilderID() string { return statement.BuilderID("sim", profile) }

// Configuration is the digest of the configuration of every environment.
func Configuration() binding.Digest { return binding.Sum([]byte("configuration")) }

// Facts is the job of every environment.
func Facts() statement.Facts {
	f := statement.Facts{
		Server: "https://github.com", Repository: "acme/widget", RepositoryID: "1296269", RepositoryOwnerID: "583231",
		RunID: "1536140711", RunAttempt: "1", JobID: "4242424242", Job: "build",
		WorkflowPath: ".github/workflows/release.yml", Ref: "refs/tags/v1.2.3", SHA: commit, Event: "push",
		RunnerID: "77", RunnerName: "kettle-77", ActorID: "42", IdentitySource: statement.IdentityToken,
		JobMessage: binding.Sum([]byte("job message")),
	}
	f.Origins = map[string]statement.Origin{}
	for _, name := range []string{
		"server", "repository", "repositoryId", "repositoryOwnerId", "runId", "runAttempt", "jobId", "job", "workflowPath",
		"ref", "sha", "event", "runnerId", "runnerName",
	} {
		f.Origins[name] = statement.FromGitHub
	}
	return f
}

// Provenance is what an environment says of one artifact.
func Provenance(f statement.Facts, key, dispatch binding.Digest, name string, artifact []byte) *statement.Provenance {
	repository := f.Server + "/" + f.Repository
	return &statement.Provenance{
		Subjects:  []statement.Subject{{Name: name, Digest: statement.SHA256(binding.Sum(artifact))}},
		BuilderID: BuilderID(), BuilderVersion: map[string]string{"kettled": "1.0.0"},
		External: statement.ExternalParameters{
			Workflow: statement.Workflow{Ref: f.Ref, Repository: repository, Path: f.WorkflowPath}, Job: f.Job, Event: f.Event,
		},
		Internal: statement.InternalParameters{
			GitHub: statement.GitHubParameters{
				EventName: f.Event, RepositoryID: f.RepositoryID, RepositoryOwnerID: f.RepositoryOwnerID,
				RunnerEnvironment: "self-hosted", ActorID: f.ActorID, RunID: f.RunID, RunAttempt: f.RunAttempt, JobID: f.JobID,
				JobWorkflowRef: f.JobWorkflowRef, JobWorkflowSHA: f.JobWorkflowSHA, RunnerName: f.RunnerName,
			},
			Kettle: statement.KettleParameters{
				Platform: "sim", Profile: profile, Sandbox: "crun 1.21", IdentitySource: f.IdentitySource,
				EnvironmentKey: key, Configuration: Configuration(), Policy: binding.Sum([]byte("policy")),
				Dispatch: dispatch, Egress: statement.Egress{Mode: statement.EgressNone}, Outputs: statement.OutputsSnapshot, FrozenMillis: 12, Origins: f.Origins,
			},
		},
		Dependencies: []statement.ResourceDescriptor{{
			URI: "git+" + repository + "@" + f.Ref, Digest: statement.DigestSet{"gitCommit": f.SHA},
		}},
		InvocationID: f.BuildID(), StartedOn: Now(), FinishedOn: Now().Add(time.Minute),
	}
}

var tokenKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err) // only without random numbers
	}
	return k
})

// Token is GitHub's token for the environment's job and nonce.
func (e *Environment) Token(t testing.TB) string {
	t.Helper()
	return Mint(t, e.Facts, token.Audience(e.Key.Digest(), e.Nonce), e.o.Hooks.Claims)
}

// Mint is GitHub's token for a job and any audience, as whoever holds the job's request token gets it. The changes come
// before GitHub signs; nil ones change nothing.
func Mint(t testing.TB, f statement.Facts, audience string, changes ...func(map[string]any)) string {
	t.Helper()
	claims := map[string]any{
		"iss": Issuer, "sub": "repo:" + f.Repository + ":ref:" + f.Ref, "jti": "1", "aud": audience,
		"iat": Now().Unix() - 2, "nbf": Now().Unix() - 602, "exp": Now().Unix() + 298,
		"runner_environment": "self-hosted", "repository": f.Repository, "repository_id": f.RepositoryID,
		"repository_owner_id": f.RepositoryOwnerID, "run_id": f.RunID, "run_attempt": f.RunAttempt, "check_run_id": f.JobID,
		"ref": f.Ref, "sha": f.SHA, "event_name": f.Event, "actor_id": f.ActorID,
		"workflow_ref": f.Repository + "/" + f.WorkflowPath + "@" + f.Ref,
	}
	for _, change := range changes {
		if change != nil {
			change(claims)
		}
	}
	payload, err := json.Marshal(claims)
	must(t, err)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: tokenKey()}, (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", keyID))
	must(t, err)
	signed, err := signer.Sign(payload)
	must(t, err)
	raw, err := signed.CompactSerialize()
	must(t, err)
	return raw
}

// TrustFile is a trust file with the key of every token.
func TrustFile(t testing.TB) []byte {
	t.Helper()
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &tokenKey().PublicKey, KeyID: keyID, Algorithm: "RS256", Use: "sig"}}})
	must(t, err)
	return fmt.Appendf(nil, `{"schema":%q,"asOf":"2026-11-21T00:00:00Z","issuers":[{"issuer":%q,"server":"https://github.com",`+
		`"from":"2026-01-01T00:00:00Z","until":"2027-06-01T00:00:00Z","jwks":%s}]}`, token.Schema, Issuer, set)
}

// PolicyFile is a policy that accepts every chain of this package. Each pair of changes replaces text in it, which has
// to be there.
func PolicyFile(t testing.TB, changes ...string) []byte {
	t.Helper()
	text := `apiVersion: kettle/v1
expires: 2027-06-01
environments:
  platforms: [sim]
  floor: strict
  revocation: if-present
  images: any
  measurements: ["` + Measurement() + `"]
  lateCompromise: [register-replay, token]
revoked: none
artifacts:
  builders: [` + BuilderID() + `]
  repositories:
    - {url: https://github.com/acme/widget, id: "1296269", ownerId: "583231"}
  workflows: [.github/workflows/release.yml]
  refs: ["refs/tags/v*"]
  events: [push]
  identitySource: token
`
	for i := 0; i+1 < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			t.Fatalf("the policy does not say %q", changes[i])
		}
		text = strings.Replace(text, changes[i], changes[i+1], 1)
	}
	return []byte(text)
}
