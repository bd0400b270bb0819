// SPDX-License-Identifier: Apache-2.0

package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	gogithub "github.com/google/go-github/v60/github"

	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
)

// Runner is what GitHub says about a runner.
type Runner struct {
	ID     int64
	Name   string
	Online bool
	Busy   bool
}

// Register makes one ephemeral runner. The name must be new: a caller makes one for each try, since GitHub may have
// registered a runner although it answered with an error. After [ErrNameTaken] or [ErrUnknownOutcome] a runner of this
// name that is not busy has been removed, and a new name is needed.
func (c *Client) Register(ctx context.Context, name string) (runner.Registration, error) {
	const doing = "registering a runner"
	work := workFolder
	answer, resp, err := c.generate(ctx, &gogithub.GenerateJITConfigRequest{
		Name: name, RunnerGroupID: c.config.RunnerGroup, WorkFolder: &work, Labels: c.config.Labels,
	})
	if err != nil {
		return runner.Registration{}, c.unregistered(ctx, name, remote(doing, c.registerPermission(), resp, err))
	}
	reg := runner.Registration{ID: answer.GetRunner().GetID(), Name: answer.GetRunner().GetName()}
	if reg.ID <= 0 || reg.Name != name {
		err := foreignJIT(fmt.Sprintf("runner %q with an id in GitHub's answer", name), fmt.Sprintf("%d, %.64q", reg.ID, reg.Name))
		return runner.Registration{}, c.undo(ctx, reg.ID, err)
	}
	want := JITWant{ID: reg.ID, Name: name, Hosts: c.config.Hosts}
	if reg.JIT, err = RebuildJIT(secret.New(answer.GetEncodedJITConfig()), want); err != nil {
		return runner.Registration{}, c.undo(ctx, reg.ID, err)
	}
	return reg, nil
}

