// SPDX-License-Identifier: Apache-2.0

// Package admission is kettled's side of admission: it has the environment appraised from outside and opens what the
// dispatcher then seals to it.
//
// Guarantees: nothing is sent but over TLS 1.3 to a server that leads to the configured roots, never the system's; a
// credential is taken only with a summary of the appraisal (VSA-ENV) and a release that operators' keys of the measured
// configuration signed, for this environment's key, this running machine, this client's own nonce and its own HPKE key;
// that key is made for one try and erased after it. The dispatcher's signed time is compared with this machine's clock,
// and the result says so. What was refused for good is not asked again.
//
// Trusts: the configuration, the secure processor behind the environment, and that an operator who holds such a key means
// what the summary says. It does not trust the network, the launcher or the time.
package admission

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	wire "github.com/kettle/attest/attest/admission"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/runner"
)

// Config is what a client needs. All is required but Image, Dial and Logger.
type Config struct {
	URL       string         // https://host:port of the dispatcher, with what stands before its paths, if anything
	Roots     *x509.CertPool // of its certificate; nil is an error, never the system's
	Operators [][]byte       // DER SubjectPublicKeyInfo of the keys that may admit
	Prefix    string         // of the names of this environment's runners
	Tolerance time.Duration  // how far this machine's clock may be from the dispatcher's
	Image     [][]byte       // the image's bundle, line by line: for dispatchers that ask for it

	Now    func() time.Time
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error) // nil means a plain dialler
	Logger *slog.Logger
}

// Validate reports every fault.
func (c Config) Validate() error {
	var errs []error
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.HasSuffix(u.Path, "/") || u.RawQuery != "" || u.Fragment != "" {
		errs = append(errs, fmt.Errorf("admission: url %.128q is not https://host:port without a slash at its end", c.URL))
	}
	if c.Roots == nil || c.Roots.Equal(x509.NewCertPool()) {
		errs = append(errs, errors.New("admission: no roots for the dispatcher's certificate"))
	}
	if len(c.Operators) == 0 {
		errs = append(errs, errors.New("admission: no operator's key"))
	}
	if c.Tolerance <= 0 || c.Now == nil || c.Prefix == "" {
		errs = append(errs, errors.New("admission: tolerance, clock and prefix are required"))
	}
	return errors.Join(errs...)
}

// Client asks for admission, once in its life. It is a [runner.Admission].
type Client struct {
	config Config
	http   *http.Client
	log    *slog.Logger

	mu       sync.Mutex
	released *Released // mu; nil until it is
}

var _ runner.Admission = (*Client)(nil)

// Released is what the environment was given.
type Released struct {
	Credential wire.Credential
	Summary    *statement.EnvironmentVSA // as verified
	Clock      Clock
}

// Clock says how this machine's clock stands.
type Clock struct {
	Source     string        // who says what time it is
	Dispatcher time.Time     // as signed in the challenge, whole seconds
	Apart      time.Duration // this machine's clock less the dispatcher's
}

// LogValue implements [slog.LogValuer].
func (c Clock) LogValue() slog.Value {
	return slog.GroupValue(slog.String("source", c.Source), slog.Time("dispatcher", c.Dispatcher), slog.Duration("apart", c.Apart))
}

// New makes a client. It sends nothing yet.
func New(c Config) (*Client, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	log := c.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Client{config: c, http: newHTTP(c), log: log}, nil
}

// Released gives what [Client.Admit] was given; false before.
func (c *Client) Released() (Released, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.released == nil {
		return Released{}, false
	}
	return *c.released, true
}

// Pauses between tries, unless the dispatcher names longer ones.
const (
	firstPause = time.Second
	maxPause   = 15 * time.Second
)

// Admit implements [runner.Admission]. It asks until there is a decision or ctx ends. A try after which nobody knows
// whether the dispatcher decided is followed by another: the dispatcher admits a machine once and says so then.
func (c *Client) Admit(ctx context.Context, e runner.Applicant) ([]byte, error) {
	defer c.http.CloseIdleConnections()
	if _, done := c.Released(); done {
		return nil, errors.New("this environment was admitted already")
	}
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		line, r, err := c.try(ctx, e)
		if err == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.released = r
			return line, nil
		}
		var again *againError
		if !errors.As(err, &again) {
			return nil, err
		}
		c.log.WarnContext(ctx, "not admitted yet", "error", err)
		wait := time.NewTimer(max(pause, min(again.after, maxPause)))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return nil, errors.Join(err, ctx.Err())
		}
	}
}

