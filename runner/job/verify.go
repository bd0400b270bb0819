// SPDX-License-Identifier: Apache-2.0

package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/token"
)

// signedClaims are the claims of the job's token that no other source has.
type signedClaims struct {
	WorkflowRef    string `json:"workflow_ref"`
	JobWorkflowRef string `json:"job_workflow_ref"`
	JobWorkflowSHA string `json:"job_workflow_sha"`
}

// verifyToken verifies a token twice: with attest/token, which is what every verifier will run over the DISPATCH
// statement, so that a token which they would refuse is refused now; and with go-oidc, which gives the signed claims.
func verifyToken(ctx context.Context, raw string, jwks []byte, want token.Want, at time.Time) (*signedClaims, error) {
	keys, err := token.ParseKeys(jwks)
	if err != nil {
		return nil, fmt.Errorf("reading the issuer's keys: %w", err)
	}
	want.Facts.JobWorkflowRef, want.Facts.JobWorkflowSHA = unverifiedCalled(raw)
	if _, err := token.Verify(raw, keys, want, at); err != nil {
		return nil, err
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(jwks, &set); err != nil {
		return nil, fmt.Errorf("reading the issuer's keys: %w", err)
	}
	static := new(oidc.StaticKeySet)
	for _, k := range set.Keys {
		static.PublicKeys = append(static.PublicKeys, k.Key)
	}
	verified, err := oidc.NewVerifier(want.Issuer, static, &oidc.Config{
		ClientID: want.Audience, SupportedSigningAlgs: []string{oidc.RS256}, Now: func() time.Time { return at.Add(-token.Skew) },
	}).Verify(ctx, raw)
	if err != nil {
		return nil, refuse(refusal.Signature, "a token that go-oidc accepts", "one that it refuses").Because(err)
	}
	c := new(signedClaims)
	if err := verified.Claims(c); err != nil {
		return nil, refuse(refusal.Malformed, "workflow claims as text", "claims of another type").Because(err)
	}
	return c, nil
}

// unverifiedCalled reads what a token says of the file that defines the job, before its signature is checked: no other
// source tells, so the token's own word is the fact that a verifier will compare it with.
func unverifiedCalled(raw string) (ref, sha string) {
	var c signedClaims
	parsed, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.RS256})
	if err == nil {
		err = parsed.UnsafeClaimsWithoutVerification(&c)
	}
	if err != nil { // token.Verify will say what is wrong with it
		return "", ""
	}
	return c.JobWorkflowRef, c.JobWorkflowSHA
}

// clockWrong tells, in the place of a refusal of a token's times, that this machine's clock is wrong. The token answers a
// nonce of this dispatch, so it cannot be an old one: when the time that it was issued at is not now, the clock is the
// one to blame. Its signature has been verified, since its times are judged after that.
func clockWrong(raw string, now time.Time, err error) error {
	if !errors.Is(err, refusal.ErrExpired) || errors.Is(err, refusal.ErrIdentity) || errors.Is(err, refusal.ErrBinding) {
		return err
	}
	var c jwt.Claims
	parsed, parseErr := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.RS256})
	if parseErr != nil || parsed.UnsafeClaimsWithoutVerification(&c) != nil || c.IssuedAt == nil {
		return err
	}
	apart := now.Sub(c.IssuedAt.Time())
	if apart.Abs() <= token.Skew {
		return err
	}
	return (&refusal.Refusal{
		Link: link, Code: refusal.Expired,
		Want: fmt.Sprintf("a clock that is within %s of GitHub's", token.Skew),
		Got: fmt.Sprintf("this machine's clock at %s when GitHub's was at %s, %s apart", now.UTC().Format(time.RFC3339),
			c.IssuedAt.Time().UTC().Format(time.RFC3339), apart.Abs().Round(time.Second)),
		Next: "correct the clock of the machine, which a virtual one has from its host, and run the job again.",
	}).Because(err)
}
