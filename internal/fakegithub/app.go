// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kettle/attest/internal/fakegithub/workflow"
)

// installationTokenLife is how long an installation's token lasts.
const installationTokenLife = time.Hour

// createInstallationToken answers POST /app/installations/{id}/access_tokens: the bearer is a JWT of the App, RS256, that
// lives at most ten minutes.
func (c *call) createInstallationToken() error {
	app, err := c.app()
	if err != nil {
		return err
	}
	id, err := c.number("id")
	if err != nil {
		return err
	}
	if id != app.InstallationID {
		return notFound()
	}
	granted := workflow.Permissions{"metadata": "read"}
	maps.Copy(granted, app.Permissions)
	var ask struct {
		Permissions map[string]string `json:"permissions"`
	}
	if c.r.ContentLength != 0 {
		if err := c.decode(&ask); err != nil {
			return err
		}
	}
	if len(ask.Permissions) > 0 {
		narrowed := workflow.Permissions{"metadata": "read"}
		for scope, access := range ask.Permissions {
			if !granted.Allows(scope, access) {
				return unprocessable("The permissions requested are not granted to this installation.")
			}
			narrowed[scope] = access
		}
		granted = narrowed
	}
	token := "ghs_" + random(18)
	life := cmp.Or(c.s.faults.InstallationLife, installationTokenLife)
	c.s.tokens[token] = &principal{kind: installation, account: app.Account, permissions: granted, expires: c.s.steady().Add(life)}
	return c.reply(http.StatusCreated, struct {
		Token       string            `json:"token"`
		Expires     string            `json:"expires_at"`
		Permissions map[string]string `json:"permissions"`
		Selection   string            `json:"repository_selection"`
	}{token, stamp(c.s.cfg.Now().Add(life)), granted, "all"})
}

// app verifies the App's JWT.
func (c *call) app() (*App, error) {
	raw := bearer(c.r)
	if raw == "" {
		return nil, &apiError{status: http.StatusUnauthorized, message: "A JSON web token could not be decoded"}
	}
	token, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return nil, &apiError{status: http.StatusUnauthorized, message: "A JSON web token could not be decoded"}
	}
	var unverified struct {
		Issuer json.RawMessage `json:"iss"`
	}
	if err := token.UnsafeClaimsWithoutVerification(&unverified); err != nil {
		return nil, &apiError{status: http.StatusUnauthorized, message: "A JSON web token could not be decoded"}
	}
	for i := range c.s.cfg.Apps {
		app := &c.s.cfg.Apps[i]
		id := strconv.FormatInt(app.ID, 10)
		if iss := string(unverified.Issuer); iss != id && iss != strconv.Quote(id) {
			continue
		}
		return app, c.verifyApp(token, app)
	}
	return nil, &apiError{status: http.StatusUnauthorized, message: "Integration not found"}
}

func (c *call) verifyApp(token *jwt.JSONWebToken, app *App) error {
	var claims struct {
		Expiry   *jwt.NumericDate `json:"exp"`
		IssuedAt *jwt.NumericDate `json:"iat"`
	}
	if err := token.Claims(app.Key, &claims); err != nil {
		return &apiError{status: http.StatusUnauthorized, message: "A JSON web token could not be decoded"}
	}
	const drift = time.Minute
	now := c.s.cfg.Now()
	switch {
	case claims.Expiry == nil || now.After(claims.Expiry.Time()):
		return &apiError{status: http.StatusUnauthorized, message: "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires"}
	case claims.Expiry.Time().After(now.Add(10*time.Minute + drift)):
		return &apiError{status: http.StatusUnauthorized, message: "'Expiration time' claim ('exp') is too far in the future"}
	case claims.IssuedAt == nil || claims.IssuedAt.Time().After(now.Add(drift)):
		return &apiError{status: http.StatusUnauthorized, message: "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"}
	}
	return nil
}

// stamp writes a time as the REST API does.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
