// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/kettle/attest/internal/fakegithub/tree"
)

// userJSON is a user or an organization of the REST API (simple-user).
func (s *Server) userJSON(a account) map[string]any {
	api := s.urls[serviceAPI] + "/users/" + a.Login
	kind, letter := a.Type, "U"
	if kind == "" {
		kind = "User"
	}
	if strings.HasSuffix(a.Login, "[bot]") {
		kind = "Bot"
	}
	if kind == "Organization" {
		letter = "O"
	}
	out := map[string]any{
		"login": a.Login, "id": a.ID, "node_id": node(letter, a.ID), "type": kind, "site_admin": false, "gravatar_id": "", "url": api,
		"avatar_url": s.urls[serviceServer] + "/" + a.Login + ".png", "html_url": s.urls[serviceServer] + "/" + a.Login,
	}
	for name, tail := range map[string]string{
		"events": "/events{/privacy}", "followers": "/followers", "following": "/following{/other_user}", "gists": "/gists{/gist_id}",
		"organizations": "/orgs", "received_events": "/received_events", "repos": "/repos", "starred": "/starred{/owner}{/repo}",
		"subscriptions": "/subscriptions",
	} {
		out[name+"_url"] = api + tail
	}
	return out
}

// repositoryJSON is a repository of the REST API (full-repository).
func (s *Server) repositoryJSON(r *repository) map[string]any {
	api, web := s.repoURL(r), s.urls[serviceServer]+"/"+r.full()
	_, host, _ := strings.Cut(s.urls[serviceServer], "://")
	out := map[string]any{
		"id": r.ID, "node_id": node("R", r.ID), "name": r.Name, "full_name": r.full(), "private": r.Private,
		"owner":    s.userJSON(account{Login: r.Owner, ID: r.OwnerID, Type: "Organization"}),
		"html_url": web, "url": api, "default_branch": r.branch, "visibility": r.visibility(), "description": nil, "fork": false,
		"archived": false, "disabled": false, "homepage": nil, "language": nil, "license": nil, "mirror_url": nil, "size": 1,
		"clone_url": web + ".git", "git_url": "git://" + host + "/" + r.full() + ".git", "ssh_url": "git@" + host + ":" + r.full() + ".git",
		"svn_url": web, "created_at": tree.Date, "updated_at": tree.Date, "pushed_at": tree.Date,
	}
	for _, name := range []string{"has_issues", "has_projects", "has_wiki", "has_pages", "has_discussions"} {
		out[name] = false
	}
	for _, name := range []string{
		"forks", "forks_count", "open_issues", "open_issues_count", "stargazers_count", "watchers", "watchers_count", "network_count",
		"subscribers_count",
	} {
		out[name] = 0
	}
	for name, tail := range map[string]string{
		"archive": "/{archive_format}{/ref}", "assignees": "/assignees{/user}", "blobs": "/git/blobs{/sha}", "branches": "/branches{/branch}",
		"collaborators": "/collaborators{/collaborator}", "comments": "/comments{/number}", "commits": "/commits{/sha}",
		"compare": "/compare/{base}...{head}", "contents": "/contents/{+path}", "contributors": "/contributors", "deployments": "/deployments",
		"downloads": "/downloads", "events": "/events", "forks": "/forks", "git_commits": "/git/commits{/sha}", "git_refs": "/git/refs{/sha}",
		"git_tags": "/git/tags{/sha}", "hooks": "/hooks", "issue_comment": "/issues/comments{/number}",
		"issue_events": "/issues/events{/number}", "issues": "/issues{/number}", "keys": "/keys{/key_id}", "labels": "/labels{/name}",
		"languages": "/languages", "merges": "/merges", "milestones": "/milestones{/number}",
		"notifications": "/notifications{?since,all,participating}", "pulls": "/pulls{/number}", "releases": "/releases{/id}",
		"stargazers": "/stargazers", "statuses": "/statuses/{sha}", "subscribers": "/subscribers", "subscription": "/subscription",
		"tags": "/tags", "teams": "/teams", "trees": "/git/trees{/sha}",
	} {
		out[name+"_url"] = api + tail
	}
	return out
}

// fileJSON is a file of the contents API, without its content.
func (s *Server) fileJSON(repo *repository, f *tree.File, ref string) map[string]any {
	api := s.repoURL(repo) + "/contents/" + f.Path + "?ref=" + ref
	blob := s.repoURL(repo) + "/git/blobs/" + f.SHA
	page := s.urls[serviceServer] + "/" + repo.full() + "/blob/" + ref + "/" + f.Path
	return map[string]any{
		"type": "file", "size": len(f.Data), "path": f.Path, "sha": f.SHA, "url": api, "git_url": blob, "html_url": page,
		"download_url": s.urls[serviceServer] + "/" + repo.full() + "/raw/" + ref + "/" + f.Path,
		"_links":       map[string]string{"self": api, "git": blob, "html": page},
	}
}

// uploader is who releases and assets are shown to be by.
func (s *Server) uploader() map[string]any {
	return s.userJSON(account{Login: s.cfg.Operator.Login, ID: s.cfg.Operator.ID})
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}
