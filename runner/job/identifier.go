// SPDX-License-Identifier: Apache-2.0

package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
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

// Config is what an identifier needs. All fields but Containers, Poll, Wait and Log are required.
type Config struct {
	Server     string // of GitHub, from the measured configuration, as https://github.com
	Target     string // where the runner is registered: "owner/repository" or "organisation"
	Issuer     string // of identity tokens, as https://token.actions.githubusercontent.com
	API        API
	Tokens     Tokens
	OpenLog    func(ctx context.Context) (io.ReadCloser, error) // opens the runner's Worker log from outside the sandbox
	Now        func() time.Time
	Containers bool          // the sandbox's profile starts containers: jobs may have them
	Poll       time.Duration // first pause between two looks at the jobs API; zero means half a second
	Wait       time.Duration // how long GitHub may take to show our runner at its job; zero means 30 seconds
	Log        *slog.Logger  // nil discards
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
	if c.Wait <= 0 {
		c.Wait = 30 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Server = strings.TrimSuffix(c.Server, "/")
	return &Identifier{config: c}, nil
}

// sources is everything that was learnt about one job, before it is put together.
type sources struct {
	question runner.Question
	repo     string
	runID    int64
	attempt  int64
	job      WorkflowJob
	run      *Run
	message  *Message
	jwt      string
	signed   *signedClaims // nil without a token
	actions  []resolved
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
	if err := i.resolveActions(ctx, s); err != nil {
		return nil, err
	}
	return s.put(i.config.Server)
}

// readClaims takes from the hook's claims what leads to the job. They are believed only as far as GitHub agrees.
func (i *Identifier) readClaims(s *sources) error {
	values := s.question.Claims.Values
	s.repo = values["GITHUB_REPOSITORY"]
	if !ValidRepository(s.repo) {
		return refuse(refusal.Malformed, "GITHUB_REPOSITORY as owner/repository", fmt.Sprintf("%.128q", s.repo))
	}
	owner, _, _ := strings.Cut(s.repo, "/")
	if !strings.EqualFold(i.config.Target, s.repo) && !strings.EqualFold(i.config.Target, owner) {
		return refuse(refusal.Identity, "a job of "+i.config.Target+", where this runner is registered", s.repo)
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
	var err error
	if s.run, err = i.config.API.Run(ctx, s.repo, s.runID); err != nil {
		return fmt.Errorf("identifying the run: %w", err)
	}
	return nil
}

// awaitJob looks at the jobs API until it shows our runner at a job of the claimed run. GitHub fills runner_id in some
// time after the runner has the job.
func (i *Identifier) awaitJob(ctx context.Context, s *sources) error {
	err := i.poll(ctx, jobsOf{s.repo, s.runID, s.attempt}, s.pick)
	if !errors.Is(err, errNeverShown) {
		return err
	}
	return refuse(refusal.Identity,
		fmt.Sprintf("a job in progress on runner %d (%s) in run %d of %s", s.question.Runner.ID, s.question.Runner.Name, s.runID, s.repo),
		fmt.Sprintf("no such job in %s", i.config.Wait))
}

// Conclusion implements [runner.Identifier]: it waits until GitHub shows how the job ended.
func (i *Identifier) Conclusion(ctx context.Context, f statement.Facts) (string, error) {
	run, err := positive(map[string]string{"runId": f.RunID}, "runId")
	if err != nil {
		return "", err
	}
	attempt, err := positive(map[string]string{"runAttempt": f.RunAttempt}, "runAttempt")
	if err != nil {
		return "", err
	}
	var conclusion string
	err = i.poll(ctx, jobsOf{f.Repository, run, attempt}, func(jobs []WorkflowJob) (bool, error) {
		for _, j := range jobs {
			if decimal(j.ID) == f.JobID && j.Status == "completed" && j.Conclusion != "" {
				conclusion = j.Conclusion
			}
		}
		return conclusion != "", nil
	})
	if err != nil {
		return "", fmt.Errorf("asking how the job ended: %w", err)
	}
	return conclusion, nil
}

// jobsOf names an attempt of a run.
type jobsOf struct {
	repo         string
	run, attempt int64
}

var errNeverShown = errors.New("the jobs API did not show it in time")

// poll looks at the jobs of an attempt until look is content, and gives up after the configured wait.
func (i *Identifier) poll(ctx context.Context, of jobsOf, look func([]WorkflowJob) (bool, error)) error {
	wait, cancel := context.WithTimeout(ctx, i.config.Wait)
	defer cancel()
	for pause := i.config.Poll; ; pause = min(2*pause, 4*time.Second) {
		jobs, err := i.config.API.Jobs(wait, of.repo, of.run, of.attempt)
		if err != nil && wait.Err() == nil {
			return fmt.Errorf("identifying the job: %w", err)
		}
		if err == nil {
			if done, err := look(jobs); done || err != nil {
				return err
			}
		}
		i.config.Log.DebugContext(ctx, "waiting for the jobs API", slog.Int64("run", of.run), slog.Int("jobs", len(jobs)))
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-wait.Done():
			timer.Stop()
			if ctx.Err() != nil {
				return fmt.Errorf("identifying the job: %w", ctx.Err())
			}
			return errNeverShown
		}
	}
}

// pick finds the job of our runner. Two jobs of one ephemeral runner, or our name with another id, cannot be.
func (s *sources) pick(jobs []WorkflowJob) (bool, error) {
	found := 0
	for _, j := range jobs {
		ours, named := j.RunnerID == s.question.Runner.ID && j.RunnerID > 0, j.RunnerName == s.question.Runner.Name
		if !ours && !named {
			continue
		}
		if j.RunnerID > 0 && ours != named {
			return false, refuse(refusal.Identity, fmt.Sprintf("runner %d named %q", s.question.Runner.ID, s.question.Runner.Name),
				fmt.Sprintf("runner %d named %.64q at job %d", j.RunnerID, j.RunnerName, j.ID))
		}
		if ours && j.Status == "completed" {
			return false, refuse(refusal.Identity, "a job in progress", fmt.Sprintf("job %d, which is completed", j.ID))
		}
		if ours && j.Status == "in_progress" {
			s.job = j
			found++
		}
	}
	if found > 1 {
		return false, refuse(refusal.Identity, "one job of this ephemeral runner", fmt.Sprintf("%d jobs", found))
	}
	return found == 1, nil
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
	jwt, err := i.config.Tokens.Fetch(ctx, offered, claims.IDTokenRequest, want.Audience)
	if err != nil {
		return fmt.Errorf("fetching the job's identity token: %w", err)
	}
	jwks, err := i.config.Tokens.Keys(ctx)
	if err != nil {
		return fmt.Errorf("fetching the issuer's keys: %w", err)
	}
	if s.signed, err = verifyToken(ctx, jwt, jwks, want, i.config.Now()); err != nil {
		return err
	}
	s.jwt = jwt
	return s.compareToken()
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

func refuse(code refusal.Code, want, got string) *refusal.Refusal {
	return &refusal.Refusal{
		Link: link, Code: code, Want: want, Got: got,
		Next: "run the job again; if it repeats, something between GitHub and this machine is lying.",
	}
}
