// SPDX-License-Identifier: Apache-2.0

// Package scaleset registers an environment's runner in a runner scale set, behind the same port as package github.
//
// A scale set is asked for jobs rather than waiting for them: a session tells which job is offered, one is acquired, and
// the session says, beside the sandbox, which job our runner got ([Registrar.Announced]). GitHub itself disables updates
// of its runners.
//
// Guarantees: requests go over TLS to pinned hosts only, whatever URLs the Actions service answers with; the credential
// goes to the REST API only; a JIT configuration is handed out only after [github.RebuildJIT]; one environment acquires
// one job and reports a capacity of one; a runner counts as removed only when the Actions service and the REST API show
// it no more. An answer that makes the client library fail ends the call, not the program.
//
// Trusts: GitHub's answers over TLS. One scale set has one session, so it serves one machine: its name is to be the
// machine's own. The scale set itself is kept when the environment ends: whoever knows that it has ended calls [Discard]. A clock that is behind by more than an hour
// makes the library use a token of the Actions service for longer than it lives. The package is the only importer of
// github.com/actions/scaleset.
package scaleset

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/actions/scaleset"

	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/github"
	"github.com/kettle/attest/runner/job"
)

var _ runner.Registrar = (*Registrar)(nil)

// capacity is how many runners an environment has.
const capacity = 1

// Config is what a registrar needs. All fields but Log are required.
type Config struct {
	GitHub  *github.Client // tells the place, and is the way to it
	Name    string         // of the scale set: one machine's own, in GitHub's alphabet
	Owner   string         // of the session, for people to see who has it
	Version string         // of this program, for GitHub's statistics
	Log     *slog.Logger   // nil discards
}

// setName is what the client library puts into a URL as it is.
var setName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Registrar registers one runner after the other in one scale set. It implements [runner.Registrar].
type Registrar struct {
	config Config
	place  github.Place
	clock  clock

	// turn serialises Register, Remove and Close, which own what follows.
	turn    chan struct{}
	api     *scaleset.Client
	set     int
	session *scaleset.MessageSessionClient
	stop    func() // ends the listener and waits for it; nil when there is none

	mu   sync.Mutex
	seat seat // mu
	dead bool // mu; the listener's client failed in a way that may have left a lock behind
}

// heldTime is how long a job that was acquired for our runner, and has not reached it, keeps it from being removed: a job
// without its runner is lost. After that it is not coming.
const heldTime = time.Minute

// seat is what the session said about the one runner.
type seat struct {
	reg     runner.Registration // without its JIT configuration
	request int64               // that is acquired, or about to be; 0 when there is none
	taken   time.Time           // when request was chosen
	granted bool                // GitHub has said that it is ours
	leaving bool                // the runner is to be removed: it takes no job any more
	started *job.Announcement
	doubled bool // two jobs were said to run on it
}

// clock is time, for tests to replace.
type clock struct {
	sleep func(ctx context.Context, d time.Duration) error
	now   func() time.Time
}

