// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"time"

	wire "github.com/kettle/attest/attest/admission"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner/github"
)

// Issuer makes what is released. Its errors that match [runner.ErrDenied] say that no other try will help. What was made
// and is then not released has to end by itself.
type Issuer interface {
	// Issue makes a credential for one environment.
	Issue(ctx context.Context) (wire.Credential, error)
}

var _ Issuer = (*TokenIssuer)(nil)

// Minter makes tokens of a GitHub App's installation that can do less than the App.
type Minter interface {
	Mint(ctx context.Context, g github.Grant) (secret.String, time.Time, error)
}

// TokenIssuer releases a token of the operator's GitHub App, limited to registering runners at the target and to reading
// the facts of its jobs. It ends within an hour; the App's key stays with the operator. The environment registers its
// runner itself, since nothing in a finished registration says that its parts belong together (docs/adr/020).
type TokenIssuer struct {
	App   Minter
	Grant github.Grant
}

// Issue implements [Issuer].
func (i *TokenIssuer) Issue(ctx context.Context) (wire.Credential, error) {
	token, expires, err := i.App.Mint(ctx, i.Grant)
	if err != nil {
		return wire.Credential{}, err
	}
	c := wire.Credential{Token: token, Expires: expires}
	return c, c.Validate()
}
