// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/kettle/attest/internal/fakegithub/tree"
)

func (s *Server) routeRepositories(api, codeload *http.ServeMux) {
	for pattern, h := range map[string]func(*call) error{
		"GET /repos/{owner}/{repo}":                    (*call).getRepository,
		"GET /repos/{owner}/{repo}/commits/{ref...}":   (*call).getCommit,
		"GET /repos/{owner}/{repo}/git/ref/{ref...}":   (*call).getRef,
		"GET /repos/{owner}/{repo}/contents/{path...}": (*call).getContents,
		"GET /repos/{owner}/{repo}/tarball/{ref...}":   func(c *call) error { return c.archiveLink("legacy.tar.gz") },
		"GET /repos/{owner}/{repo}/zipball/{ref...}":   func(c *call) error { return c.archiveLink("legacy.zip") },
		"GET /repos/{owner}/{repo}/tarball":            func(c *call) error { return c.archiveLink("legacy.tar.gz") },
	} {
		api.Handle(pattern, s.rest(h))
	}
	codeload.Handle("GET /{owner}/{repo}/{format}/{ref...}", s.rest((*call).getArchive))
}

// target finds the repository of a request and checks the caller's access.
func (c *call) target(scope, access string) (*repository, error) {
	repo := c.s.repository(c.r.PathValue("owner"), c.r.PathValue("repo"))
	if repo == nil {
		return nil, notFound()
	}
	return repo, c.may(repo, scope, access)
}

func (r *repository) visibility() string {
	if r.Private {
		return "private"
	}
	return "public"
}

func (s *Server) repoURL(r *repository) string { return s.urls[serviceAPI] + "/repos/" + r.full() }

// node makes an opaque GraphQL identifier.
func node(kind string, id int64) string {
	return kind + "_" + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s%d", kind, id))
}

func (c *call) getRepository() error {
	repo, err := c.target("metadata", "read")
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, c.s.repositoryJSON(repo))
}

func (c *call) getCommit() error {
	repo, err := c.target("contents", "read")
	if err != nil {
		return err
	}
	ref := c.r.PathValue("ref")
	commit, _, ok := repo.resolve(ref)
	if !ok {
		return unprocessable("No commit found for SHA: %s", ref)
	}
	if strings.HasSuffix(c.r.Header.Get("Accept"), ".sha") {
		return c.text(commit.SHA)
	}
	who := map[string]string{"name": "fakegithub", "email": "noreply@github.demo.test", "date": tree.Date}
	return c.reply(http.StatusOK, map[string]any{
		"sha": commit.SHA, "node_id": node("C", repo.ID), "url": c.s.repoURL(repo) + "/commits/" + commit.SHA,
		"comments_url": c.s.repoURL(repo) + "/commits/" + commit.SHA + "/comments", "author": nil, "committer": nil,
		"html_url": c.s.urls[serviceServer] + "/" + repo.full() + "/commit/" + commit.SHA,
		"commit": map[string]any{
			"author": who, "committer": who, "message": commit.Message, "comment_count": 0,
			"url":          c.s.repoURL(repo) + "/git/commits/" + commit.SHA,
			"tree":         map[string]string{"sha": commit.Tree, "url": c.s.repoURL(repo) + "/git/trees/" + commit.Tree},
			"verification": map[string]any{"verified": false, "reason": "unsigned", "signature": nil, "payload": nil, "verified_at": nil},
		},
		"parents": []any{},
	})
}

func (c *call) text(s string) error {
	c.header.Set("Content-Type", "text/plain; charset=utf-8")
	c.write = func(w http.ResponseWriter) { _, _ = w.Write([]byte(s)) }
	return nil
}

func (c *call) getRef() error {
	repo, err := c.target("contents", "read")
	if err != nil {
		return err
	}
	name := "refs/" + c.r.PathValue("ref")
	commit, ok := repo.refs[name]
	if !ok {
		return notFound()
	}
	return c.reply(http.StatusOK, map[string]any{
		"ref": name, "node_id": node("REF", repo.ID), "url": c.s.repoURL(repo) + "/git/" + name,
		"object": map[string]string{"type": "commit", "sha": commit.SHA, "url": c.s.repoURL(repo) + "/git/commits/" + commit.SHA},
	})
}

// getContents answers for one file; folders are not listed.
func (c *call) getContents() error {
	repo, err := c.target("contents", "read")
	if err != nil {
		return err
	}
	commit, _, ok := repo.resolve(c.r.URL.Query().Get("ref"))
	if !ok {
		return notFound()
	}
	f, ok := commit.File(path.Clean(c.r.PathValue("path")))
	if !ok {
		return notFound()
	}
	if strings.Contains(c.r.Header.Get("Accept"), "raw") {
		return c.text(string(f.Data))
	}
	out := c.s.fileJSON(repo, &f, commit.SHA)
	out["name"], out["encoding"], out["content"] = path.Base(f.Path), "base64", base64.StdEncoding.EncodeToString(f.Data)
	return c.reply(http.StatusOK, out)
}

// archiveLink redirects to codeload, with a token in the link when the repository is private.
func (c *call) archiveLink(format string) error {
	repo, err := c.target("contents", "read")
	if err != nil {
		return err
	}
	_, name, ok := repo.resolve(c.r.PathValue("ref"))
	if !ok {
		return notFound()
	}
	link := c.s.urls[serviceCodeload] + "/" + repo.full() + "/" + format + "/" + name
	if repo.Private {
		token := random(16)
		c.s.tokens[token] = &principal{
			kind: downloadLink, account: repo.Owner, permissions: map[string]string{"contents": "read"}, expires: c.s.steady().Add(installationTokenLife / 12),
		}
		link += "?token=" + token
	}
	return c.redirect(link)
}

// getArchive is codeload: legacy.tar.gz and legacy.zip have the top folder owner-repo-sha7, tar.gz and zip repo-ref.
func (c *call) getArchive() error {
	if token := c.r.URL.Query().Get("token"); token != "" {
		c.who = c.s.lookup(token)
	}
	repo, err := c.target("contents", "read")
	if err != nil {
		return err
	}
	commit, name, ok := repo.resolve(c.r.PathValue("ref"))
	format := c.r.PathValue("format")
	if !ok || !slices.Contains([]string{"legacy.tar.gz", "legacy.zip", "tar.gz", "zip"}, format) {
		return notFound()
	}
	folder := fmt.Sprintf("%s-%s-%s", repo.Owner, repo.Name, commit.SHA[:7])
	if !strings.HasPrefix(format, "legacy.") {
		short := strings.TrimPrefix(strings.TrimPrefix(name, "refs/heads/"), "refs/tags/")
		folder = repo.Name + "-" + strings.ReplaceAll(strings.TrimPrefix(short, "v"), "/", "-")
	}
	archive, kind := commit.Tar, "application/x-gzip"
	if strings.HasSuffix(format, "zip") {
		archive, kind = commit.Zip, "application/zip"
	}
	c.header.Set("Content-Type", kind)
	c.header.Set("Content-Disposition", "attachment; filename="+folder+"."+strings.TrimPrefix(format, "legacy."))
	c.write = func(w http.ResponseWriter) {
		var whole bytes.Buffer // complete before the first byte goes out: a cut archive must not look like a whole one
		if err := archive(&whole, folder); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(whole.Bytes())
	}
	return nil
}
