// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"cmp"
	"crypto/rsa"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/kettle/attest/internal/fakegithub/jobmessage"
)

// runner is one registration.
type runner struct {
	id       int64
	name     string
	os       string
	labels   []string
	version  string // what it said of itself; empty until it polled
	group    int64
	repo     *repository // one of repo, org and enterprise is set: where it is registered
	org      string
	clientID string
	key      *rsa.PrivateKey // nil once it is removed
	session  string          // empty: offline
	job      *job
	removed  bool
	inbox    []delivery

	enterprise string
	granted    int  // jobs it acquired
	greedy     bool // it asked for another
	ghost      bool // removed by a failed acquirejob: the broker goes on as if it were not
	told       bool // to update itself
}

// delivery is a message waiting for the runner's next poll. A job is delivered again until the runner acknowledges or
// acquires it; a cancellation once.
type delivery struct {
	id   int64
	kind string
	body string
	job  *job
}

func (s *Server) routeRunners(mux *http.ServeMux) {
	for prefix, who := range scopes() {
		bind := func(h func(*call, scope) error) http.Handler {
			return s.rest(func(c *call) error {
				sc, err := who(c)
				if err != nil {
					return err
				}
				return h(c, sc)
			})
		}
		base := prefix + "/actions/runners"
		mux.Handle("POST "+base+"/generate-jitconfig", bind((*call).generateJIT))
		mux.Handle("GET "+base, bind((*call).listRunners))
		mux.Handle("GET "+base+"/{id}", bind((*call).getRunner))
		mux.Handle("DELETE "+base+"/{id}", bind((*call).deleteRunner))
	}
}

type labelJSON struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
	Type string `json:"type"`
}

type runnerJSON struct {
	ID        int64       `json:"id"`
	GroupID   int64       `json:"runner_group_id"`
	Name      string      `json:"name"`
	OS        string      `json:"os"`
	Status    string      `json:"status"`
	Busy      bool        `json:"busy"`
	Ephemeral bool        `json:"ephemeral"`
	Version   *string     `json:"version"`
	Labels    []labelJSON `json:"labels"`
}

func (r *runner) json() runnerJSON {
	out := runnerJSON{ID: r.id, GroupID: r.group, Name: r.name, OS: r.os, Status: "offline", Busy: r.job != nil, Ephemeral: true, Labels: []labelJSON{}}
	if r.version != "" {
		out.Version = &r.version
	}
	if r.session != "" {
		out.Status = "online"
	}
	for i, l := range r.labels {
		out.Labels = append(out.Labels, labelJSON{int64(i + 1), l, "custom"})
	}
	return out
}

type jitRequest struct {
	Name    string   `json:"name"`
	GroupID *int64   `json:"runner_group_id"`
	Labels  []string `json:"labels"`
	Folder  string   `json:"work_folder"`
}

// check applies the rules of generate-jitconfig.
func (q *jitRequest) check() error {
	const head = "Invalid request.\n\n"
	switch {
	case q.Name == "":
		return unprocessable(head + `"name" wasn't supplied.`)
	case q.GroupID == nil:
		return unprocessable(head + `"runner_group_id" wasn't supplied.`)
	case len(q.Labels) == 0 || len(q.Labels) > 100:
		return unprocessable(head+"Invalid property /labels: `%d` items given; between 1 and 100 are allowed.", len(q.Labels))
	}
	return nil
}

