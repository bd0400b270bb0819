// SPDX-License-Identifier: Apache-2.0

// Package admission is the gate before a build environment gets a runner's credential: it appraises the environment from
// outside, writes down that the environment was admitted, and only then releases the credential, sealed to a key that
// the environment's own quote names.
//
// Guarantees: a credential is released only to an environment that a genuine secure processor quoted for this server's
// fresh nonce, that the policy accepts, revocation included, and that this ledger has never admitted before; it can be
// opened with the quoted HPKE key only; the entry is on the disk before the answer leaves, so that a crash or kill -9 at
// any moment releases nothing twice. A server that is killed between the two has lost that instance for good, and the
// next refusal says so. What is held in memory is bounded, whoever asks.
//
// Trusts: the policy, the roots, the issuer of credentials (GitHub, over TLS), the operator's key, this host's clock and
// its disk. It does not trust the network, the environment or the host that the environment runs on. That an environment
// stays what it was when it was quoted is for the quotes of its job to show.
package admission

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"golang.org/x/sync/semaphore"

	wire "github.com/kettle/attest/attest/admission"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/runner"
)

// Config is what a server needs. All is required but Logger and Metrics.
type Config struct {
	Judge     *Judge
	PolicyURI string // where consumers find the policy, for VSA-ENV
	Verifier  statement.Verifier
	Ledger    *Ledger
	Audit     *Audit
	Issuer    Issuer
	Key       *bundle.Key // the operator's
	Now       func() time.Time
	Limits    Limits
	Logger    *slog.Logger
	Metrics   *Metrics
}

// Limits bound what a server does at once and how long anything takes. Every field is required.
type Limits struct {
	NonceLife  time.Duration // how long a challenge is good
	UsedNonces int           // remembered at once; each takes some 100 bytes
	Memory     int64         // bytes of requests that are held at once
	Conns      int           // connections at once
	Appraisals int           // at once: they take processor time
	Wait       time.Duration // for memory and for a processor, and for the credential
	Read       time.Duration // for one request to arrive
}

// DefaultLimits suit a host with little memory and thousands of environments an hour.
func DefaultLimits() Limits {
	return Limits{
		NonceLife: 2 * time.Minute, UsedNonces: 1 << 16, Memory: 128 << 20, Conns: 2048, Appraisals: runtime.GOMAXPROCS(0),
		Wait: 30 * time.Second, Read: 10 * time.Second,
	}
}

// Validate reports every fault.
func (c Config) Validate() error {
	var errs []error
	absent := func(name string, is bool) {
		if is {
			errs = append(errs, fmt.Errorf("admission: %s is absent", name))
		}
	}
	absent("policy's URI", c.PolicyURI == "")
	absent("verifier", c.Verifier.ID == "" || len(c.Verifier.Version) == 0)
	absent("ledger", c.Ledger == nil)
	absent("audit log", c.Audit == nil)
	absent("issuer", c.Issuer == nil)
	absent("operator's key", c.Key == nil)
	absent("clock", c.Now == nil)
	l := c.Limits
	absent("a limit", l.NonceLife <= 0 || l.UsedNonces <= 0 || l.Memory < wire.MaxRequest || l.Conns <= 0 || l.Appraisals <= 0 || l.Wait <= 0 || l.Read <= 0)
	if c.Now != nil {
		errs = append(errs, c.Judge.Validate(c.Now()))
	}
	return errors.Join(errs...)
}

// errBusy means that the server has too much to do right now.
var errBusy = errors.New("the server has too much to do")

// Server admits environments. It is safe for concurrent use.
type Server struct {
	config Config
	log    *slog.Logger
	nonces *nonces
	memory *semaphore.Weighted
	cpu    *semaphore.Weighted
}

// New makes a server. It begins to serve with [Server.Serve] or through [Server.Handler].
func New(c Config) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	n, err := newNonces(c.Limits.NonceLife, c.Limits.UsedNonces)
	if err != nil {
		return nil, err
	}
	log := c.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		config: c, log: log, nonces: n, memory: semaphore.NewWeighted(c.Limits.Memory), cpu: semaphore.NewWeighted(int64(c.Limits.Appraisals)),
	}, nil
}

// challenge answers a hello.
func (s *Server) challenge(ctx context.Context, h wire.Hello) ([]byte, error) {
	now := s.config.Now()
	nonce, ends, err := s.nonces.make(h.EnvironmentKey, now)
	if err != nil {
		return nil, err
	}
	c := statement.Challenge{EnvironmentKey: h.EnvironmentKey, Conditions: statement.ChallengeConditions{
		Nonce: nonce, Fresh: h.Fresh, Time: now, Expires: ends, Image: s.config.Judge.asksForImage(now),
	}}
	payload, err := c.Marshal()
	if err != nil {
		return nil, err
	}
	return bundle.Sign(ctx, s.config.Key, payload)
}

// outcome is what became of one request.
type outcome struct {
	event  Event
	answer []byte // nil unless it was recorded in the ledger
	err    error
	final  bool // of err: it was decided
}