// New makes a registrar. It asks nothing yet.
func New(c Config) (*Registrar, error) {
	switch {
	case c.GitHub == nil:
		return nil, errors.New("a registrar of scale sets needs a client of GitHub")
	case !setName.MatchString(c.Name):
		return nil, fmt.Errorf("scale set name %.64q: want 1 to 64 letters, digits, dots, hyphens and underscores", c.Name)
	case c.Owner == "" || c.Version == "":
		return nil, errors.New("a registrar of scale sets needs an owner of its session and a version")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	r := &Registrar{config: c, place: c.GitHub.Place(), clock: clock{sleep, time.Now}, turn: make(chan struct{}, 1)}
	r.turn <- struct{}{}
	return r, nil
}

// take waits for the turn. The caller gives it back.
func (r *Registrar) take(ctx context.Context) (give func(), err error) {
	select {
	case <-r.turn:
		return func() { r.turn <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the scale set: %w", ctx.Err())
	}
}

// Announced tells what the session said when our runner got its job; false as long as it has said nothing, and for good
// when it named two jobs.
func (r *Registrar) Announced() (job.Announcement, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seat.started == nil || r.seat.doubled {
		return job.Announcement{}, false
	}
	return *r.seat.started, true
}

// connect makes the client and sees to the scale set. The caller has the turn.
func (r *Registrar) connect(ctx context.Context) error {
	if err := r.reach(); err != nil {
		return err
	}
	if r.set != 0 {
		return nil
	}
	if err := r.settle(ctx); err != nil {
		r.api = nil // the next try asks anew where the Actions service is, and for its token
		return err
	}
	return nil
}

// reach makes the client. The caller has the turn.
func (r *Registrar) reach() error {
	r.forget()
	if r.api != nil {
		return nil
	}
	api, err := scaleset.NewClientWithPersonalAccessToken(scaleset.NewClientWithPersonalAccessTokenConfig{
		GitHubConfigURL: r.place.URL, PersonalAccessToken: placeholder,
		SystemInfo: scaleset.SystemInfo{System: "kettle-attest", Version: r.config.Version, Subsystem: "kettled"},
	}, scaleset.WithRetryableHTTPClint(r.client()))
	if err != nil {
		return fmt.Errorf("making the client of scale sets: %w", err)
	}
	r.api, r.set = api, 0
	return nil
}

// settle finds or creates the scale set.
func (r *Registrar) settle(ctx context.Context) error {
	set, err := r.find(ctx)
	if err == nil && set == nil {
		set, err = r.create(ctx)
	}
	if err != nil {
		return err
	}
	if want, got := lower(r.place.Labels), labels(set); !slices.Equal(want, got) {
		return &Error{
			Doing: "using scale set " + r.config.Name, kinds: []error{runner.ErrDenied},
			cause: fmt.Errorf("it has the labels %q, and the configuration says %q: choose another name, or delete it", got, want),
		}
	}
	if !set.RunnerSetting.DisableUpdate {
		set.RunnerSetting.DisableUpdate = true
		err := r.call(ctx, "disabling updates in scale set "+r.config.Name, func(ctx context.Context) (err error) {
			set, err = r.api.UpdateRunnerScaleSet(ctx, set.ID, &scaleset.RunnerScaleSet{RunnerSetting: set.RunnerSetting, Name: set.Name, Labels: set.Labels})
			return err
		})
		if err != nil {
			return err
		}
	}
	r.set = set.ID
	return nil
}

// forget lets go of a client that must not be asked again. Its session ends by itself. The caller has the turn.
func (r *Registrar) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dead {
		r.api, r.session, r.dead = nil, nil, false
	}
}

func (r *Registrar) find(ctx context.Context) (set *scaleset.RunnerScaleSet, err error) {
	err = r.call(ctx, "looking for scale set "+r.config.Name, func(ctx context.Context) (err error) {
		set, err = r.api.GetRunnerScaleSet(ctx, int(r.place.Group), r.config.Name)
		if set != nil && (set.ID <= 0 || !strings.EqualFold(set.Name, r.config.Name)) {
			return fmt.Errorf("%w: it is scale set %d, %.64q", errGarbled, set.ID, set.Name)
		}
		return err
	})
	return set, err
}

func (r *Registrar) create(ctx context.Context) (set *scaleset.RunnerScaleSet, err error) {
	wanted := &scaleset.RunnerScaleSet{
		Name: r.config.Name, RunnerGroupID: int(r.place.Group), RunnerSetting: scaleset.RunnerSetting{DisableUpdate: true},
	}
	for _, l := range r.place.Labels {
		wanted.Labels = append(wanted.Labels, scaleset.Label{Name: l, Type: "System"})
	}
	err = r.call(ctx, "creating scale set "+r.config.Name, func(ctx context.Context) (err error) {
		set, err = r.api.CreateRunnerScaleSet(ctx, wanted)
		if err == nil && (set.ID <= 0 || !strings.EqualFold(set.Name, r.config.Name)) {
			return fmt.Errorf("%w: it is scale set %d, %.64q", errGarbled, set.ID, set.Name)
		}
		return err
	})
	if status(err) == 409 { // another one was faster, or an earlier try went through
		if found, findErr := r.find(ctx); findErr == nil && found != nil {
			return found, nil
		}
	}
	return set, err
}

func labels(set *scaleset.RunnerScaleSet) []string {
	var names []string
	for _, l := range set.Labels {
		names = append(names, l.Name)
	}
	return lower(names)
}

func lower(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, strings.ToLower(n))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// sleep waits or ends with its context.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
