// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
)

// defaultGroup is the runner group that every scope has: identifier 1, named Default.
const defaultGroup = 1

// Group is a runner group besides the default one. What it restricts to is empty when it does not.
type Group struct {
	ID           int64
	Name         string
	Owner        string   // the organization, or the slug of the enterprise
	Repositories []string // full names that may use it
	Workflows    []string // owner/repo/path@ref that may use it
	Public       bool     // public repositories may use it
}

// Enterprise is a set of organizations.
type Enterprise struct {
	Slug          string
	Organizations []string
}

// scope is where a runner is registered. Exactly one field is set.
type scope struct {
	repo       *repository
	org        string
	enterprise string
}

// owner is the account whose groups a scope may use; a repository has the default group only.
func (sc scope) owner() string { return cmp.Or(sc.enterprise, sc.org) }

// in reports whether a registration is left and belongs to a scope.
func (r *runner) in(sc scope) bool {
	return !r.removed && r.repo == sc.repo && strings.EqualFold(r.org, sc.org) && strings.EqualFold(r.enterprise, sc.enterprise)
}

// scopes are the paths that runners are managed under, with the check of who may.
func scopes() map[string]func(*call) (scope, error) {
	return map[string]func(*call) (scope, error){
		"/repos/{owner}/{repo}": func(c *call) (scope, error) {
			repo, err := c.target("administration", "write")
			return scope{repo: repo}, err
		},
		"/orgs/{org}": func(c *call) (scope, error) {
			org := c.r.PathValue("org")
			return scope{org: org}, c.mayManage(org)
		},
		"/enterprises/{enterprise}": func(c *call) (scope, error) {
			slug := c.r.PathValue("enterprise")
			return scope{enterprise: slug}, c.mayGovern(slug)
		},
	}
}

// mayGovern checks that the caller may manage the runners of an enterprise: a person's token only, no App's.
func (c *call) mayGovern(slug string) error {
	switch {
	case c.who == nil:
		return unauthenticated()
	case c.who.kind != operator:
		return notAccessible()
	case c.s.enterprise(slug) == nil:
		return notFound()
	}
	return nil
}

func (s *Server) enterprise(slug string) *Enterprise {
	for i := range s.cfg.Enterprises {
		if strings.EqualFold(s.cfg.Enterprises[i].Slug, slug) {
			return &s.cfg.Enterprises[i]
		}
	}
	return nil
}

// group finds a configured group, or nil: the default group restricts nothing and is not configured.
func (s *Server) group(id int64) *Group {
	for i := range s.cfg.Groups {
		if s.cfg.Groups[i].ID == id {
			return &s.cfg.Groups[i]
		}
	}
	return nil
}

// usable checks that a scope may put a runner into a group: 404 for one that does not exist, 403 for someone else's.
func (s *Server) usable(sc scope, id int64) error {
	if id == defaultGroup {
		return nil
	}
	switch g := s.group(id); {
	case g == nil:
		return notFound()
	case sc.owner() == "" || !strings.EqualFold(g.Owner, sc.owner()):
		return &apiError{status: http.StatusForbidden, message: "The runner group is not accessible from here."}
	}
	return nil
}

// groupName is the name of a runner's group.
func (s *Server) groupName(id int64) string {
	if g := s.group(id); g != nil {
		return g.Name
	}
	return "Default"
}

// serves reports whether a runner may take a job.
func (s *Server) serves(r *runner, j *job) bool {
	repo := j.run.repo
	switch {
	case r.repo != nil && r.repo != repo:
		return false
	case r.org != "" && !strings.EqualFold(r.org, repo.Owner):
		return false
	case r.enterprise != "" && !s.enterprise(r.enterprise).has(repo.Owner):
		return false
	}
	if g := s.group(r.group); g != nil {
		fits := func(list []string, name string) bool {
			return len(list) == 0 || slices.ContainsFunc(list, func(l string) bool { return strings.EqualFold(l, name) })
		}
		if !repo.Private && !g.Public || !fits(g.Repositories, repo.full()) || !fits(g.Workflows, j.run.workflowRef()) {
			return false
		}
	}
	for _, want := range j.def.Labels {
		if !slices.ContainsFunc(r.labels, func(l string) bool { return strings.EqualFold(l, want) }) {
			return false
		}
	}
	return true
}

func (e *Enterprise) has(org string) bool {
	return e != nil && slices.ContainsFunc(e.Organizations, func(o string) bool { return strings.EqualFold(o, org) })
}
