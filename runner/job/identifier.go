// SPDX-License-Identifier: Apache-2.0

package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/token"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
)

var _ runner.Identifier = (*Identifier)(nil)

// Tokens asks GitHub for the job's identity token and for the issuer's keys.
type Tokens interface {
	// Fetch asks the URL for a token for this audience. The URL is the sandbox's word: an implementation must refuse
	// hosts that are not pinned.
	Fetch(ctx context.Context, url string, bearer secret.String, audience string) (string, error)
	// Keys gets the issuer's key set as it is published (RFC 7517).
	Keys(ctx context.Context) ([]byte, error)
}

// Config is what an identifier needs. All fields but Containers, Poll, Wait, Log and Announced are required.
type Config struct {
	Server     string   // of GitHub, from the measured configuration, as https://github.com
	Target     string   // where the runner is registered: "owner/repository", "organisation" or, with Owners, an enterprise
	Owners     []string // of an enterprise whose jobs are taken; empty where Target is an owner or a repository
	Issuer     string   // of identity tokens, as https://token.actions.githubusercontent.com
	API        API
	Tokens     Tokens
	OpenLog    func(ctx context.Context) (io.ReadCloser, error) // opens the runner's Worker log from outside the sandbox
	Now        func() time.Time
	Containers bool          // the sandbox's profile starts containers: jobs may have them
	Poll       time.Duration // first pause between two looks at the jobs API; zero means half a second
	Wait       time.Duration // how long GitHub may take to show our runner at its job; zero means as long as the caller has time
	Log        *slog.Logger  // nil discards
	// Announced gives what GitHub said, over a session of its own, when our runner got its job; false as long as it has
	// said nothing. It is nil where the runner is not of a scale set.
	Announced func() (Announcement, bool)
}

// Identifier finds out which job runs. It implements [runner.Identifier].
type Identifier struct{ config Config }

