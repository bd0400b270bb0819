// SPDX-License-Identifier: Apache-2.0

package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
)

// cleanupTime bounds the removal of what a failed registration left behind, which the caller's end does not stop.
const cleanupTime = 30 * time.Second

// settleTime is how long a registration that GitHub did not confirm may take to show.
const settleTime = 2 * time.Second

// generated is the answer of generate-jitconfig.
type generated struct {
	Runner runnerJSON `json:"runner"`
	Config string     `json:"encoded_jit_config"`
}

// Register implements [runner.Registrar]: it makes one ephemeral runner. The name must be new for each try, since GitHub
// may have registered a runner although it answered with an error, or not at all. After [ErrNameTaken] or
// [ErrUnknownOutcome] a runner of this name that is not busy has been removed.
//
// An error that no other try mends matches [runner.ErrDenied] and says which permission is missing. One of a JIT
// configuration is a refusal; if it was malformed rather than foreign, another try may succeed.
func (c *Client) Register(ctx context.Context, name string) (runner.Registration, error) {
	if name == "" {
		return runner.Registration{}, errors.New("registering a runner: no name")
	}
	answer, err := c.generate(ctx, name)
	if err != nil {
		return runner.Registration{}, c.unregistered(ctx, name, err)
	}
	reg := runner.Registration{ID: answer.Runner.ID, Name: name}
	if reg.ID <= 0 || answer.Runner.Name != name {
		err := foreignJIT(fmt.Sprintf("runner %q with an id in GitHub's answer", name), fmt.Sprintf("%d, %.64q", reg.ID, answer.Runner.Name))
		return runner.Registration{}, c.undo(ctx, reg, err)
	}
	want := JITWant{ID: reg.ID, Name: name, Hosts: c.config.Hosts}
	if reg.JIT, err = RebuildJIT(secret.New(answer.Config), want); err != nil {
		if errors.Is(err, refusal.ErrMalformed) {
			err = errors.Join(err, runner.ErrTryAgain)
		}
		return runner.Registration{}, c.undo(ctx, reg, err)
	}
	return reg, nil
}

// generate asks once, and sorts out what an error means.
func (c *Client) generate(ctx context.Context, name string) (*generated, error) {
	const doing = "registering a runner"
	var answer generated
	resp, err := c.ask(ctx, question{doing: doing, method: http.MethodPost, path: "/generate-jitconfig", body: struct {
		Name   string   `json:"name"`
		Group  int64    `json:"runner_group_id"`
		Labels []string `json:"labels"`
		Folder string   `json:"work_folder"`
	}{name, c.config.RunnerGroup, c.config.Labels, workFolder}}, &answer)
	if err == nil && answer == (generated{}) {
		err = &RemoteError{Doing: doing, Status: resp.StatusCode, kinds: []error{runner.ErrTryAgain}, cause: errors.New("it names no runner")}
	}
	var r *RemoteError
	if !errors.As(err, &r) {
		return &answer, err
	}
	of := c.need().of
	switch {
	case r.unsent:
	case r.Status < http.StatusMultipleChoices, r.Status >= 500:
		r.kinds = append(r.kinds, ErrUnknownOutcome)
	case r.Status == http.StatusConflict:
		r.kinds = append(r.kinds, ErrNameTaken, runner.ErrTryAgain)
	case r.Status == http.StatusForbidden:
		r.Hint = fmt.Sprintf("if it has that, runner group %d is one that %s may not use", c.config.RunnerGroup, of)
	case r.Status == http.StatusNotFound:
		r.kinds = append(r.kinds, runner.ErrDenied)
		r.Hint = fmt.Sprintf("without that GitHub does not show %s; with it, there is no runner group %d", of, c.config.RunnerGroup)
	case r.Status == http.StatusUnprocessableEntity:
		r.kinds = append(r.kinds, runner.ErrDenied)
	}
	return nil, err
}

// unregistered removes what a failed registration may have left behind. An outcome that is unknown is looked at twice:
// what GitHub had in hand may show a little later.
func (c *Client) unregistered(ctx context.Context, name string, err error) error {
	unknown := errors.Is(err, ErrUnknownOutcome)
	if !unknown && !errors.Is(err, ErrNameTaken) {
		if errors.Is(err, runner.ErrDenied) {
			return errors.Join(err, runner.ErrNotMade)
		}
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	reg := runner.Registration{Name: name}
	left, findErr := c.find(ctx, reg)
	if findErr == nil && left == nil && unknown {
		if findErr = c.clock.sleep(ctx, settleTime); findErr == nil {
			left, findErr = c.find(ctx, reg)
		}
	}
	switch {
	case findErr != nil:
		return errors.Join(err, findErr)
	case left == nil:
		return err
	case left.Busy:
		return errors.Join(err, fmt.Errorf("runner %d of this name is left as it is: it runs a job", left.ID))
	}
	reg.ID = left.ID
	return errors.Join(err, c.Remove(ctx, reg))
}

// undo removes a runner that cannot be used and returns why.
func (c *Client) undo(ctx context.Context, reg runner.Registration, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	return errors.Join(why, c.Remove(ctx, reg))
}
