// SPDX-License-Identifier: Apache-2.0

package github

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
)

// Times of an App's JWT. GitHub refuses one that lives longer than ten minutes, or was issued in its future.
const (
	jwtBack     = time.Minute
	jwtLife     = 5 * time.Minute
	clockFault  = 30 * time.Second // a difference of the clocks that can be why a JWT was refused
	renewBefore = 2 * time.Minute  // the end of an installation's token
	maxLife     = time.Hour        // of an installation's token
)

// installation sends the token of a GitHub App's installation: made when it is needed, renewed before it ends, and made
// anew, once for a request, when GitHub refuses it. Nothing here relies on this machine's clock being right: how long a
// token lives is told by GitHub's own two times, and a JWT that GitHub refuses is signed again by GitHub's clock.
type installation struct {
	next  http.RoundTripper
	app   App
	key   *rsa.PrivateKey
	url   string
	clock clock
	told  func(secret.String) // of each token, never nil
	turn  chan struct{}       // holds one value: whoever has it owns what follows
	token string
	ends  time.Time     // by this machine's clock
	skew  time.Duration // GitHub's clock less this machine's, as far as it is known
}

func newInstallation(next http.RoundTripper, c Config, clock clock) (*installation, error) {
	app := *c.Credential.App
	key, err := parseKey([]byte(app.PrivateKey.Reveal()))
	if err != nil {
		return nil, err
	}
	told := c.Minted
	if told == nil {
		told = func(secret.String) {}
	}
	i := &installation{
		next: next, told: told, app: app, key: key, clock: clock, turn: make(chan struct{}, 1),
		url: strings.TrimSuffix(c.APIURL, "/") + "/app/installations/" + strconv.FormatInt(app.InstallationID, 10) + "/access_tokens",
	}
	i.turn <- struct{}{}
	return i, nil
}

// parseKey reads the key as GitHub hands it out (PKCS #1), or as other tools store it (PKCS #8). Its error quotes
// nothing.
func parseKey(text []byte) (*rsa.PrivateKey, error) {
	bad := errors.New("reading the App's private key: it is no PEM of an RSA key")
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, bad
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, bad
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, bad
	}
	return key, nil
}

// RoundTrip implements [http.RoundTripper].
func (i *installation) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := i.current(r.Context(), "")
	if err != nil {
		closeBody(r)
		return nil, err
	}
	resp, err := i.send(r, token)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || (r.Body != nil && r.GetBody == nil) {
		return resp, err
	}
	again, err := rewind(r)
	if err != nil {
		return resp, nil //nolint:nilerr // the answer that there is says more.
	}
	token, err = i.current(r.Context(), token)
	_ = resp.Body.Close()
	if err != nil {
		closeBody(again)
		return nil, err
	}
	return i.send(again, token)
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
}

func (i *installation) send(r *http.Request, token string) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	return i.next.RoundTrip(r)
}

// current gives a token that is none of those that GitHub refused.
func (i *installation) current(ctx context.Context, refused string) (string, error) {
	select {
	case <-i.turn:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { i.turn <- struct{}{} }()
	if i.token != "" && i.token != refused && i.clock.now().Before(i.ends) {
		return i.token, nil
	}
	i.token = ""
	token, life, apart, err := i.exchange(ctx, i.skew, nil)
	if apart != 0 {
		i.skew += apart
		token, life, _, err = i.exchange(ctx, i.skew, nil)
	}
	if err != nil {
		return "", err
	}
	i.token, i.ends = token, i.clock.now().Add(life-renewBefore)
	i.told(secret.New(token))
	return i.token, nil
}

// credentialError says that GitHub gave no token for the App. The request that needed it was not made.
type credentialError struct {
	status    int // 0 when there was no answer
	message   string
	requestID string
	wait      time.Duration
	apart     time.Duration // GitHub's clock less the one that the JWT was made by
	cause     error
}

// Error implements error.
func (e *credentialError) Error() string {
	if e.status == 0 {
		return fmt.Sprintf("asking for a token of the App: %v", e.cause)
	}
	return fmt.Sprintf("asking for a token of the App: GitHub answered %d, %q", e.status, e.message)
}

// Unwrap gives the error below, which may be nil.
func (e *credentialError) Unwrap() error { return e.cause }

// Is matches what the answer means for other tries.
func (e *credentialError) Is(target error) bool {
	again := e.status == 0 || e.status == http.StatusTooManyRequests || e.status >= 500
	return target == runner.ErrTryAgain && again && !unsent(e.cause) || target == runner.ErrDenied && !again
}

// RetryAfter implements [runner.Later].
func (e *credentialError) RetryAfter() time.Duration { return e.wait }

// exchange asks once for a token, limited by the grant in body or, without one, as wide as the App. apart is not zero
// where GitHub refused because of the clock: another try with so much more skew may succeed.
func (i *installation) exchange(ctx context.Context, skew time.Duration, body []byte) (token string, life, apart time.Duration, err error) {
	at := i.clock.now().Add(skew)
	assertion, err := i.sign(at)
	if err != nil {
		return "", 0, 0, fmt.Errorf("signing the App's request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, i.url, bytes.NewReader(body))
	if err != nil {
		return "", 0, 0, fmt.Errorf("asking for a token of the App: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+assertion)
	req.Header.Set("Accept", "application/vnd.github+json")
	req.Header.Set("User-Agent", agent)
	resp, err := i.next.RoundTrip(req)
	if err != nil {
		return "", 0, 0, &credentialError{cause: err}
	}
	defer resp.Body.Close()
	e := &credentialError{status: resp.StatusCode, requestID: resp.Header.Get("X-GitHub-Request-Id")}
	if date, ok := dated(resp); ok {
		e.apart = date.Sub(at)
	}
	e.wait, _ = retryAfter(resp, i.clock.now())
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxBlob))
	if err != nil {
		e.status, e.cause = 0, err
		return "", 0, 0, e
	}
	var answer struct {
		Token   string    `json:"token"`
		Expires time.Time `json:"expires_at"`
		Message string    `json:"message"`
	}
	err = json.Unmarshal(raw, &answer)
	if e.message = answer.Message; resp.StatusCode != http.StatusCreated {
		if e.status == http.StatusUnauthorized && e.apart.Abs() > clockFault {
			apart = e.apart
		}
		return "", 0, apart, e
	}
	if err != nil || answer.Token == "" {
		e.status, e.cause = 0, errors.New("the answer holds no token")
		return "", 0, 0, e
	}
	return answer.Token, min(answer.Expires.Sub(serverTime(resp, at)), maxLife), 0, nil
}

// sign makes the JWT that GitHub knows the App by.
func (i *installation) sign(at time.Time) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: i.key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	return jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: strconv.FormatInt(i.app.ID, 10), IssuedAt: jwt.NewNumericDate(at.Add(-jwtBack)), Expiry: jwt.NewNumericDate(at.Add(jwtLife)),
	}).Serialize()
}
