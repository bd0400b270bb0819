// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/kettle/attest/internal/fakegithub/workflow"
)

// kind is who a token stands for.
type kind int

const (
	operator     kind = iota + 1 // the personal access token
	installation                 // a GitHub App's installation
	jobToken                     // GITHUB_TOKEN of a job
	jobSystem                    // the job's SystemVssConnection
	runnerOAuth                  // a registered runner
	downloadLink                 // a download link: only where it points
)

// principal is what a token stands for.
type principal struct {
	kind        kind
	login       string
	id          int64
	account     string               // installation and downloadLink: the owner it sees
	permissions workflow.Permissions // installation, downloadLink and jobToken
	job         *job                 // jobToken and jobSystem
	runner      *runner              // runnerOAuth
	expires     time.Time            // by the steady clock; zero: never
}

// bearer takes the token out of a request: Bearer, token, or Basic with the token as password.
func bearer(r *http.Request) string {
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch strings.ToLower(scheme) {
	case "bearer", "token":
		return strings.TrimSpace(value)
	case "basic":
		raw, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return ""
		}
		_, password, _ := strings.Cut(string(raw), ":")
		return password
	}
	return ""
}

// authenticate finds out who asks over REST: nil for nobody, an error for a token that is not (or no longer) one. App tokens
// are checked where they are used. The caller holds mu.
func (s *Server) authenticate(r *http.Request) (*principal, error) {
	if r.Header.Get("Authorization") == "" || strings.HasPrefix(r.URL.Path, "/app/") {
		return nil, nil //nolint:nilnil // nobody is a valid answer here
	}
	p := s.lookup(bearer(r))
	if p == nil || p.kind != operator && p.kind != installation && p.kind != jobToken {
		return nil, badCredentials()
	}
	return p, nil
}

// lookup returns what a token stands for, or nil. The caller holds mu.
func (s *Server) lookup(token string) *principal {
	p := s.tokens[token]
	if token == "" || p == nil {
		return nil
	}
	if !p.expires.IsZero() && !s.steady().Before(p.expires) {
		delete(s.tokens, token)
		return nil
	}
	return p
}

// may checks that the caller has an access to a repository, in GitHub's order: what the caller cannot see does not exist.
func (c *call) may(repo *repository, scope, access string) error {
	public := !repo.Private && access == "read" && scope != "administration"
	switch {
	case c.who == nil && public:
		return nil
	case c.who == nil && repo.Private:
		return notFound()
	case c.who == nil:
		return unauthenticated()
	case c.who.kind == operator:
		return nil
	}
	own := (c.who.kind == installation || c.who.kind == downloadLink) && strings.EqualFold(c.who.account, repo.Owner) ||
		c.who.kind == jobToken && c.who.job.run.repo == repo
	switch {
	case own && c.who.permissions.Allows(scope, access):
		return nil
	case public:
		return nil
	case !own && repo.Private:
		return notFound()
	}
	return notAccessible()
}

// mayManage checks that the caller may manage the self-hosted runners of an organization.
func (c *call) mayManage(org string) error {
	switch {
	case c.who == nil:
		return unauthenticated()
	case c.who.kind == operator:
		return nil
	case c.who.kind != installation:
		return notAccessible()
	case !strings.EqualFold(c.who.account, org):
		return notFound()
	case !c.who.permissions.Allows("organization_self_hosted_runners", "write"):
		return notAccessible()
	}
	return nil
}

// actor is the account that what the caller does is done as.
func (c *call) actor() account {
	if c.who == nil || c.who.login == "" {
		return account{Login: "github-actions[bot]", ID: 41898282}
	}
	return account{Login: c.who.login, ID: c.who.id}
}

// account is a user or an organization.
type account struct {
	Login string
	ID    int64
	Type  string // empty: User
}
