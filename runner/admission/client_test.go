// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	wire "github.com/kettle/attest/attest/admission"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// applicant is an environment whose secure processor is not asked.
type applicant struct {
	key      *bundle.Key
	instance statement.Instance
	quoted   int
	fail     error
}

func newApplicant(t testing.TB) *applicant {
	t.Helper()
	key, err := bundle.NewKey()
	must(t, err)
	return &applicant{key: key, instance: statement.Instance{Platform: "snp", ReportID: strings.Repeat("11", 32), ChipID: strings.Repeat("22", 64)}}
}

func (a *applicant) Key() binding.Digest          { return a.key.Digest() }
func (a *applicant) Instance() statement.Instance { return a.instance }
func (a *applicant) Boot() (signed, evidence []byte) {
	return []byte(`{"boot":1}`), []byte(`{"bootEvidence":1}`)
}

func (a *applicant) Quote(ctx context.Context, payload []byte, nonce, hpkeKey binding.Digest) (signed, evidence []byte, err error) {
	if a.quoted++; a.fail != nil {
		return nil, nil, a.fail
	}
	line, err := bundle.Sign(ctx, a.key, payload)
	return line, fmt.Appendf(nil, `{"nonce":%q,"hpkeKey":%q}`, nonce, hpkeKey), err
}

// dispatcher is the other side, each part of which a test may change.
type dispatcher struct {
	t    *testing.T
	key  *bundle.Key
	tls  *httptest.Server
	now  func() time.Time
	asks atomic.Int32

	challenge func(*statement.Challenge)
	summary   func(*statement.EnvironmentVSA)
	release   func(*statement.Release)
	seal      func(*wire.Terms, *[]byte) // terms and key that are sealed for
	signer    func(what string) *bundle.Key
	answer    func(*wire.Answer)
	before    func(w http.ResponseWriter, path string) bool // true: it has answered
	last      wire.Request
}

func now() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

func newDispatcher(t *testing.T) *dispatcher {
	t.Helper()
	key, err := bundle.NewKey()
	must(t, err)
	d := &dispatcher{t: t, key: key, now: now}
	d.tls = httptest.NewUnstartedServer(d)
	d.tls.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	d.tls.StartTLS()
	t.Cleanup(d.tls.Close)
	return d
}

func (d *dispatcher) sign(what string, payload []byte, err error) []byte {
	must(d.t, err)
	key := d.key
	if d.signer != nil {
		if other := d.signer(what); other != nil {
			key = other
		}
	}
	line, err := bundle.Sign(context.Background(), key, payload)
	must(d.t, err)
	return line
}

func apply[T any](f func(*T), v *T) {
	if f != nil {
		f(v)
	}
}

func (d *dispatcher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d.before != nil && d.before(w, r.URL.Path) {
		return
	}
	body, err := io.ReadAll(r.Body)
	must(d.t, err)
	switch r.URL.Path {
	case wire.PathChallenge:
		h, err := wire.ParseHello(body)
		must(d.t, err)
		c := &statement.Challenge{EnvironmentKey: h.EnvironmentKey, Conditions: statement.ChallengeConditions{
			Nonce: binding.Sum([]byte("nonce")), Fresh: h.Fresh, Time: d.now(), Expires: d.now().Add(2 * time.Minute),
		}}
		apply(d.challenge, c)
		payload, err := c.Marshal()
		_, _ = w.Write(d.sign("challenge", payload, err))
	case wire.PathAdmit:
		d.asks.Add(1)
		_, _ = w.Write(d.admit(body))
	default:
		d.t.Errorf("asked for %s", r.URL.Path)
	}
}

