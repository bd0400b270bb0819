// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sigstore/sigstore-go/pkg/sign"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/internal/secret"
)

// Bounds of [SignKeyless].
const (
	signAttempts = 3
	signTimeout  = 90 * time.Second // of one attempt; Rekor v2 answers when its next checkpoint is out
	signBackoff  = time.Second      // before the second attempt, twice that before the third
)

// ErrRemote is matched by the error of [SignKeyless] when a service refused or could not be reached.
var ErrRemote = errors.New("signing service")

// KeylessConfig names the services of one Sigstore instance and who signs. All but Rekor and Transport are required.
type KeylessConfig struct {
	Fulcio    string            // base URL of the certificate authority
	Rekor     string            // base URL of the log, Rekor v2; empty for an instance without one
	Timestamp string            // whole URL of the timestamp authority
	Token     secret.String     // the OIDC token of the job, for the audience that Fulcio asks
	Trust     *Trust            // must accept what was made
	Transport http.RoundTripper // for Fulcio and the timestamp authority; [http.DefaultTransport] if nil
}

// Validate joins every fault. A token is sent in the clear to nobody but this machine itself.
func (c KeylessConfig) Validate() error {
	var errs []error
	for name, raw := range map[string]string{"Fulcio": c.Fulcio, "Rekor": c.Rekor, "timestamp": c.Timestamp} {
		if raw == "" && name == "Rekor" {
			continue
		}
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
			errs = append(errs, fmt.Errorf("%s URL %.200q: want https", name, raw))
		}
	}
	if c.Token.Empty() {
		errs = append(errs, errors.New("no identity token"))
	}
	if c.Trust == nil {
		errs = append(errs, errors.New("no trusted root"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("signing without a key: %w", err)
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// SignKeyless makes one line: a bundle over exactly these payload bytes by a key that is made for it, certified by Fulcio
// for the token's identity, timestamped, logged where the instance has a log, and then forgotten. It returns only what
// [Trust.Verify] accepts. A service that fails is asked again with a new key, three times in all.
func SignKeyless(ctx context.Context, cfg KeylessConfig, payload []byte) (line []byte, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if len(payload) == 0 || len(payload) > statement.MaxPayload {
		return nil, fmt.Errorf("signing without a key: want a payload of 1 to %d bytes, got %d", statement.MaxPayload, len(payload))
	}
	for attempt := range signAttempts {
		if attempt > 0 {
			if err := wait(ctx, signBackoff<<(attempt-1)); err != nil {
				return nil, errors.Join(err, fmt.Errorf("%w: %w", ErrRemote, err))
			}
		}
		var again bool
		if line, again, err = cfg.attempt(ctx, payload); err == nil {
			return cfg.checked(line, payload)
		}
		if !again || ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

// checked gives the line only if it is what a verifier will accept.
func (c KeylessConfig) checked(line, payload []byte) ([]byte, error) {
	got, _, err := c.Trust.Verify(line)
	if err != nil {
		return nil, fmt.Errorf("verifying what was signed: %w", err)
	}
	if !bytes.Equal(got, payload) {
		return nil, errors.New("verifying what was signed: another payload")
	}
	return line, nil
}

// attempt signs once with a new key. again says that another attempt may succeed.
func (c KeylessConfig) attempt(ctx context.Context, payload []byte) (line []byte, again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	key, err := NewKey()
	if err != nil {
		return nil, false, err
	}
	defer key.Erase()
	carrier := &bound{ctx: ctx, next: c.Transport}
	if carrier.next == nil {
		carrier.next = http.DefaultTransport
	}
	const whole = -1 // the context bounds the attempt as a whole
	options := sign.BundleOptions{
		Context:                    ctx,
		CertificateProvider:        sign.NewFulcio(&sign.FulcioOptions{BaseURL: strings.TrimSuffix(c.Fulcio, "/"), Timeout: whole, Transport: carrier}),
		CertificateProviderOptions: &sign.CertificateProviderOptions{IDToken: c.Token.Reveal()},
		TimestampAuthorities:       []*sign.TimestampAuthority{sign.NewTimestampAuthority(&sign.TimestampAuthorityOptions{URL: c.Timestamp, Timeout: whole, Transport: carrier})},
	}
	if c.Rekor != "" {
		options.TransparencyLogs = []sign.Transparency{sign.NewRekor(&sign.RekorOptions{BaseURL: c.Rekor, Version: 2})}
	}
	pb, err := sign.Bundle(&sign.DSSEData{Data: payload, PayloadType: statement.PayloadType}, key, options)
	if err != nil {
		return nil, !carrier.refused.Load(), c.remote(ctx, err)
	}
	b, err := protojson.Marshal(pb)
	if err != nil {
		return nil, false, fmt.Errorf("encoding bundle: %w", err)
	}
	var compact bytes.Buffer // protojson varies its white space on purpose
	if err := json.Compact(&compact, b); err != nil {
		return nil, false, fmt.Errorf("compacting bundle: %w", err)
	}
	return compact.Bytes(), false, nil
}

// remote says what a service answered: bounded, and without the token, whatever it echoes.
func (c KeylessConfig) remote(ctx context.Context, cause error) error {
	text := strings.ReplaceAll(cause.Error(), c.Token.Reveal(), c.Token.String())
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %.400q: %w", ErrRemote, text, err)
	}
	return fmt.Errorf("%w: %.400q", ErrRemote, text)
}

// bound carries requests under the attempt's context, which the library's own requests lack, and notes whether a service
// refused for good.
type bound struct {
	ctx     context.Context //nolint:containedctx // it lives as long as the attempt.
	next    http.RoundTripper
	refused atomic.Bool
}

// RoundTrip implements [http.RoundTripper].
func (b *bound) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := b.next.RoundTrip(r.WithContext(b.ctx))
	if err != nil {
		return nil, err
	}
	if s := res.StatusCode; s >= 400 && s < 500 && s != http.StatusTooManyRequests && s != http.StatusRequestTimeout {
		b.refused.Store(true)
	}
	return res, nil
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
