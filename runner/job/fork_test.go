// SPDX-License-Identifier: Apache-2.0

package job

import (
	"strings"
	"testing"

	"github.com/kettle/attest/attest/statement"
)

// event makes the run and everything that tells of it one of an event.
func (w *world) event(name string) {
	w.withoutToken()
	w.edit(`"v": "workflow_dispatch"`, `"v": "`+name+`"`)
	w.question.Claims.Values["GITHUB_EVENT_NAME"], w.run.Event = name, name
	if strings.HasPrefix(name, "pull_request") {
		// the job's commit is a merge commit, and its ref is not the proposed branch: the run names neither
		w.run.HeadSHA, w.run.HeadBranch = strings.Repeat("ab", 20), "proposal"
		w.jobs[0][1].HeadSHA = w.run.HeadSHA
	}
}

// payload adds to the event what a runner's log would hold of it.
func (w *world) payload(entry string) {
	if entry != "" {
		w.edit("\"k\": \"event\",\n          \"v\": {\n            \"t\": 2,\n            \"d\": [", "\"k\": \"event\", \"v\": {\"t\": 2, \"d\": ["+entry+",")
	}
}

// proposal is the payload of a pull request, and afterRun of a run after another workflow's; head is context data.
func proposal(head string) string {
	return `{"k":"pull_request","v":{"t":2,"d":[{"k":"head","v":{"t":2,"d":[{"k":"repo","v":` + head + `}]}}]}}`
}

func afterRun(head string) string {
	return `{"k":"workflow_run","v":{"t":2,"d":[{"k":"head_repository","v":` + head + `}]}}`
}

// TestAttackFork has code of another repository run, under every event that can bring it and every way to leave out where
// it comes from. Policy must see a foreign repository, or none at all, which it takes for one.
func TestAttackFork(t *testing.T) {
	t.Parallel()
	own, fork := &Repository{ID: 1296269}, &Repository{ID: 99, FullName: "evil/widget", OwnerID: 98}
	const ours, theirs, null = `{"t":2,"d":[{"k":"id","v":1296269}]}`, `{"t":2,"d":[{"k":"id","v":99}]}`, `null`
	for name, tc := range map[string]struct {
		event   string
		head    *Repository // as GitHub shows the run
		payload string
		want    string
	}{
		"own branch":                        {"pull_request", own, proposal(ours), "1296269"},
		"own branch, by the run":            {"pull_request", own, "", "1296269"},
		"fork":                              {"pull_request", fork, proposal(theirs), "99"},
		"fork, by the run":                  {"pull_request", fork, "", "99"},
		"fork, by the event":                {"pull_request", own, proposal(theirs), "99"},
		"fork, gone":                        {"pull_request", nil, proposal(null), ""},
		"fork, gone from the run":           {"pull_request", nil, proposal(ours), ""},
		"pull_request_target":               {"pull_request_target", fork, proposal(theirs), "99"},
		"pull_request_target, own":          {"pull_request_target", own, proposal(ours), "1296269"},
		"review":                            {"pull_request_review", own, proposal(theirs), "99"},
		"workflow_run, own":                 {"workflow_run", own, afterRun(ours), "1296269"},
		"workflow_run of a fork":            {"workflow_run", own, afterRun(theirs), "99"},
		"workflow_run of a fork by the run": {"workflow_run", fork, afterRun(ours), "99"},
		"workflow_run without its head":     {"workflow_run", own, "", ""},
		"workflow_run of a fork, gone":      {"workflow_run", own, afterRun(null), ""},
		"push":                              {"push", own, "", ""},
		"push with a foreign head":          {"push", fork, "", "99"},
		"unknown event":                     {"brand_new", nil, "", ""},
		"unknown event with a foreign head": {"brand_new", fork, "", "99"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.event(tc.event)
			w.payload(tc.payload)
			w.run.HeadRepository = tc.head
			got, err := w.identifier(t).Identify(t.Context(), w.question)
			if err != nil {
				t.Fatal(err)
			}
			f, sha := got.Facts, statement.FromGitHub
			if strings.HasPrefix(tc.event, "pull_request") {
				sha = statement.FromMeasured
			}
			if f.Event != tc.event || f.HeadRepositoryID != tc.want || f.Origins["sha"] != sha || f.Origins["ref"] != statement.FromMeasured {
				t.Fatalf("got %+v", f)
			}
			if (f.Origins["headRepositoryId"] != "") != (tc.want != "") {
				t.Errorf("origin of the head repository: %q", f.Origins["headRepositoryId"])
			}
		})
	}
}
