// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/refusal"
)

// TestAttackEvents starts jobs by events that let strangers decide what runs, against policies that do not write them
// down. A policy that lists an event lists it for the repository's own code only.
func TestAttackEvents(t *testing.T) {
	t.Parallel()
	const own, foreign, unknown = "1296269", "99", ""
	for name, tc := range map[string]struct {
		listed, event, head string
		accepted            bool
	}{
		"pull request":                          {"pull_request", "pull_request", own, true},
		"pull request of a fork":                {"pull_request", "pull_request", foreign, false},
		"pull request of a fork, gone":          {"pull_request", "pull_request", unknown, false},
		"fork, written down":                    {"'pull_request:fork'", "pull_request", foreign, true},
		"fork, gone, written down":              {"'pull_request:fork'", "pull_request", unknown, true},
		"own, where only forks are written":     {"'pull_request:fork'", "pull_request", own, false},
		"target instead":                        {"pull_request, 'pull_request:fork'", "pull_request_target", own, false},
		"target":                                {"pull_request_target", "pull_request_target", own, true},
		"target of a fork":                      {"pull_request_target", "pull_request_target", foreign, false},
		"target of a fork, written down":        {"'pull_request_target:fork'", "pull_request_target", foreign, true},
		"review of a fork":                      {"pull_request_review", "pull_request_review", foreign, false},
		"review comment of a fork":              {"pull_request_review_comment", "pull_request_review_comment", foreign, false},
		"workflow_run":                          {"workflow_run", "workflow_run", own, true},
		"workflow_run not listed":               {"push, pull_request", "workflow_run", own, false},
		"workflow_run of a fork":                {"workflow_run", "workflow_run", foreign, false},
		"workflow_run of who knows whom":        {"workflow_run", "workflow_run", unknown, false},
		"workflow_run of a fork, written down":  {"'workflow_run:fork'", "workflow_run", foreign, true},
		"push":                                  {"push", "push", unknown, true},
		"push with a foreign head":              {"push", "push", foreign, false},
		"comment":                               {"push, pull_request", "issue_comment", unknown, false},
		"dynamic":                               {"push, pull_request", "dynamic", unknown, false},
		"new event":                             {"push, pull_request", "brand_new", unknown, false},
		"new event from a fork":                 {"brand_new", "brand_new", foreign, false},
		"no event":                              {"push", "", unknown, false},
		"event in another case":                 {"push", "Push", unknown, false},
		"event that begins like a listed one":   {"push", "pushed", unknown, false},
		"beginning of a listed event":           {"pull_request_target", "pull_request", own, false},
		"fork of an event that is not a policy": {"'push:fork'", "pull_request", foreign, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := parse(t, strings.Replace(whole, "events: [push, pull_request]", "events: ["+tc.listed+"]", 1))
			f := facts()
			f.Event, f.HeadRepositoryID = tc.event, tc.head
			err := p.Jobs().Allow(f, now)
			if (err == nil) != tc.accepted || err != nil && !errors.Is(err, refusal.ErrPolicy) {
				t.Errorf("got %v", err)
			}
		})
	}
	for _, any := range []string{"any", "[any]", "['*']", "['pull_request*']", "['any:fork']", "[':fork']", "[]"} {
		if _, err := Parse([]byte(strings.Replace(whole, "events: [push, pull_request]", "events: "+any, 1))); err == nil {
			t.Errorf("events: %s was accepted", any)
		}
	}
}
