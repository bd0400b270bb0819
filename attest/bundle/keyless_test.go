// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/fakesigstore"
	"github.com/kettle/attest/internal/secret"
)

// services serves an instance; wrap may stand before it.
func services(t *testing.T, i *fakesigstore.Instance, wrap func(http.Handler) http.Handler) KeylessConfig {
	t.Helper()
	h := i.Handler()
	if wrap != nil {
		h = wrap(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	token, err := i.Token(release())
	if err != nil {
		t.Fatal(err)
	}
	return KeylessConfig{
		Fulcio: s.URL, Rekor: s.URL, Timestamp: s.URL + fakesigstore.PathTimestamp, Token: secret.New(token), Trust: trust(t, i.TrustedRoot()),
	}
}

func TestSignKeyless(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*fakesigstore.Config){
		"public": nil, "private": func(c *fakesigstore.Config) { c.WithoutCT, c.WithoutLog = true, true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := fake(t, change)
			cfg := services(t, i, nil)
			if change != nil {
				cfg.Rekor = ""
			}
			line, err := SignKeyless(t.Context(), cfg, []byte(payloadText))
			if err != nil {
				t.Fatal(err)
			}
			payload, signer, err := cfg.Trust.Verify(line)
			if err != nil || string(payload) != payloadText || signer.SAN != release().SAN() || !signer.SignedOn.Equal(signingDay()) {
				t.Fatalf("%q by %+v, %v", payload, signer, err)
			}
		})
	}
}

// TestSignKeylessAgain has each service fail once.
func TestSignKeylessAgain(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"Fulcio": fakesigstore.PathFulcio, "Rekor": fakesigstore.PathRekor, "timestamp": fakesigstore.PathTimestamp} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			cfg := services(t, fake(t, nil), func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == path && asked.Add(1) == 1 {
						http.Error(w, "busy", http.StatusServiceUnavailable)
						return
					}
					h.ServeHTTP(w, r)
				})
			})
			if _, err := SignKeyless(t.Context(), cfg, []byte(payloadText)); err != nil || asked.Load() != 2 {
				t.Errorf("asked %d times: %v", asked.Load(), err)
			}
		})
	}
}

func TestSignKeylessRefuses(t *testing.T) {
	t.Parallel()
	i := fake(t, nil)
	t.Run("a token that is no longer valid", func(t *testing.T) {
		t.Parallel()
		var asked atomic.Int32
		cfg := services(t, i, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				http.Error(w, "no: "+r.Header.Get("Authorization"), http.StatusUnauthorized)
			})
		})
		_, err := SignKeyless(t.Context(), cfg, []byte(payloadText))
		if !errors.Is(err, ErrRemote) || asked.Load() != 1 || strings.Contains(err.Error(), cfg.Token.Reveal()) || len(err.Error()) > 700 {
			t.Errorf("asked %d times: %v", asked.Load(), err)
		}
	})
	t.Run("a caller who leaves", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cfg := services(t, i, func(http.Handler) http.Handler {
			return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that the client is gone
				cancel()
				<-r.Context().Done()
			})
		})
		if _, err := SignKeyless(ctx, cfg, []byte(payloadText)); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrRemote) {
			t.Errorf("%v", err)
		}
	})
	t.Run("no payload", func(t *testing.T) {
		t.Parallel()
		if _, err := SignKeyless(t.Context(), services(t, i, nil), nil); err == nil {
			t.Error("signed nothing")
		}
	})
}

// TestAttackSigningServices signs against services that are not those of the trusted root, or that leave out what its
// instance has: what they made must not be published.
func TestAttackSigningServices(t *testing.T) {
	t.Parallel()
	i := fake(t, nil)
	t.Run("another instance than is trusted", func(t *testing.T) {
		t.Parallel()
		cfg := services(t, i, nil)
		cfg.Trust = trust(t, fake(t, nil).TrustedRoot())
		if line, err := SignKeyless(t.Context(), cfg, []byte(payloadText)); !errors.Is(err, refusal.ErrChain) || line != nil {
			t.Errorf("%v", err)
		}
	})
	t.Run("a log that is left out", func(t *testing.T) {
		t.Parallel()
		cfg := services(t, i, nil)
		cfg.Rekor = ""
		if line, err := SignKeyless(t.Context(), cfg, []byte(payloadText)); !errors.Is(err, refusal.ErrMissing) || line != nil {
			t.Errorf("%v", err)
		}
	})
}

func TestKeylessConfig(t *testing.T) {
	t.Parallel()
	good := KeylessConfig{Fulcio: "https://f.example", Rekor: "https://r.example", Timestamp: "https://t.example/x", Token: secret.New("t"), Trust: new(Trust)}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*KeylessConfig){
		"no Fulcio": func(c *KeylessConfig) { c.Fulcio = "" }, "no timestamp": func(c *KeylessConfig) { c.Timestamp = "" },
		"in the clear": func(c *KeylessConfig) { c.Fulcio = "http://f.example" }, "password": func(c *KeylessConfig) { c.Rekor = "https://u:p@r.example" },
		"no token": func(c *KeylessConfig) { c.Token = secret.String{} }, "no root": func(c *KeylessConfig) { c.Trust = nil },
		"no host": func(c *KeylessConfig) { c.Timestamp = "https:///x" }, "a file": func(c *KeylessConfig) { c.Rekor = "file:///x" },
	} {
		c := good
		change(&c)
		if _, err := SignKeyless(t.Context(), c, []byte(payloadText)); err == nil || errors.Is(err, ErrRemote) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
