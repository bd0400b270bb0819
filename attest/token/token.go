// SPDX-License-Identifier: Apache-2.0

// Package token verifies GitHub's OIDC tokens without a network.
//
// kettled asks for the token at dispatch, before any code of the job runs, with an audience that names its environment
// key and a fresh nonce; the DISPATCH statement carries it. By the time anyone verifies, the token has long expired:
// it is judged at the time of dispatch. What it proves is that GitHub said, then, to someone who asked for this key,
// who the job is. It does not prove that the asker was honest.
//
// The package guarantees that [Verify] returns claims only when one of the given keys signed the token with RS256 and
// every claim named by [Want] is there and equal. It trusts its caller for the keys: a verifier takes them from its own
// dated [Trust], never from the evidence; kettled takes them from GitHub over TLS. It does no input or output.
package token

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// Limits on tokens.
const (
	MaxToken = 16 << 10         // bytes
	MaxAge   = 10 * time.Minute // between issue and the time that the token is judged at
	Skew     = 2 * time.Minute  // that GitHub's clock and the environment's may differ
)

const (
	compact    = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_." // of RFC 7515, section 7.1
	link       = "token"
	minRSABits = 2048
	selfHosted = "self-hosted"
)

// Audience gives the audience that a token of this environment must have: the lower-case hexadecimal SHA-256 of the
// environment key's digest followed by the nonce of the dispatch.
func Audience(environmentKey, nonce binding.Digest) string {
	sum := sha256.Sum256(append(environmentKey[:], nonce[:]...))
	return hex.EncodeToString(sum[:])
}

// Want is what a token has to say. Every field of Facts that the DISPATCH statement requires is required here too.
type Want struct {
	Issuer   string
	Audience string
	Facts    statement.Facts
}

// Claims is what a verified token says. It exists only after success.
type Claims struct {
	Issuer   string
	Subject  string // customisable by the repository's owner: never key a policy on it
	IssuedAt time.Time
	Expires  time.Time
	ID       string
}

// Keys is the set of keys that an issuer signs with.
type Keys struct{ byID map[string]*rsa.PublicKey }

// claims is the payload of GitHub's token, as far as it is compared. go-jose refuses repeated keys and compares their
// case.
type claims struct {
	jwt.Claims
	RunnerEnvironment string `json:"runner_environment"`
	Repository        string `json:"repository"`
	RepositoryID      string `json:"repository_id"`
	RepositoryOwnerID string `json:"repository_owner_id"`
	RunID             text   `json:"run_id"`
	RunAttempt        text   `json:"run_attempt"`
	CheckRunID        text   `json:"check_run_id"`
	Ref               string `json:"ref"`
	SHA               string `json:"sha"`
	EventName         string `json:"event_name"`
	WorkflowRef       string `json:"workflow_ref"`
	JobWorkflowRef    string `json:"job_workflow_ref"`
	JobWorkflowSHA    string `json:"job_workflow_sha"`
	ActorID           string `json:"actor_id"`
	Environment       string `json:"environment"`
}

// Verify checks a token's signature and every claim at the time at, which is the time of dispatch.
func Verify(raw string, keys *Keys, want Want, at time.Time) (Claims, error) {
	if err := want.complete(at); err != nil {
		return Claims{}, err
	}
	if len(raw) > MaxToken {
		return Claims{}, malformed(fmt.Sprintf("a token of at most %d bytes", MaxToken), fmt.Sprintf("%d bytes", len(raw)))
	}
	if strings.Trim(raw, compact) != "" { // base64 decoders pass over ends of lines
		return Claims{}, malformed("a compact JWT", "other characters")
	}
	parsed, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return Claims{}, malformed("a compact JWT signed with RS256", "something else").Because(err)
	}
	if len(parsed.Headers) != 1 {
		return Claims{}, malformed("one signature", fmt.Sprint(len(parsed.Headers)))
	}
	key, err := keys.find(parsed.Headers[0].KeyID)
	if err != nil {
		return Claims{}, err
	}
	var c claims
	if err := parsed.Claims(key, &c); errors.Is(err, jose.ErrCryptoFailure) {
		return Claims{}, refuse(refusal.Signature, "a token that its issuer signed", "another signature",
			"the token was altered, or the issuer's keys are of another time").Because(err)
	} else if err != nil {
		return Claims{}, malformed("the claims of a GitHub token", "a payload of another shape").Because(err)
	}
	if err := c.check(want, at); err != nil {
		return Claims{}, err
	}
	return Claims{Issuer: c.Issuer, Subject: c.Subject, IssuedAt: c.IssuedAt.Time(), Expires: c.Expiry.Time(), ID: c.ID}, nil
}

func (k *Keys) find(id string) (*rsa.PublicKey, error) {
	if k == nil || len(k.byID) == 0 {
		return nil, refuse(refusal.Missing, "keys of the token's issuer", "none", "name a trust file with the issuer's keys")
	}
	key, ok := k.byID[id]
	if !ok || id == "" {
		return nil, refuse(refusal.Chain, "a token signed with a known key of its issuer", fmt.Sprintf("key %q", clip(id)),
			"update the trust file if the issuer has a new key, but take it from GitHub and not from the evidence")
	}
	return key, nil
}

func (w Want) complete(at time.Time) error {
	f := w.Facts
	for name, v := range map[string]string{
		"issuer": w.Issuer, "audience": w.Audience, "repository": f.Repository, "repository id": f.RepositoryID,
		"owner id": f.RepositoryOwnerID, "run id": f.RunID, "run attempt": f.RunAttempt, "job id": f.JobID, "ref": f.Ref,
		"sha": f.SHA, "event": f.Event, "workflow path": f.WorkflowPath,
	} {
		if v == "" {
			return refuse(refusal.Missing, "an expected "+name, "none", "the DISPATCH statement has to name it")
		}
	}
	if at.IsZero() {
		return refuse(refusal.Missing, "a time to judge the token at", "none", "the DISPATCH statement has to name it")
	}
	return nil
}

// clip bounds a foreign string before it is printed.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

func refuse(code refusal.Code, want, got, next string) *refusal.Refusal {
	return &refusal.Refusal{Link: link, Code: code, Want: want, Got: got, Next: next}
}

func malformed(want, got string) *refusal.Refusal {
	return refuse(refusal.Malformed, want, got, "take the bundle again from where the runner stored it")
}