// unregistered sorts out what a failed registration left behind.
func (c *Client) unregistered(ctx context.Context, name string, err error) error {
	var r *RemoteError
	if !errors.As(err, &r) {
		return err
	}
	switch {
	case r.Status == http.StatusConflict:
		r.kinds = append(r.kinds, ErrNameTaken)
	case r.Status == 0, r.Status >= 500:
		r.kinds = append(r.kinds, ErrUnknownOutcome)
	default:
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	left, findErr := c.find(ctx, name)
	if findErr != nil {
		return errors.Join(err, findErr)
	}
	if left == nil || left.Busy {
		return err
	}
	return c.undo(ctx, left.ID, err)
}

// undo removes a runner that cannot be used and returns why.
func (c *Client) undo(ctx context.Context, id int64, why error) error {
	if id <= 0 {
		return why
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	return errors.Join(why, c.Remove(ctx, runner.Registration{ID: id}))
}

const cleanupTime = 30 * time.Second

// How long Remove asks again while GitHub takes the runner for busy, which it does for a while after the runner was
// killed, and the longest pause in between.
const (
	busyTime  = 30 * time.Second
	busyPause = 5 * time.Second
)

// Remove deletes a runner. A runner that is gone is no error; one that still runs a job half a minute later, or when ctx
// ends, is [ErrBusy].
func (c *Client) Remove(ctx context.Context, reg runner.Registration) error {
	id := reg.ID
	end := c.clock.now().Add(busyTime)
	for pause := firstWait; ; pause = min(2*pause, busyPause) {
		err := c.remove(ctx, id)
		if !errors.Is(err, ErrBusy) || c.clock.now().Add(pause).After(end) {
			return err
		}
		if waitErr := c.clock.sleep(ctx, pause); waitErr != nil {
			return errors.Join(err, waitErr)
		}
	}
}

// remove asks once.
func (c *Client) remove(ctx context.Context, id int64) error {
	var resp *gogithub.Response
	var err error
	if c.config.Scope == Org {
		resp, err = c.api.Actions.RemoveOrganizationRunner(ctx, c.config.Target, id)
	} else {
		owner, repo := c.repository()
		resp, err = c.api.Actions.RemoveRunner(ctx, owner, repo, id)
	}
	if err == nil {
		return nil
	}
	err = remote(fmt.Sprintf("removing runner %d", id), c.registerPermission(), resp, err)
	var r *RemoteError
	if errors.As(err, &r) {
		switch r.Status {
		case http.StatusNotFound:
			return nil
		case http.StatusUnprocessableEntity:
			r.kinds = append(r.kinds, ErrBusy)
		}
	}
	return err
}

// Get tells what GitHub knows about a runner; [ErrNotFound] when it is gone.
func (c *Client) Get(ctx context.Context, id int64) (Runner, error) {
	var answer *gogithub.Runner
	var resp *gogithub.Response
	var err error
	if c.config.Scope == Org {
		answer, resp, err = c.api.Actions.GetOrganizationRunner(ctx, c.config.Target, id)
	} else {
		owner, repo := c.repository()
		answer, resp, err = c.api.Actions.GetRunner(ctx, owner, repo, id)
	}
	if err != nil {
		return Runner{}, remote(fmt.Sprintf("asking for runner %d", id), c.registerPermission(), resp, err)
	}
	return described(answer), nil
}

// Observe implements [runner.Registrar].
func (c *Client) Observe(ctx context.Context, reg runner.Registration) (runner.Sight, error) {
	r, err := c.Get(ctx, reg.ID)
	switch {
	case errors.Is(err, ErrNotFound):
		return runner.SightGone, nil
	case err != nil:
		return "", err
	case r.Busy:
		return runner.SightBusy, nil
	case r.Online:
		return runner.SightIdle, nil
	}
	return runner.SightOffline, nil
}

// Online reports whether the runner is connected. A runner that is gone is not.
func (c *Client) Online(ctx context.Context, id int64) (bool, error) {
	r, err := c.Get(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return r.Online, err
}

// find looks a runner up by its name; go-github v60 has no such filter. It returns nil when there is none.
func (c *Client) find(ctx context.Context, name string) (*Runner, error) {
	const doing = "looking a runner up by name"
	path := "orgs/" + url.PathEscape(c.config.Target)
	if c.config.Scope == Repo {
		owner, repo := c.repository()
		path = "repos/" + url.PathEscape(owner) + "/" + url.PathEscape(repo)
	}
	req, err := c.api.NewRequest(http.MethodGet, path+"/actions/runners?per_page=100&name="+url.QueryEscape(name), nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	var list gogithub.Runners
	resp, err := c.api.Do(ctx, req, &list)
	if err != nil {
		return nil, remote(doing, c.registerPermission(), resp, err)
	}
	for _, r := range list.Runners {
		if strings.EqualFold(r.GetName(), name) {
			found := described(r)
			return &found, nil
		}
	}
	return nil, nil //nolint:nilnil // none is a good answer, and the caller asks for it by name.
}

func (c *Client) generate(ctx context.Context, r *gogithub.GenerateJITConfigRequest) (*gogithub.JITRunnerConfig, *gogithub.Response, error) {
	if c.config.Scope == Org {
		return c.api.Actions.GenerateOrgJITConfig(ctx, c.config.Target, r)
	}
	owner, repo := c.repository()
	return c.api.Actions.GenerateRepoJITConfig(ctx, owner, repo, r)
}

// repository splits the target of scope repo, which Validate has checked.
func (c *Client) repository() (owner, repo string) {
	owner, repo, _ = strings.Cut(c.config.Target, "/")
	return owner, repo
}

// registerPermission is what the credential needs for runners (REST, self-hosted runners).
func (c *Client) registerPermission() string {
	if c.config.Scope == Org {
		return "“Self-hosted runners: write” of organisation " + c.config.Target
	}
	return "“Administration: write” of repository " + c.config.Target
}

func described(r *gogithub.Runner) Runner {
	return Runner{ID: r.GetID(), Name: r.GetName(), Online: r.GetStatus() == "online", Busy: r.GetBusy()}
}
