// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// ActionRequest is one action a job uses.
type ActionRequest struct {
	// Action is "owner/repo".
	Action string `json:"action"`
	// Version is the revision asked for.
	Version string `json:"version"`
	// Path is the folder in the repository.
	Path string `json:"path,omitempty"`
}

// ActionInfo says where an action's archive is.
type ActionInfo struct {
	// Name and Version repeat the request.
	Name    string `json:"name"`
	Version string `json:"version"`
	// ResolvedName and ResolvedSHA are the repository and the commit found.
	ResolvedName string `json:"resolved_name"`
	ResolvedSHA  string `json:"resolved_sha"`
	// TarURL is the archive.
	TarURL string `json:"tar_url"`
	// Authentication is a token of its own, if there is one.
	Authentication struct {
		Token string `json:"token"`
	} `json:"authentication"`
}

// Launch is the service that resolves actions for one job.
type Launch struct {
	client *http.Client
	base   string
	token  string
	path   string
}

// NewLaunch returns the service at a base URL.
func NewLaunch(client *http.Client, c ResultsConfig) *Launch {
	path := "/actions/build/" + url.PathEscape(c.Plan) + "/jobs/" + url.PathEscape(c.Job) + "/runnerresolve/actions"
	return &Launch{client: client, base: c.Base, token: c.Token, path: path}
}

// Resolve finds the archives of actions; the result is keyed by "owner/repo@ref".
func (l *Launch) Resolve(ctx context.Context, actions []ActionRequest) (map[string]ActionInfo, error) {
	target, err := at(l.base, l.path)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Actions map[string]ActionInfo `json:"actions"`
	}
	in := map[string]any{"actions": actions}
	c := call{method: http.MethodPost, url: target, bearer: l.token, in: in, out: &answer}
	if err := roundTrip(ctx, l.client, c); err != nil {
		return nil, fmt.Errorf("resolving actions: %w", unresolvable(err))
	}
	return answer.Actions, nil
}

// unresolvable is the service's own account of a 422, one sentence an action.
func unresolvable(err error) error {
	var status *StatusError
	if !errors.As(err, &status) || status.Code != http.StatusUnprocessableEntity {
		return err
	}
	var body struct {
		Errors map[string]struct {
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(status.Body, &body) != nil || len(body.Errors) == 0 {
		return err
	}
	var sentences []string
	for _, name := range slices.Sorted(maps.Keys(body.Errors)) {
		sentences = append(sentences, body.Errors[name].Message)
	}
	return errors.New(strings.Join(sentences, ". "))
}
