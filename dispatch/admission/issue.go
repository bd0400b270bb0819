// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	wire "github.com/kettle/attest/attest/admission"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/github"
)

// Issuer makes what is released. Its errors that match [runner.ErrDenied] say that no other try will help.
type Issuer interface {
	// Issue makes a credential for one environment, whose runners' names begin with prefix.
	Issue(ctx context.Context, prefix string) (wire.Credential, error)
	// Discard takes back what was made and will not be released, as far as that is possible.
	Discard(ctx context.Context, c wire.Credential) error
}

var (
	_ Issuer = (*TokenIssuer)(nil)
	_ Issuer = (*JITIssuer)(nil)
)

// Minter makes tokens of a GitHub App's installation that can do less than the App.
type Minter interface {
	Mint(ctx context.Context, g github.Grant) (secret.String, time.Time, error)
}

// TokenIssuer releases a token of the operator's GitHub App, limited to registering runners at the target and to reading
// the facts of its jobs. It ends within an hour; the App's key stays with the operator.
type TokenIssuer struct {
	App   Minter
	Grant github.Grant
}

// Issue implements [Issuer].
func (i *TokenIssuer) Issue(ctx context.Context, _ string) (wire.Credential, error) {
	return mint(ctx, i.App, i.Grant, wire.Credential{Kind: wire.KindToken})
}

// Discard implements [Issuer]. A token that nobody was given ends by itself.
func (i *TokenIssuer) Discard(context.Context, wire.Credential) error { return nil }

// JITIssuer registers one ephemeral runner for the environment and releases its configuration, with a token that can
// only read the facts of the target's jobs where there is an App to make one. The environment cannot register anything.
type JITIssuer struct {
	Registrar Registrar
	App       Minter       // nil: the environment gets no token
	Grant     github.Grant // of that token
}

// Registrar is the part of [runner.Registrar] that an issuer needs.
type Registrar interface {
	Register(ctx context.Context, name string) (runner.Registration, error)
	Remove(ctx context.Context, r runner.Registration) error
}

// discardTime bounds the removal of a runner that is not released.
const discardTime = 30 * time.Second

// Issue implements [Issuer].
func (i *JITIssuer) Issue(ctx context.Context, prefix string) (wire.Credential, error) {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	reg, err := i.Registrar.Register(ctx, prefix+"-"+hex.EncodeToString(random[:]))
	if err != nil {
		return wire.Credential{}, err
	}
	c := wire.Credential{Kind: wire.KindJIT, Runner: reg.ID, Name: reg.Name, JIT: reg.JIT}
	if i.App == nil {
		return c, c.Validate()
	}
	full, err := mint(ctx, i.App, i.Grant, c)
	if err != nil {
		return wire.Credential{}, errors.Join(err, i.Discard(ctx, c))
	}
	return full, nil
}

// Discard implements [Issuer]: it removes the runner.
func (i *JITIssuer) Discard(ctx context.Context, c wire.Credential) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTime)
	defer cancel()
	if err := i.Registrar.Remove(ctx, runner.Registration{ID: c.Runner, Name: c.Name}); err != nil {
		return fmt.Errorf("removing runner %d, which nobody was given: %w", c.Runner, err)
	}
	return nil
}

func mint(ctx context.Context, app Minter, g github.Grant, c wire.Credential) (wire.Credential, error) {
	var err error
	if c.Token, c.Expires, err = app.Mint(ctx, g); err != nil {
		return wire.Credential{}, err
	}
	return c, c.Validate()
}