func (d *dispatcher) admit(body []byte) []byte {
	r, err := wire.ParseRequest(body)
	must(d.t, err)
	d.last = r
	b, err := bundle.Parse(r.Statement)
	must(d.t, err)
	s, err := statement.ParseAdmissionRequest(b.Payload())
	must(d.t, err)
	v := &statement.EnvironmentVSA{
		EnvironmentKey: s.EnvironmentKey, Instance: s.Conditions.Instance, Launch: statement.DigestSet{statement.KeySNPMeasurement: strings.Repeat("5a", 48)},
		Summary: statement.VSA{
			Verifier: statement.Verifier{ID: "https://example.com/v", Version: map[string]string{"x": "1"}}, TimeVerified: d.now(),
			Policy: statement.VSAPolicy{URI: "https://example.com/p", Digest: binding.Sum([]byte("policy"))}, Result: statement.Passed,
			Inputs: []statement.ResourceDescriptor{{Name: "x", Digest: statement.SHA256(binding.Sum([]byte("x")))}}, Levels: []string{statement.PropertyEnvironment},
		},
	}
	apply(d.summary, v)
	payload, err := v.Marshal()
	summary := d.sign("summary", payload, err)
	terms := wire.Terms{Nonce: s.Conditions.Nonce, EnvironmentKey: s.EnvironmentKey, HPKEKey: s.HPKEKey, Summary: binding.Sum(summary)}
	public := s.Conditions.HPKEKey
	if d.seal != nil {
		d.seal(&terms, &public)
	}
	plaintext, err := wire.Credential{Token: secret.New("ghs_1"), Expires: d.now().Add(time.Hour)}.Plaintext()
	must(d.t, err)
	sealed, err := wire.Seal(public, terms, plaintext)
	must(d.t, err)
	release := &statement.Release{EnvironmentKey: s.EnvironmentKey, Summary: binding.Sum(summary), Conditions: statement.ReleaseConditions{
		Nonce: s.Conditions.Nonce, HPKEKey: s.HPKEKey, Encapsulated: sealed.Encapsulated, Sealed: sealed.Ciphertext,
	}}
	apply(d.release, release)
	payload, err = release.Marshal()
	a := &wire.Answer{Summary: summary, Release: d.sign("release", payload, err)}
	apply(d.answer, a)
	text, err := a.Encode()
	must(d.t, err)
	return text
}

func (d *dispatcher) client(change func(*Config)) *Client {
	d.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(d.tls.Certificate())
	c := Config{
		URL: d.tls.URL, Roots: roots, Operators: [][]byte{d.key.SPKI()}, Prefix: "kettle-0123456789abcdef", Tolerance: time.Minute, Now: now,
	}
	if change != nil {
		change(&c)
	}
	client, err := New(c)
	must(d.t, err)
	return client
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	d := newDispatcher(t)
	other, err := bundle.NewKey()
	must(t, err)
	d.now = func() time.Time { return now().Add(30 * time.Second) }
	c := d.client(func(c *Config) { c.Operators = [][]byte{other.SPKI(), d.key.SPKI()} })
	if _, ok := c.Released(); ok {
		t.Error("released before it asked")
	}
	a := newApplicant(t)
	line, err := c.Admit(t.Context(), a)
	must(t, err)
	r, ok := c.Released()
	if !ok || r.Credential.Token.Reveal() != "ghs_1" || r.Summary.EnvironmentKey != a.Key() || !bytes.Contains(line, []byte("dsseEnvelope")) {
		t.Errorf("%+v", r)
	}
	if r.Clock.Apart != -30*time.Second || !strings.Contains(r.Clock.Source, d.key.Digest().String()) {
		t.Errorf("clock %+v", r.Clock)
	}
	if len(d.last.Image) != 0 || !bytes.Contains(d.last.Evidence, []byte("hpkeKey")) {
		t.Errorf("sent %s", d.last)
	}
	if _, err := c.Admit(t.Context(), a); err == nil {
		t.Error("admitted twice")
	}
}