// admit takes one request from its bytes to the bytes of the answer. Nothing of the answer has left when it returns, and
// the entry is in the ledger when there is one.
func (s *Server) admit(ctx context.Context, body []byte, from string) outcome {
	now := s.config.Now()
	o := outcome{event: Event{At: now, From: clip(from), Policy: s.config.Judge.Policy.Digest()}}
	g, image, err := s.appraise(ctx, body, now, &o)
	if err != nil {
		return s.refused(o, err)
	}
	entry, err := g.entry(now)
	if err == nil {
		err = s.config.Ledger.Spent(entry)
	}
	if err != nil {
		return s.refused(o, err)
	}
	credential, err := s.config.Issuer.Issue(ctx)
	if err != nil {
		return s.refused(o, fmt.Errorf("making the credential: %w", err))
	}
	answer, err := s.prepare(ctx, g, image, credential, &o)
	if err == nil {
		err = s.config.Ledger.Record(entry) // from here on the instance is admitted
	}
	if err != nil {
		return s.refused(o, err)
	}
	o.event.Decision = Admitted
	if err := s.config.Audit.Write(o.event, true); err != nil { // what is not in the audit log is not released
		o.err, o.event.Decision = err, Lost
		return o
	}
	o.answer = answer
	return o
}

// appraise judges a request.
func (s *Server) appraise(ctx context.Context, body []byte, now time.Time, o *outcome) (*genuine, Image, error) {
	r, err := wire.ParseRequest(body)
	if err != nil {
		return nil, Image{}, err
	}
	asked, err := s.expected(r, now, o)
	if err != nil {
		return nil, Image{}, err
	}
	if err := s.acquire(ctx, s.cpu, 1); err != nil {
		return nil, Image{}, err
	}
	defer s.cpu.Release(1)
	g, err := s.config.Judge.verify(r, asked, now)
	if err != nil {
		return nil, Image{}, err
	}
	env := g.quotes[0].Environment()
	o.event.Instance, o.event.Measurement = &g.instance, fmt.Sprintf("%x", env.Measurement)
	if err := s.nonces.use(asked.Conditions.Nonce, now); err != nil {
		return nil, Image{}, err
	}
	image, err := s.config.Judge.accept(g, r.Image, now)
	o.event.Image = image.Files
	return g, image, err
}

// expected reads the statement of a request, whose signature is not yet verified, and refuses it where its nonce is not
// one that this server made for its environment: that costs next to nothing.
func (s *Server) expected(r wire.Request, now time.Time, o *outcome) (*statement.AdmissionRequest, error) {
	b, err := bundle.Parse(r.Statement)
	if err != nil {
		return nil, err
	}
	asked, err := statement.ParseAdmissionRequest(b.Payload())
	if err != nil {
		return nil, err
	}
	o.event.Environment = asked.EnvironmentKey
	if err := s.nonces.check(asked.Conditions.Nonce, asked.EnvironmentKey, now); err != nil {
		return nil, err
	}
	if len(r.Image) > 0 && !s.config.Judge.asksForImage(now) {
		return nil, &refusal.Refusal{
			Link: linkRequest, Code: refusal.Malformed, Want: "no image bundle, since none was asked for", Got: "one", Next: "send what the challenge asks for",
		}
	}
	return asked, nil
}

// prepare makes the answer: the summary and what is sealed beside it.
func (s *Server) prepare(ctx context.Context, g *genuine, image Image, c wire.Credential, o *outcome) ([]byte, error) {
	summary, err := s.summarise(ctx, g, image, o.event.At)
	if err != nil {
		return nil, err
	}
	o.event.Summary = binding.Sum(summary)
	release, err := s.seal(ctx, g, c, summary)
	if err != nil {
		return nil, err
	}
	return wire.Answer{Summary: summary, Release: release}.Encode()
}

// refused finishes an outcome that releases nothing. What is no refusal, such as a GitHub that cannot be reached, decides
// nothing; nor does a nonce that is unknown or too old.
func (s *Server) refused(o outcome, err error) outcome {
	o.err, o.answer = err, nil
	rs := refusal.All(err)
	o.final = len(rs) > 0
	if len(rs) == 1 && rs[0].Link == linkNonce {
		o.final = false
	}
	o.event.Decision, o.event.Reasons = Refused, reasons(err)
	if !o.final {
		o.event.Decision = Deferred
	}
	if len(rs) == 0 {
		o.event.Fault = clip(err.Error())
	}
	if errors.Is(err, runner.ErrDenied) {
		s.log.Error("GitHub refuses the operator's credential", "error", err)
	}
	return o
}

// acquire waits for a share of something bounded, but not for long.
func (s *Server) acquire(ctx context.Context, of *semaphore.Weighted, n int64) error {
	ctx, cancel := context.WithTimeout(ctx, s.config.Limits.Wait)
	defer cancel()
	if err := of.Acquire(ctx, n); err != nil {
		return errBusy
	}
	return nil
}

// statusOf gives the status of an answer that releases nothing.
func (o outcome) statusOf() int {
	switch {
	case o.final:
		return http.StatusForbidden
	case len(refusal.All(o.err)) > 0:
		return http.StatusConflict // its nonce is no good: begin again
	}
	return http.StatusServiceUnavailable
}