// generateJIT registers an ephemeral runner. The caller holds mu, which is released while the key is made.
func (c *call) generateJIT(sc scope) error {
	var q jitRequest
	if err := c.decode(&q); err != nil {
		return err
	}
	if err := q.check(); err != nil {
		return err
	}
	if err := c.s.usable(sc, *q.GroupID); err != nil {
		return err
	}
	if err := c.mayRegister(sc); err != nil {
		return err
	}
	c.s.mu.Unlock()
	key, err := c.s.cfg.NewKey()
	c.s.mu.Lock()
	if err != nil {
		return err
	}
	for _, r := range c.s.runners {
		if r.in(sc) && strings.EqualFold(r.name, q.Name) {
			return &apiError{status: http.StatusConflict, message: fmt.Sprintf("Already exists - A runner with the name %s already exists.", q.Name)}
		}
	}
	r := &runner{
		id: c.s.next("runner"), name: q.Name, os: "unknown", labels: q.Labels, group: *q.GroupID, clientID: newID(), key: key,
		repo: sc.repo, org: sc.org, enterprise: sc.enterprise,
	}
	blob, err := c.s.jitConfig(r, cmp.Or(q.Folder, "_work"))
	if err != nil {
		return err
	}
	c.s.runners[r.id] = r
	c.s.books.registrations++
	c.s.touch()
	return c.reply(http.StatusCreated, struct {
		Runner runnerJSON `json:"runner"`
		Config string     `json:"encoded_jit_config"`
	}{r.json(), blob})
}

func (c *call) listRunners(sc scope) error {
	name := c.r.URL.Query().Get("name")
	list := []runnerJSON{}
	for _, r := range c.s.runners {
		if r.in(sc) && (name == "" || strings.EqualFold(name, r.name)) {
			list = append(list, r.json())
		}
	}
	slices.SortFunc(list, func(a, b runnerJSON) int { return cmp.Compare(a.ID, b.ID) })
	return c.reply(http.StatusOK, struct {
		Total   int          `json:"total_count"`
		Runners []runnerJSON `json:"runners"`
	}{len(list), page(c, list)})
}

func (c *call) runner(sc scope) (*runner, error) {
	id, err := c.number("id")
	if err != nil {
		return nil, err
	}
	r := c.s.runners[id]
	if r == nil || !r.in(sc) {
		return nil, notFound()
	}
	return r, nil
}

func (c *call) getRunner(sc scope) error {
	r, err := c.runner(sc)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, r.json())
}

func (c *call) deleteRunner(sc scope) error {
	r, err := c.runner(sc)
	if err != nil {
		return err
	}
	if r.job != nil {
		return unprocessable(`Bad request - Runner "%s" is still running a job"`, r.name)
	}
	c.s.remove(r)
	return c.status(http.StatusNoContent)
}

// remove ends a registration. What a token still stands for remembers that it is gone. The caller holds mu.
func (s *Server) remove(r *runner) {
	r.removed, r.job, r.inbox, r.key = true, nil, nil, nil
	if !r.ghost {
		r.session = ""
	}
	delete(s.runners, r.id)
	s.touch()
}

// assign gives queued jobs to idle runners that are online, oldest job first. The caller holds mu.
func (s *Server) assign() {
	for _, j := range s.jobs {
		if j.status != statusQueued || j.runner != nil {
			continue
		}
		for _, id := range s.runnerIDs() {
			r := s.runners[id]
			if r.removed || r.session == "" || r.job != nil || !s.serves(r, j) {
				continue
			}
			r.job, j.runner, j.runnerID, j.runnerName, j.groupID = j, r, r.id, r.name, r.group
			j.assigned, j.deadline = s.cfg.Now(), s.steady().Add(s.cfg.Offer)
			s.watch(j, s.cfg.Offer)
			r.inbox = append(r.inbox, delivery{s.next("message"), jobmessage.TypeJobRequest, s.jobReference(j), j})
			s.touch()
			break
		}
	}
}

func (s *Server) runnerIDs() []int64 {
	ids := make([]int64, 0, len(s.runners))
	for id := range s.runners {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Runner is one registration as tests and the demo see it.
type Runner struct {
	ID     int64
	Name   string
	Online bool
	Busy   bool
}

// Runners returns the registrations that are left, by identifier.
func (s *Server) Runners() []Runner {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Runner
	for _, id := range s.runnerIDs() {
		if r := s.runners[id]; !r.removed {
			out = append(out, r.snapshot())
		}
	}
	return out
}

func (r *runner) snapshot() Runner { return Runner{r.id, r.name, r.session != "", r.job != nil} }
