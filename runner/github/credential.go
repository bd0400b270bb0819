// SPDX-License-Identifier: Apache-2.0

package github

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/internal/strict"
)

// App is a GitHub App's installation. It is the credential to prefer: it belongs to no person, is limited to what it is
// installed for, and what is sent lives an hour.
type App struct {
	ID             int64
	InstallationID int64
	PrivateKey     secret.String // PEM
}

// Credential is exactly one of a token and an App.
type Credential struct {
	Token secret.String
	App   *App
}

// tokenKind is what a token's prefix says (docs.github.com, "GitHub's token formats").
type tokenKind int

const (
	unknownToken tokenKind = iota // an old one, or one of a server that has no prefixes
	classicToken
	fineGrainedToken
	userToken         // of an OAuth app, or of a GitHub App in a person's name
	installationToken // of a GitHub App
)

func (c Credential) kind() tokenKind {
	for prefix, kind := range map[string]tokenKind{
		"ghp_": classicToken, "github_pat_": fineGrainedToken, "gho_": userToken, "ghu_": userToken, "ghs_": installationToken,
	} {
		if strings.HasPrefix(c.Token.Reveal(), prefix) {
			return kind
		}
	}
	return unknownToken
}

func (c Credential) validate(scope Scope) error {
	hasToken, app := !c.Token.Empty(), c.App
	var errs []error
	if hasToken == (app != nil) {
		errs = append(errs, errors.New("exactly one of a token and an App is the credential"))
	}
	if app != nil && (app.ID < 1 || app.InstallationID < 1 || app.PrivateKey.Empty()) {
		errs = append(errs, errors.New("an App needs its id, its installation's id and its private key"))
	}
	if kind := c.kind(); scope == Enterprise && (app != nil || kind == fineGrainedToken || kind == userToken || kind == installationToken) {
		errs = append(errs, errors.New("runners of an enterprise take a classic token with the scope manage_runners:enterprise: no App and no other token can have that"))
	}
	return errors.Join(errs...)
}

// Warnings says in sentences what an operator should know about a credential that is wider or shorter-lived than
// needed. An App has none.
func (c Credential) Warnings() []string {
	if c.App != nil || c.Token.Empty() {
		return nil
	}
	const better = "; a GitHub App, installed for what is needed, is narrower and belongs to no one person"
	switch c.kind() {
	case classicToken:
		return []string{"the credential is a classic token: it reaches every repository and organisation of its owner" + better}
	case fineGrainedToken:
		return []string{"the credential is a fine-grained token: it acts in its owner's name and ends when that person leaves" + better}
	case userToken:
		return []string{"the credential acts in a person's name, with all that the person may do" + better}
	case installationToken:
		return []string{"the credential is an installation's token: it ends within an hour and cannot be renewed, so that a runner may stay registered; hand over the App's key instead"}
	}
	return []string{"the credential is a token of unknown kind: how far it reaches cannot be told" + better}
}

// Warnings says what [Credential.Warnings] says and, once GitHub has answered, which scopes the token has beyond the one
// that is needed.
func (c *Client) Warnings() []string {
	out := c.config.Credential.Warnings()
	b, ok := c.wire.authorised.(*bearer)
	if !ok {
		return out
	}
	told := b.scopes.Load()
	if told == nil {
		return out
	}
	var more []string
	for _, scope := range strings.Split(*told, ",") {
		if scope = strings.TrimSpace(scope); scope != "" && scope != c.need().scope {
			more = append(more, clip(scope))
		}
	}
	if len(more) > 0 {
		slices.Sort(more)
		out = append(out, "the token has scopes that are not needed: "+strings.Join(more, ", ")+"; needed is "+c.need().scope)
	}
	return out
}

// authenticate adds the credential to every request.
func authenticate(next http.RoundTripper, c Config, clock clock) (http.RoundTripper, error) {
	if c.Credential.App == nil {
		return &bearer{token: c.Credential.Token, next: next}, nil
	}
	return newInstallation(next, c, clock)
}

// bearer sends a token and remembers the scopes that GitHub says it has.
type bearer struct {
	token  secret.String
	next   http.RoundTripper
	scopes atomic.Pointer[string] // of X-OAuth-Scopes, which only classic tokens have
}

// RoundTrip implements [http.RoundTripper].
func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token.Reveal())
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		if scopes := resp.Header.Get("X-OAuth-Scopes"); scopes != "" {
			b.scopes.Store(&scopes)
		}
	}
	return resp, err
}

// ParseCredential reads a token, or a GitHub App as JSON: {"appId":1,"installationId":2,"privateKey":"PEM"}. The error repeats
// nothing of it.
func ParseCredential(text secret.String) (Credential, error) {
	if !strings.HasPrefix(text.Reveal(), "{") {
		if text.Empty() || strings.ContainsFunc(text.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }) {
			return Credential{}, errors.New("the credential is neither a token, on one line, nor a GitHub App as JSON")
		}
		return Credential{Token: text}, nil
	}
	var app struct {
		AppID          int64  `json:"appId"`
		InstallationID int64  `json:"installationId"`
		PrivateKey     string `json:"privateKey"`
	}
	if err := strict.Decode([]byte(text.Reveal()), &app); err != nil || app.AppID <= 0 || app.InstallationID <= 0 || app.PrivateKey == "" {
		return Credential{}, errors.New("a GitHub App needs exactly appId, installationId and privateKey (PEM)")
	}
	return Credential{App: &App{ID: app.AppID, InstallationID: app.InstallationID, PrivateKey: secret.New(app.PrivateKey)}}, nil
}