// New makes an identifier.
func New(c Config) (*Identifier, error) {
	if c.Server == "" || c.Target == "" || c.Issuer == "" || c.API == nil || c.Tokens == nil || c.OpenLog == nil || c.Now == nil {
		return nil, errors.New("an identifier needs server, target, issuer, API, tokens, log and clock")
	}
	if c.Poll <= 0 {
		c.Poll = 500 * time.Millisecond
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Server = strings.TrimSuffix(c.Server, "/")
	return &Identifier{config: c}, nil
}

// sources is everything that was learnt about one job, before it is put together.
type sources struct {
	question  runner.Question
	repo      string
	runID     int64
	attempt   int64
	job       WorkflowJob
	run       *Run
	message   *Message
	jwt       string
	signed    *signedClaims // nil without a token
	announced *Announcement // nil without a scale set
	actions   []resolved
}

// Identify implements [runner.Identifier]. Its refusals are of link "dispatch" or "token". It takes as long as ctx
// allows: the caller sets the deadline.
func (i *Identifier) Identify(ctx context.Context, q runner.Question) (*runner.Job, error) {
	s := &sources{question: q}
	if err := i.readClaims(s); err != nil {
		return nil, err
	}
	if err := i.readMessage(ctx, s); err != nil {
		return nil, err
	}
	if err := i.askGitHub(ctx, s); err != nil {
		return nil, err
	}
	if err := s.compare(); err != nil {
		return nil, err
	}
	if err := i.askToken(ctx, s); err != nil {
		return nil, err
	}
	if err := s.compareHead(); err != nil {
		return nil, err
	}
	if err := i.askAnnouncement(ctx, s); err != nil {
		return nil, err
	}
	if err := i.resolveActions(ctx, s); err != nil {
		return nil, err
	}
	return s.put(i.config.Server)
}

// places are where a job of this runner may come from. An enterprise is no owner of repositories: its own are named.
func (i *Identifier) places() []string {
	if len(i.config.Owners) > 0 {
		return i.config.Owners
	}
	return []string{i.config.Target}
}

// readClaims takes from the hook's claims what leads to the job. They are believed only as far as GitHub agrees.
func (i *Identifier) readClaims(s *sources) error {
	values := s.question.Claims.Values
	s.repo = values["GITHUB_REPOSITORY"]
	if !ValidRepository(s.repo) {
		return refuse(refusal.Malformed, "GITHUB_REPOSITORY as owner/repository", fmt.Sprintf("%.128q", s.repo))
	}
	owner, _, _ := strings.Cut(s.repo, "/")
	if places := i.places(); !slices.ContainsFunc(places, func(p string) bool { return strings.EqualFold(p, s.repo) || strings.EqualFold(p, owner) }) {
		return refuse(refusal.Identity, "a job of "+strings.Join(places, " or ")+", where this runner is registered", s.repo)
	}
	var err error
	if s.runID, err = positive(values, "GITHUB_RUN_ID"); err != nil {
		return err
	}
	s.attempt, err = positive(values, "GITHUB_RUN_ATTEMPT")
	return err
}

func positive(values map[string]string, name string) (int64, error) {
	n, err := strconv.ParseInt(values[name], 10, 64)
	if err != nil || n < 1 || values[name] != strconv.FormatInt(n, 10) {
		return 0, refuse(refusal.Malformed, name+" as a positive number", fmt.Sprintf("%.64q", values[name]))
	}
	return n, nil
}

// readMessage reads the job message from outside the sandbox.
func (i *Identifier) readMessage(ctx context.Context, s *sources) error {
	log, err := i.config.OpenLog(ctx)
	if err != nil {
		return fmt.Errorf("opening the runner's log: %w", err)
	}
	defer log.Close()
	s.message, err = ReadMessage(log, MaxLog)
	if err != nil {
		return err
	}
	if s.message.Debugger {
		return &refusal.Refusal{
			Link: link, Code: refusal.Debug, Want: "a job without a remote debugger", Got: "one that was started with debugging",
			Next: "re-run the job without “Enable debugging”: a person in the job could change what is attested.",
		}
	}
	if url := s.context("server_url"); url != i.config.Server {
		return refuse(refusal.Identity, "a job of "+i.config.Server, fmt.Sprintf("one of %.128q", url))
	}
	if len(s.message.Features) > 0 {
		return &refusal.Refusal{
			Link: link, Code: refusal.Policy, Want: "a job that provenance can describe completely",
			Got:  "one with " + strings.Join(s.message.Features, ", "),
			Next: "run the attested job without them.",
		}
	}
	return s.message.containersWanted(i.config.Containers)
}

// askGitHub gets the job that our runner runs, and its run.
func (i *Identifier) askGitHub(ctx context.Context, s *sources) error {
	if err := i.awaitJob(ctx, s); err != nil {
		return err
	}
	return i.persist(ctx, "identifying the run", func() (err error) {
		s.run, err = i.config.API.Run(ctx, s.repo, s.runID)
		return err
	})
}

// askToken gets and verifies the job's identity token. The runner's log says whether the job may have one, so the hook
// can neither leave it out nor send kettled to another URL.
func (i *Identifier) askToken(ctx context.Context, s *sources) error {
	offered, claims := s.message.IDTokenURL, s.question.Claims
	if claims.IDTokenURL != offered {
		return refuse(refusal.Identity, "the token URL of the job message", "another one, or one of the two without")
	}
	if offered == "" {
		return nil
	}
	want := token.Want{
		Issuer: i.config.Issuer, Audience: token.Audience(s.question.EnvironmentKey, s.question.Nonce), Facts: s.facts(i.config.Server),
	}
	err := i.persist(ctx, "fetching the job's identity token", func() (err error) {
		s.jwt, err = i.config.Tokens.Fetch(ctx, offered, claims.IDTokenRequest, want.Audience)
		return err
	})
	if err == nil {
		err = i.verify(ctx, s, want)
	}
	if err != nil {
		s.jwt = ""
		return err
	}
	return s.compareToken()
}

// verify verifies the job's token with the issuer's keys. The token was made just now: when its key is not among them,
// the issuer may have changed its keys between the two answers, so they are fetched once more.
func (i *Identifier) verify(ctx context.Context, s *sources, want token.Want) error {
	for try := 1; ; try++ {
		var jwks []byte
		err := i.persist(ctx, "fetching the issuer's keys", func() (err error) {
			jwks, err = i.config.Tokens.Keys(ctx)
			return err
		})
		if err != nil {
			return err
		}
		now := i.config.Now()
		s.signed, err = verifyToken(ctx, s.jwt, jwks, want, now)
		switch {
		case err == nil:
			return nil
		case try == 1 && errors.Is(err, refusal.ErrChain):
			if err := pause(ctx, i.config.Poll); err != nil {
				return fmt.Errorf("fetching the issuer's keys: %w", err)
			}
		default:
			return clockWrong(s.jwt, now, err)
		}
	}
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

func refuse(code refusal.Code, want, got string) *refusal.Refusal {
	return &refusal.Refusal{
		Link: link, Code: code, Want: want, Got: got,
		Next: "run the job again; if it repeats, something between GitHub and this machine is lying.",
	}
}
