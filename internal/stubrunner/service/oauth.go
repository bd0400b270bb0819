// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
)

// ErrInvalidClient says that the runner's registration is gone.
var ErrInvalidClient = errors.New("invalid_client: the runner registration has been deleted from the server")

// Credential is a runner's registration: its key and where it gets tokens.
type Credential struct {
	// ClientID identifies the registration.
	ClientID string
	// AuthorizationURL is the token endpoint and the audience of the assertion.
	AuthorizationURL string
	// Key signs the assertion.
	Key *rsa.PrivateKey
	// FIPS selects PS256 instead of RS256.
	FIPS bool
}

// Tokens gets bearer tokens and keeps the last one until shortly before its end.
type Tokens struct {
	client     *http.Client
	credential Credential

	mu      sync.Mutex
	current string
	expires time.Time
}

// NewTokens returns a source of tokens.
func NewTokens(client *http.Client, credential Credential) *Tokens {
	return &Tokens{client: client, credential: credential}
}

// Get returns a valid token. [ErrInvalidClient] when the registration is gone.
func (t *Tokens) Get(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != "" && time.Now().Before(t.expires) {
		return t.current, nil
	}
	assertion, err := t.credential.assertion(time.Now())
	if err != nil {
		return "", err
	}
	form := url.Values{
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {assertion},
		"grant_type":            {"client_credentials"},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.credential.AuthorizationURL, strings.NewReader(form.Encode()))
	if err != nil {
		return "", fmt.Errorf("making token request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", UserAgent())
	var answer struct {
		AccessToken string  `json:"access_token"`
		ExpiresIn   float64 `json:"expires_in"`
	}
	if err := exchange(t.client, req, &answer); err != nil {
		return "", tokenError(err)
	}
	if answer.AccessToken == "" {
		return "", errors.New("getting token: the answer has no token")
	}
	t.current = answer.AccessToken
	t.expires = time.Now().Add(time.Duration(answer.ExpiresIn)*time.Second - time.Minute)
	return t.current, nil
}

// Forget drops the kept token, after a service refused it.
func (t *Tokens) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current = ""
}

func tokenError(err error) error {
	var status *StatusError
	if errors.As(err, &status) {
		var body struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(status.Body, &body) == nil && strings.EqualFold(body.Error, "invalid_client") {
			return ErrInvalidClient
		}
	}
	return fmt.Errorf("getting token: %w", err)
}

// assertion is the signed statement of RFC 7523, section 2.2.
func (c Credential) assertion(now time.Time) (string, error) {
	alg := jose.RS256
	if c.FIPS {
		alg = jose.PS256
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: c.Key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("preparing client assertion: %w", err)
	}
	claims, err := json.Marshal(map[string]any{
		"iss": c.ClientID, "sub": c.ClientID, "aud": c.AuthorizationURL, "jti": uuid.NewString(),
		"nbf": now.Unix(), "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	})
	if err != nil {
		return "", fmt.Errorf("preparing client assertion: %w", err)
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return "", fmt.Errorf("signing client assertion: %w", err)
	}
	return signed.CompactSerialize()
}
