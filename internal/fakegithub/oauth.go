// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"net/http"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// runnerTokenLife is how long a runner's bearer lasts; it asks for a new one when it must.
const runnerTokenLife = 50 * time.Minute

// runnerToken is the OAuth token endpoint (RFC 7523): a runner proves its key by a client assertion, PS256 or RS256, whose
// issuer and subject are its client identifier and whose audience is this endpoint.
func (s *Server) runnerToken(w http.ResponseWriter, r *http.Request) {
	refuse := func(code, why string) {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": code, "error_description": why})
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil {
		refuse("invalid_request", "malformed form")
		return
	}
	if r.PathValue("tenant") != tenant || r.PostForm.Get("grant_type") != "client_credentials" {
		refuse("unsupported_grant_type", "grant_type must be client_credentials")
		return
	}
	if r.PostForm.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		refuse("invalid_request", "client_assertion_type must be jwt-bearer")
		return
	}
	s.mu.Lock()
	run, why := s.assertion(r.PostForm.Get("client_assertion"))
	token := ""
	if run != nil {
		token = s.bearer(map[string]any{"sub": run.clientID, "scp": "ActionsRunner.ListenAndAcquire"}, runnerTokenLife)
		s.tokens[token] = &principal{kind: runnerOAuth, runner: run, expires: s.steady().Add(runnerTokenLife)}
	}
	s.mu.Unlock()
	if run == nil {
		refuse("invalid_client", why)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"access_token": token, "token_type": "JWT", "expires_in": int(runnerTokenLife / time.Second), "scope": "",
	})
}

// assertion returns the registered runner that signed a client assertion, or why not. The caller holds mu.
func (s *Server) assertion(raw string) (*runner, string) {
	token, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.PS256, jose.RS256})
	if err != nil {
		return nil, "the client assertion is not a JWT signed with PS256 or RS256"
	}
	var claims jwt.Claims
	if err := token.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return nil, "the client assertion has no claims"
	}
	i := slices.IndexFunc(s.runnerIDs(), func(id int64) bool { return s.runners[id].clientID == claims.Issuer && !s.runners[id].removed })
	if i < 0 {
		return nil, "Registration " + claims.Issuer + " was not found."
	}
	run := s.runners[s.runnerIDs()[i]]
	if err := token.Claims(run.key.Public(), &claims); err != nil {
		return nil, "the client assertion is not signed by the runner's key"
	}
	if claims.Expiry == nil || claims.NotBefore == nil {
		return nil, "the client assertion has no life time"
	}
	want := jwt.Expected{Issuer: run.clientID, Subject: run.clientID, AnyAudience: jwt.Audience{s.oauthURL()}, Time: s.cfg.Now()}
	if err := claims.ValidateWithLeeway(want, 5*time.Minute); err != nil {
		return nil, err.Error()
	}
	return run, ""
}

// bearer makes a JWT that only this server needs to recognise: it looks tokens up and never verifies them.
func (s *Server) bearer(claims map[string]any, life time.Duration) string {
	now := s.cfg.Now()
	claims["iss"], claims["aud"], claims["jti"] = s.urls[serviceOAuth], s.urls[serviceServer], newID()
	claims["nbf"], claims["exp"] = now.Add(-5*time.Minute).Unix(), now.Add(life).Unix()
	token, err := s.sign(claims)
	if err != nil { // an RSA key and plain claims: cannot happen; a random bearer serves as well
		return random(32)
	}
	return token
}