// try is one conversation, with a key of its own.
func (c *Client) try(ctx context.Context, e runner.Applicant) ([]byte, *Released, error) {
	key, err := wire.NewKey()
	if err != nil {
		return nil, nil, err
	}
	defer key.Erase()
	challenge, clock, err := c.challenge(ctx, e)
	if err != nil {
		return nil, nil, err
	}
	request, err := c.request(ctx, e, challenge, key)
	if err != nil {
		return nil, nil, err
	}
	body, err := c.post(ctx, wire.PathAdmit, wire.MediaLines, request, wire.MaxAnswer)
	if err != nil {
		return nil, nil, err
	}
	answer, err := wire.ParseAnswer(body)
	if err != nil {
		return nil, nil, err
	}
	summary, err := c.summary(e, challenge, answer.Summary)
	if err != nil {
		return nil, nil, err
	}
	credential, err := c.open(e, challenge, answer, key)
	if err != nil {
		return nil, nil, err
	}
	return answer.Summary, &Released{Credential: credential, Summary: summary, Clock: clock}, nil
}

// challenge asks for a nonce and compares the clocks.
func (c *Client) challenge(ctx context.Context, e runner.Applicant) (*statement.Challenge, Clock, error) {
	var fresh binding.Digest
	if _, err := rand.Read(fresh[:]); err != nil {
		return nil, Clock{}, fmt.Errorf("drawing fresh bytes: %w", err)
	}
	hello, err := wire.Hello{EnvironmentKey: e.Key(), Fresh: fresh}.Encode()
	if err != nil {
		return nil, Clock{}, err
	}
	before := c.config.Now()
	line, err := c.post(ctx, wire.PathChallenge, wire.MediaJSON, hello, wire.MaxChallenge)
	if err != nil {
		return nil, Clock{}, err
	}
	after := c.config.Now()
	payload, operator, err := c.signed(line)
	if err != nil {
		return nil, Clock{}, err
	}
	s, err := statement.ParseChallenge(payload)
	if err != nil {
		return nil, Clock{}, err
	}
	if err := agree(claim{"environment key of the challenge", e.Key(), s.EnvironmentKey}, claim{"fresh bytes of the challenge", fresh, s.Conditions.Fresh}); err != nil {
		return nil, Clock{}, err
	}
	clock, err := c.compare(before, after, s.Conditions.Time)
	clock.Source = "challenge signed by operator's key sha256:" + operator.String()
	return s, clock, err
}

// compare holds this machine's clock against the dispatcher's, which stood somewhere between the two times.
func (c *Client) compare(before, after, theirs time.Time) (Clock, error) {
	clock := Clock{Dispatcher: theirs}
	switch { // whole seconds are cut off theirs
	case before.Sub(theirs) > time.Second:
		clock.Apart = before.Sub(theirs)
	case theirs.After(after):
		clock.Apart = after.Sub(theirs)
	}
	if clock.Apart.Abs() <= c.config.Tolerance {
		return clock, nil
	}
	return Clock{}, &refusal.Refusal{
		Link: "clock", Code: refusal.Expired, Want: "a clock at most " + c.config.Tolerance.String() + " away from the dispatcher's, " + theirs.UTC().Format(time.RFC3339),
		Got: "one that is " + clock.Apart.Round(time.Second).String() + " away", Next: "the host gives this machine another time than it is; mend the host's clock",
	}
}

// request makes the message that asks to be admitted, quoted for the challenge's nonce.
func (c *Client) request(ctx context.Context, e runner.Applicant, s *statement.Challenge, key *wire.Key) ([]byte, error) {
	boot, bootEvidence := e.Boot()
	r := wire.Request{Boot: boot, BootEvidence: bootEvidence}
	if s.Conditions.Image {
		if r.Image = c.config.Image; len(r.Image) == 0 {
			return nil, &refusal.Refusal{
				Link: link, Code: refusal.Missing, Want: "the image's bundle, which the dispatcher asks for", Got: "none",
				Next: "start the machine with its image's bundle on the bundle partition",
			}
		}
	}
	asked := statement.AdmissionRequest{EnvironmentKey: e.Key(), BootEvidence: binding.Sum(bootEvidence), Conditions: statement.RequestConditions{
		Nonce: s.Conditions.Nonce, HPKEKey: key.Public(), Instance: e.Instance(), Prefix: c.config.Prefix,
	}}
	payload, err := asked.Marshal()
	if err != nil {
		return nil, err
	}
	if r.Statement, r.Evidence, err = e.Quote(ctx, payload, s.Conditions.Nonce, key.Digest()); err != nil {
		return nil, err
	}
	return r.Encode()
}
