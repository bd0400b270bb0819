// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"cmp"
	"crypto/rsa"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// The life of an id token: from ten minutes before now, for clocks that are late, to five minutes after.
const (
	idTokenBefore = 10 * time.Minute
	idTokenAfter  = 5 * time.Minute
)

func (s *Server) routeIssuer(mux *http.ServeMux) {
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{
			"issuer": s.Issuer(), "jwks_uri": s.Issuer() + "/.well-known/jwks", "subject_types_supported": []string{"public", "pairwise"},
			"response_types_supported": []string{"id_token"}, "id_token_signing_alg_values_supported": []string{"RS256"},
			"scopes_supported": []string{"openid"},
			"claims_supported": []string{
				"sub", "aud", "exp", "iat", "iss", "jti", "nbf", "ref", "sha", "repository", "repository_id", "repository_owner",
				"repository_owner_id", "run_id", "run_number", "run_attempt", "actor", "actor_id", "workflow", "workflow_ref", "workflow_sha",
				"head_ref", "base_ref", "event_name", "ref_type", "job_workflow_ref", "job_workflow_sha", "runner_environment",
				"repository_visibility", "check_run_id",
			},
		})
	})
	mux.HandleFunc("GET /.well-known/jwks", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.JWKS()) })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
}

// Issuer returns the issuer of id tokens.
func (s *Server) Issuer() string { return s.urls[serviceIssuer] }

// JWKS returns the issuer's public keys, as a verifier's trust root would pin them: the one in use first.
func (s *Server) JWKS() jose.JSONWebKeySet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return jose.JSONWebKeySet{Keys: slices.Concat([]jose.JSONWebKey{s.publicKey()}, s.retired)}
}

// publicKey is the key in use. The caller holds mu.
func (s *Server) publicKey() jose.JSONWebKey {
	return jose.JSONWebKey{Key: s.issuer.Public(), KeyID: s.kid, Algorithm: string(jose.RS256), Use: "sig"}
}

// sign makes a JWT under the issuer's key. The caller holds mu.
func (s *Server) sign(claims map[string]any) (string, error) {
	return signWith(s.issuer, s.kid, claims)
}

func signWith(private *rsa.PrivateKey, kid string, claims map[string]any) (string, error) {
	key := jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: private, KeyID: kid}}
	signer, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("making signer: %w", err)
	}
	return jwt.Signed(signer).Claims(claims).Serialize()
}

// idToken answers GET …/idtoken/{plan}/{job}?audience=…: only while the job is in progress, only with id-token: write, only with
// the bearer of the job's SystemVssConnection.
func (s *Server) idToken(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	token, fault := s.mint(r)
	s.mu.Unlock()
	if fault != nil {
		fault.write(w)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"count": len(token), "value": token})
}

func (s *Server) mint(r *http.Request) (string, *serviceError) {
	p := s.lookup(bearer(r))
	if p == nil || p.kind != jobSystem {
		return "", runError(http.StatusUnauthorized, "not authorized")
	}
	j := p.job
	if s.byGUID(r.PathValue("plan"), r.PathValue("job")) != j {
		return "", runError(http.StatusForbidden, "the token is for another job")
	}
	if j.status != statusInProgress || !j.permissions.Allows("id-token", "write") {
		return "", runError(http.StatusForbidden, "the job may not have an id token")
	}
	audience := r.URL.Query().Get("audience")
	if audience == "" {
		audience = s.urls[serviceServer] + "/" + j.run.repo.Owner
	}
	claims := s.claims(j, audience)
	if change := s.faults.IDToken; change != nil {
		change(claims)
	}
	private := s.issuer
	if s.stray != nil {
		private = s.stray
	}
	token, err := signWith(private, cmp.Or(s.faults.KeyID, s.kid), claims)
	if err != nil {
		return "", runError(http.StatusInternalServerError, err.Error())
	}
	return token, nil
}

// claims are those of a job without environment and without reusable workflow; all values but the times are strings.
func (s *Server) claims(j *job, audience string) map[string]any {
	r, now := j.run, s.cfg.Now()
	kind := "branch"
	if strings.HasPrefix(r.ref, "refs/tags/") {
		kind = "tag"
	}
	return map[string]any{
		"iss": s.Issuer(), "aud": audience, "sub": "repo:" + r.repo.full() + ":ref:" + r.ref, "jti": newID(),
		"iat": now.Unix(), "nbf": now.Add(-idTokenBefore).Unix(), "exp": now.Add(idTokenAfter).Unix(),
		"actor": r.actor.Login, "actor_id": decimal(r.actor.ID), "base_ref": "", "head_ref": "", "event_name": r.event,
		"check_run_id": decimal(j.id), "job_workflow_ref": r.workflowRef(), "job_workflow_sha": r.sha,
		"ref": r.ref, "ref_protected": "false", "ref_type": kind, "sha": r.sha,
		"repository": r.repo.full(), "repository_id": decimal(r.repo.ID), "repository_visibility": r.repo.visibility(),
		"repository_owner": r.repo.Owner, "repository_owner_id": decimal(r.repo.OwnerID),
		"run_id": decimal(r.id), "run_number": decimal(r.number), "run_attempt": decimal(int64(r.attempt)),
		"runner_environment": "self-hosted", "workflow": r.def.Name, "workflow_ref": r.workflowRef(), "workflow_sha": r.sha,
	}
}
