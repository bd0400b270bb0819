// SPDX-License-Identifier: Apache-2.0

package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/kettle/attest/attest/token"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/job/pinned"
)

var _ Tokens = (*Issuer)(nil)

// maxKeys bounds an issuer's key set.
const maxKeys = 256 << 10

// Issuer is GitHub's token issuer over HTTPS. Every URL that it follows, the one of the sandbox included, must have a
// pinned host, and no redirect is followed.
type Issuer struct {
	hosts  pinned.Hosts
	issuer string
	client *http.Client
}

// NewIssuer makes an issuer. The client should be one of package pinned; its hosts are checked here all the same.
func NewIssuer(issuer string, hosts pinned.Hosts, client *http.Client) (*Issuer, error) {
	if client == nil {
		return nil, errors.New("a token issuer needs an HTTP client")
	}
	if _, err := hosts.Parse(issuer); err != nil {
		return nil, fmt.Errorf("token issuer %q: %w", issuer, err)
	}
	strict := *client
	strict.CheckRedirect = func(*http.Request, []*http.Request) error { return pinned.ErrRedirect }
	return &Issuer{hosts: hosts, issuer: issuer, client: &strict}, nil
}

// Fetch implements [Tokens]: GET url&audience=… with the job's bearer, answer {"value":"<jwt>"} (actions/toolkit
// oidc-utils.ts).
func (i *Issuer) Fetch(ctx context.Context, raw string, bearer secret.String, audience string) (string, error) {
	u, err := i.hosts.Parse(raw)
	if err != nil {
		return "", err
	}
	if bearer.Empty() {
		return "", errors.New("no bearer for the token request")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || query.Has("audience") {
		return "", errors.New("the token URL has a malformed query, or an audience of its own")
	}
	query.Set("audience", audience)
	u.RawQuery = query.Encode()
	body, err := i.get(ctx, u.String(), bearer, token.MaxToken+1024)
	if err != nil {
		return "", err
	}
	var answer struct {
		Value string `json:"value"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Value == "" {
		return "", errors.New("the answer holds no token")
	}
	return answer.Value, nil
}

// Keys implements [Tokens] by OpenID Connect Discovery (section 4.3): the document must name this very issuer, and its key set must
// lie on a pinned host.
func (i *Issuer) Keys(ctx context.Context) ([]byte, error) {
	raw, err := i.get(ctx, strings.TrimSuffix(i.issuer, "/")+"/.well-known/openid-configuration", secret.String{}, maxKeys)
	if err != nil {
		return nil, fmt.Errorf("discovering the issuer: %w", err)
	}
	var doc struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("discovering the issuer: %w", err)
	}
	if doc.Issuer != i.issuer {
		return nil, fmt.Errorf("discovering the issuer: %s says that it is %.128q", i.issuer, doc.Issuer)
	}
	if _, err := i.hosts.Parse(doc.JWKS); err != nil {
		return nil, fmt.Errorf("key set of the issuer: %w", err)
	}
	raw, err = i.get(ctx, doc.JWKS, secret.String{}, maxKeys)
	if err != nil {
		return nil, fmt.Errorf("key set of the issuer: %w", err)
	}
	return raw, nil
}

// get reads a whole answer. Its errors name the host only: the URL of a token names the job's plan.
func (i *Issuer) get(ctx context.Context, u string, bearer secret.String, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, errors.New("making a request")
	}
	req.Header.Set("Accept", "application/json")
	if !bearer.Empty() {
		req.Header.Set("Authorization", "Bearer "+bearer.Reveal())
	}
	resp, err := i.client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		if errors.Is(err, pinned.ErrHost) || errors.Is(err, pinned.ErrScheme) || errors.Is(err, pinned.ErrRedirect) {
			return nil, fmt.Errorf("asking %s: %w", req.URL.Host, err)
		}
		return nil, fmt.Errorf("asking %s: %w: %w", req.URL.Host, err, runner.ErrTryAgain)
	}
	defer resp.Body.Close()
	switch status := resp.StatusCode; {
	case status == http.StatusTooManyRequests || status >= 500:
		return nil, fmt.Errorf("asking %s: answer %d %s: %w", req.URL.Host, status, http.StatusText(status), runner.ErrTryAgain)
	case status != http.StatusOK:
		return nil, fmt.Errorf("asking %s: answer %d %s", req.URL.Host, status, http.StatusText(status))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w: %w", req.URL.Host, err, runner.ErrTryAgain)
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("asking %s: %w", req.URL.Host, pinned.ErrTooLarge)
	}
	return body, nil
}
