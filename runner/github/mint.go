// SPDX-License-Identifier: Apache-2.0

package github

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kettle/attest/internal/secret"
)

// Grant is what a token may do that is made for somebody else.
type Grant struct {
	Repositories []string          `json:"repositories,omitempty"` // names without their owner; none: all that the App is installed for
	Permissions  map[string]string `json:"permissions"`            // for example administration: write
}

// ErrNoApp is returned where a token is to be made and the credential is no GitHub App.
var ErrNoApp = errors.New("only a GitHub App can make tokens for others")

// Grant gives what an environment of the configured place needs: to register runners there and to read the facts of its
// jobs (docs.github.com, "Permissions required for GitHub Apps"). An enterprise has none: Apps cannot register there.
func (c *Client) Grant() Grant {
	g := Grant{Permissions: map[string]string{"actions": "read", "contents": "read", "metadata": "read"}}
	if c.config.Scope == Org {
		g.Permissions["organization_self_hosted_runners"] = "write"
		return g
	}
	g.Permissions["administration"] = "write"
	if _, repo, ok := strings.Cut(c.config.Target, "/"); ok {
		g.Repositories = []string{repo}
	}
	return g
}

// Mint makes a token of the App's installation that can do what the grant says and no more, and tells when it ends by
// this machine's clock. Each call makes another one. The client itself never uses it.
func (c *Client) Mint(ctx context.Context, g Grant) (secret.String, time.Time, error) {
	i, ok := c.wire.authorised.(*installation)
	if !ok {
		return secret.String{}, time.Time{}, ErrNoApp
	}
	if len(g.Permissions) == 0 { // GitHub would take it for all that the App may do
		return secret.String{}, time.Time{}, errors.New("making a token: no permissions are named")
	}
	body, err := json.Marshal(g)
	if err != nil {
		return secret.String{}, time.Time{}, fmt.Errorf("encoding a grant: %w", err)
	}
	select {
	case <-i.turn:
	case <-ctx.Done():
		return secret.String{}, time.Time{}, ctx.Err()
	}
	skew := i.skew
	i.turn <- struct{}{} // tokens for others are made side by side
	token, life, apart, err := i.exchange(ctx, skew, body)
	if apart != 0 {
		token, life, _, err = i.exchange(ctx, skew+apart, body)
	}
	if err != nil {
		return secret.String{}, time.Time{}, err
	}
	return secret.New(token), i.clock.now().Add(life), nil
}
