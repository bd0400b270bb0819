// SPDX-License-Identifier: Apache-2.0

package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	gogithub "github.com/google/go-github/v60/github"

	"github.com/kettle/attest/runner"
)

// Runner is what GitHub says about a runner.
type Runner struct {
	ID     int64
	Name   string
	Online bool
	Busy   bool
}

// runnerJSON is a runner of the REST API.
type runnerJSON struct {
	ID     int64  `json:"id"`
	Name   string `json:"name"`
	Status string `json:"status"`
	Busy   bool   `json:"busy"`
}

func (r runnerJSON) told() Runner {
	return Runner{ID: r.ID, Name: r.Name, Online: r.Status == "online", Busy: r.Busy}
}

// runnersPath is where the REST API has the runners of the configured scope. go-github v60 has no call for one runner of
// an enterprise and none that looks for a name, so all calls are made by their paths.
func (c *Client) runnersPath() string {
	switch c.config.Scope {
	case Org:
		return "orgs/" + url.PathEscape(c.config.Target) + "/actions/runners"
	case Enterprise:
		return "enterprises/" + url.PathEscape(c.config.Target) + "/actions/runners"
	}
	owner, repo, _ := strings.Cut(c.config.Target, "/")
	return "repos/" + url.PathEscape(owner) + "/" + url.PathEscape(repo) + "/actions/runners"
}

// need is what the credential needs for runners (REST, self-hosted runners).
func (c *Client) need() need {
	switch c.config.Scope {
	case Org:
		return need{"Self-hosted runners: write", "admin:org", "organisation " + c.config.Target}
	case Enterprise:
		return need{"", "manage_runners:enterprise", "enterprise " + c.config.Target}
	}
	return need{"Administration: write", "repo", "repository " + c.config.Target}
}

// question is one request about runners.
type question struct {
	doing  string
	method string
	path   string // below the runners of the scope
	body   any
}

// ask makes a request. A nil error means that GitHub's answer was good and, when out is not nil, understood.
func (c *Client) ask(ctx context.Context, q question, out any) (*gogithub.Response, error) {
	req, err := c.api.NewRequest(q.method, c.runnersPath()+q.path, q.body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", q.doing, err)
	}
	resp, err := c.api.Do(ctx, req, out)
	if err != nil {
		return nil, remote(q.doing, c.need(), resp, err)
	}
	return resp, nil
}

// one asks for a runner; [ErrNotFound] when GitHub shows none of this id.
func (c *Client) one(ctx context.Context, id int64) (runnerJSON, error) {
	doing, path := fmt.Sprintf("asking for runner %d", id), "/"+strconv.FormatInt(id, 10)
	var r runnerJSON
	resp, err := c.ask(ctx, question{doing: doing, method: http.MethodGet, path: path}, &r)
	if err == nil && r.ID != id {
		err = &RemoteError{
			Doing: doing, Status: resp.StatusCode, kinds: []error{runner.ErrTryAgain}, cause: fmt.Errorf("it tells of runner %d", r.ID),
		}
	}
	return r, err
}

// maxRunnerPages bounds a list of runners: GitHub allows 10,000 in a group, and pages of 100.
const maxRunnerPages = 200

// list goes through the runners, of one name when name is not empty. A server that does not know the filter shows all.
func (c *Client) list(ctx context.Context, doing, name string, each func(Runner)) error {
	query := url.Values{"per_page": {"100"}}
	if name != "" {
		query.Set("name", name)
	}
	for range maxRunnerPages {
		var page struct {
			Runners *[]runnerJSON `json:"runners"`
		}
		resp, err := c.ask(ctx, question{doing: doing, method: http.MethodGet, path: "?" + query.Encode()}, &page)
		if err != nil {
			return err
		}
		if page.Runners == nil { // what is no list proves nothing
			return &RemoteError{
				Doing: doing, Status: resp.StatusCode, kinds: []error{runner.ErrTryAgain}, cause: errors.New("it holds no list of runners"),
			}
		}
		for _, r := range *page.Runners {
			each(r.told())
		}
		if resp.NextPage == 0 {
			return nil
		}
		query.Set("page", strconv.Itoa(resp.NextPage))
	}
	return fmt.Errorf("%s: more than %d pages", doing, maxRunnerPages)
}

// Runners lists the runners of the configured scope whose names begin with prefix. A runner that comes or goes
// meanwhile may be missing.
func (c *Client) Runners(ctx context.Context, prefix string) ([]Runner, error) {
	if prefix == "" {
		return nil, errors.New("listing runners: no prefix of their names")
	}
	var out []Runner
	err := c.list(ctx, "listing runners", "", func(r Runner) {
		if strings.HasPrefix(r.Name, prefix) {
			out = append(out, r)
		}
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// find looks a runner up by its name, and by its id when that is known. It returns nil when there is none.
func (c *Client) find(ctx context.Context, reg runner.Registration) (*Runner, error) {
	var found *Runner
	err := c.list(ctx, "looking runner "+reg.Name+" up by name", reg.Name, func(r Runner) {
		if reg.Name != "" && strings.EqualFold(r.Name, reg.Name) || reg.ID > 0 && r.ID == reg.ID {
			found = &r
		}
	})
	return found, err
}

// Observe implements [runner.Registrar]. It asks whether anything has changed, so it may be asked often. That a runner
// is gone is GitHub's word for its id and for its name.
func (c *Client) Observe(ctx context.Context, reg runner.Registration) (runner.Sight, error) {
	if reg.ID <= 0 {
		return c.observeName(ctx, reg)
	}
	r, err := c.one(polled(ctx), reg.ID)
	switch {
	case errors.Is(err, ErrNotFound):
		return c.observeName(ctx, reg)
	case err != nil:
		return "", err
	case r.Busy:
		return runner.SightBusy, nil
	case r.Status == "online":
		return runner.SightIdle, nil
	case r.Status == "offline":
		return runner.SightOffline, nil
	}
	return "", fmt.Errorf("asking for runner %d: GitHub says that it is %.64q, which is not understood", reg.ID, r.Status)
}

// observeName tells of a runner without an id, or of one whose id GitHub does not know (any more).
func (c *Client) observeName(ctx context.Context, reg runner.Registration) (runner.Sight, error) {
	if reg.ID <= 0 && reg.Name == "" {
		return "", errors.New("looking a runner up: neither an id nor a name")
	}
	found, err := c.find(ctx, reg)
	switch {
	case err != nil:
		return "", err
	case found == nil:
		return runner.SightGone, nil
	case found.Busy:
		return runner.SightBusy, nil
	case found.Online:
		return runner.SightIdle, nil
	}
	return runner.SightOffline, nil
}