// TestImage sends the image's bundle where it is asked for.
func TestImage(t *testing.T) {
	t.Parallel()
	d := newDispatcher(t)
	d.challenge = func(c *statement.Challenge) { c.Conditions.Image = true }
	if _, err := d.client(nil).Admit(t.Context(), newApplicant(t)); !errors.Is(err, refusal.ErrMissing) || d.asks.Load() != 0 {
		t.Errorf("without a bundle: %v", err)
	}
	_, err := d.client(func(c *Config) { c.Image = [][]byte{[]byte(`{"i":1}`)} }).Admit(t.Context(), newApplicant(t))
	must(t, err)
	if len(d.last.Image) != 1 {
		t.Error("not sent")
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	d := newDispatcher(t)
	for name, change := range map[string]func(*Config){
		"http": func(c *Config) { c.URL = "http://a.example" }, "slash": func(c *Config) { c.URL += "/" }, "user": func(c *Config) { c.URL = "https://u@a.example" },
		"no roots": func(c *Config) { c.Roots = nil }, "empty roots": func(c *Config) { c.Roots = x509.NewCertPool() },
		"no keys": func(c *Config) { c.Operators = nil }, "no tolerance": func(c *Config) { c.Tolerance = 0 }, "no clock": func(c *Config) { c.Now = nil },
		"no prefix": func(c *Config) { c.Prefix = "" },
	} {
		good := d.client(nil).config
		change(&good)
		if _, err := New(good); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestRetries: what decided nothing is asked again, what was refused for good is not.
func TestRetries(t *testing.T) {
	t.Parallel()
	soft, err := wire.Refusal{Refusals: []*refusal.Refusal{{Link: "nonce", Code: refusal.Expired, Want: "a fresh nonce"}}}.Encode()
	must(t, err)
	hard, err := wire.Refusal{Final: true, Refusals: []*refusal.Refusal{{Link: "chip", Code: refusal.Revoked, Want: "another"}}}.Encode()
	must(t, err)
	answer := func(status int, text []byte) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.WriteHeader(status); _, _ = w.Write(text) }
	}
	hangUp := func(http.ResponseWriter) { panic(http.ErrAbortHandler) }
	for name, tc := range map[string]struct {
		first func(http.ResponseWriter)
		code  error // nil: it is admitted at the second try
		text  string
	}{
		"nonce too old": {answer(http.StatusConflict, soft), nil, ""}, "busy": {answer(http.StatusServiceUnavailable, soft), nil, ""},
		"broken off": {hangUp, nil, ""}, "something before it": {answer(http.StatusBadGateway, []byte("<html>")), nil, ""},
		"too many": {answer(http.StatusTooManyRequests, nil), nil, ""}, "revoked": {answer(http.StatusForbidden, hard), refusal.ErrRevoked, ""},
		"not a dispatcher": {answer(http.StatusNotFound, []byte("<html>")), nil, "it answered 404"},
		"redirect": {func(w http.ResponseWriter) {
			w.Header().Set("Location", "https://a.example")
			w.WriteHeader(http.StatusFound)
		}, nil, "it answered 302"},
		"not an answer": {answer(http.StatusOK, []byte("{}\n")), refusal.ErrMalformed, ""},
		"huge":          {answer(http.StatusOK, bytes.Repeat([]byte("x"), wire.MaxAnswer+1)), nil, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDispatcher(t)
			var tries atomic.Int32
			d.before = func(w http.ResponseWriter, path string) bool {
				if path != wire.PathAdmit || tries.Add(1) > 1 {
					return false
				}
				tc.first(w)
				return true
			}
			a := newApplicant(t)
			_, err := d.client(nil).Admit(t.Context(), a)
			switch {
			case tc.code != nil && !errors.Is(err, tc.code), tc.text != "" && (err == nil || !strings.Contains(err.Error(), tc.text)):
				t.Errorf("%v", err)
			case tc.code == nil && tc.text == "" && (err != nil || tries.Load() != 2 || a.quoted != 2):
				t.Errorf("%v after %d tries and %d quotes", err, tries.Load(), a.quoted)
			case tc.code != nil && tries.Load() != 1:
				t.Errorf("%d tries", tries.Load())
			}
		})
	}
}

// TestNobodyThere gives up when its time is over, with growing pauses.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &dispatcher{t: t}
		var err error
		d.key, err = bundle.NewKey()
		must(t, err)
		var dials int
		c, err := New(Config{
			URL: "https://a.example", Roots: somePool(t), Operators: [][]byte{d.key.SPKI()}, Prefix: "kettle-0123456789abcdef", Tolerance: time.Minute, Now: time.Now,
			Dial: dialNothing(&dials),
		})
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 59*time.Second)
		defer cancel()
		if _, err := c.Admit(ctx, newApplicant(t)); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no route") {
			t.Error(err)
		}
		if dials != 7 { // at 0, 1, 3, 7, 15, 30 and 45 seconds
			t.Errorf("%d dials", dials)
		}
	})
}

// TestDevice: a secure processor that fails ends it.
func TestDevice(t *testing.T) {
	t.Parallel()
	d := newDispatcher(t)
	a := newApplicant(t)
	a.fail = errors.New("no quote")
	if _, err := d.client(nil).Admit(t.Context(), a); !errors.Is(err, a.fail) || a.quoted != 1 {
		t.Errorf("%v after %d", err, a.quoted)
	}
}

var _ runner.Applicant = (*applicant)(nil)
