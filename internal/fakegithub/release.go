// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// release is one release with its assets.
type release struct {
	id      int64
	tag     string
	name    string
	created time.Time
	assets  []*asset
}

type asset struct {
	id          int64
	name        string
	contentType string
	data        []byte
	created     time.Time
}

// Asset is an uploaded file of a release.
type Asset struct {
	Name string
	Data []byte
}

func (s *Server) routeReleases(mux [services]*http.ServeMux) {
	api := mux[serviceAPI]
	api.Handle("POST /repos/{owner}/{repo}/releases", s.rest((*call).createRelease))
	api.Handle("GET /repos/{owner}/{repo}/releases/{id}", s.rest((*call).getRelease))
	api.Handle("GET /repos/{owner}/{repo}/releases/tags/{tag}", s.rest((*call).getRelease))
	api.Handle("GET /repos/{owner}/{repo}/releases/assets/{id}", s.rest((*call).getAsset))
	mux[serviceUploads].Handle("POST /repos/{owner}/{repo}/releases/{id}/assets", s.rest((*call).uploadAsset))
	mux[serviceServer].Handle("GET /{owner}/{repo}/releases/download/{tag}/{name}", s.rest((*call).downloadAsset))
	mux[serviceObjects].Handle("GET /{owner}/{repo}/{id}", s.rest((*call).getObject))
}

// Assets returns the uploaded files of a release.
func (s *Server) Assets(owner, name, tag string) []Asset {
	s.mu.Lock()
	defer s.mu.Unlock()
	repo := s.repository(owner, name)
	if repo == nil {
		return nil
	}
	var out []Asset
	for _, r := range repo.releases {
		if r.tag == tag {
			for _, a := range r.assets {
				out = append(out, Asset{a.name, a.data})
			}
		}
	}
	return out
}

func (s *Server) releaseJSON(repo *repository, r *release) map[string]any {
	assets := []any{}
	for _, a := range r.assets {
		assets = append(assets, s.assetJSON(repo, r, a))
	}
	url := s.repoURL(repo) + "/releases/" + decimal(r.id)
	return map[string]any{
		"node_id": node("RE", r.id), "author": s.uploader(), "tarball_url": s.repoURL(repo) + "/tarball/" + r.tag,
		"zipball_url": s.repoURL(repo) + "/zipball/" + r.tag, "body": nil,
		"id": r.id, "tag_name": r.tag, "name": r.name, "draft": false, "prerelease": false, "created_at": stamp(r.created),
		"published_at": stamp(r.created), "url": url, "assets_url": url + "/assets", "assets": assets, "target_commitish": repo.branch,
		"upload_url": s.urls[serviceUploads] + "/repos/" + repo.full() + "/releases/" + decimal(r.id) + "/assets{?name,label}",
		"html_url":   s.urls[serviceServer] + "/" + repo.full() + "/releases/tag/" + r.tag,
	}
}

func (s *Server) assetJSON(repo *repository, r *release, a *asset) map[string]any {
	return map[string]any{
		"id": a.id, "name": a.name, "state": "uploaded", "content_type": a.contentType, "size": len(a.data), "created_at": stamp(a.created),
		"node_id": node("RA", a.id), "label": nil, "uploader": s.uploader(), "download_count": 0, "digest": digest(a.data),
		"updated_at":           stamp(a.created),
		"url":                  s.repoURL(repo) + "/releases/assets/" + decimal(a.id),
		"browser_download_url": s.urls[serviceServer] + "/" + repo.full() + "/releases/download/" + r.tag + "/" + a.name,
	}
}

func (c *call) createRelease() error {
	repo, err := c.target("contents", "write")
	if err != nil {
		return err
	}
	var ask struct {
		Tag  string `json:"tag_name"`
		Name string `json:"name"`
	}
	if err := c.decode(&ask); err != nil {
		return err
	}
	if ask.Tag == "" {
		return unprocessable("Invalid request.\n\n\"tag_name\" wasn't supplied.")
	}
	for _, r := range repo.releases {
		if r.tag == ask.Tag {
			return unprocessable("Validation Failed: a release for %s already exists", ask.Tag)
		}
	}
	r := &release{id: c.s.next("release"), tag: ask.Tag, name: cmp.Or(ask.Name, ask.Tag), created: c.s.cfg.Now()}
	repo.releases = append(repo.releases, r)
	return c.reply(http.StatusCreated, c.s.releaseJSON(repo, r))
}

func (r *repository) release(match func(*release) bool) (*release, error) {
	for _, rel := range r.releases {
		if match(rel) {
			return rel, nil
		}
	}
	return nil, notFound()
}

func (c *call) getRelease() error {
	repo, err := c.target("contents", "read")
	if err != nil {
		return err
	}
	tag, id := c.r.PathValue("tag"), c.r.PathValue("id")
	r, err := repo.release(func(r *release) bool { return tag != "" && r.tag == tag || tag == "" && decimal(r.id) == id })
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, c.s.releaseJSON(repo, r))
}

func (c *call) uploadAsset() error {
	repo, err := c.target("contents", "write")
	if err != nil {
		return err
	}
	id, err := c.number("id")
	if err != nil {
		return err
	}
	r, err := repo.release(func(r *release) bool { return r.id == id })
	if err != nil {
		return err
	}
	name := c.r.URL.Query().Get("name")
	if name == "" || strings.Contains(name, "/") {
		return &apiError{status: http.StatusBadRequest, message: "Bad Request: name is required"}
	}
	for _, a := range r.assets {
		if a.name == name {
			return unprocessable("Validation Failed: ReleaseAsset.name already exists")
		}
	}
	data, err := io.ReadAll(c.r.Body)
	if err != nil {
		return fmt.Errorf("reading asset: %w", err)
	}
	kind := cmp.Or(c.r.Header.Get("Content-Type"), "application/octet-stream")
	a := &asset{id: c.s.next("asset"), name: name, contentType: kind, data: data, created: c.s.cfg.Now()}
	r.assets = append(r.assets, a)
	c.s.touch()
	return c.reply(http.StatusCreated, c.s.assetJSON(repo, r, a))
}

// find returns the asset that matches, with its release.
func (r *repository) asset(match func(*release, *asset) bool) (*release, *asset, error) {
	for _, rel := range r.releases {
		for _, a := range rel.assets {
			if match(rel, a) {
				return rel, a, nil
			}
		}
	}
	return nil, nil, notFound()
}

// getAsset describes an asset, or redirects to its bytes when asked for application/octet-stream.
func (c *call) getAsset() error {
	repo, err := c.target("contents", "read")
	if err != nil {
		return err
	}
	id, err := c.number("id")
	if err != nil {
		return err
	}
	rel, a, err := repo.asset(func(_ *release, a *asset) bool { return a.id == id })
	if err != nil {
		return err
	}
	if c.r.Header.Get("Accept") == "application/octet-stream" {
		return c.redirect(c.s.objectURL(repo, a))
	}
	return c.reply(http.StatusOK, c.s.assetJSON(repo, rel, a))
}

func (c *call) downloadAsset() error {
	repo, err := c.target("contents", "read")
	if err != nil {
		return err
	}
	tag, name := c.r.PathValue("tag"), c.r.PathValue("name")
	_, a, err := repo.asset(func(r *release, a *asset) bool { return r.tag == tag && a.name == name })
	if err != nil {
		return err
	}
	return c.redirect(c.s.objectURL(repo, a))
}

// objectURL is where the bytes of an asset are, with a token that lasts five minutes.
func (s *Server) objectURL(repo *repository, a *asset) string {
	token := random(16)
	s.tokens[token] = &principal{
		kind: downloadLink, account: repo.Owner, permissions: map[string]string{"contents": "read"}, expires: s.cfg.Now().Add(5 * time.Minute),
	}
	return s.urls[serviceObjects] + "/" + repo.full() + "/" + decimal(a.id) + "?jwt=" + token
}

func (c *call) getObject() error {
	c.who = c.s.lookup(c.r.URL.Query().Get("jwt"))
	if c.who == nil {
		return &apiError{status: http.StatusForbidden, message: "the link has expired"}
	}
	repo, err := c.target("contents", "read")
	if err != nil {
		return err
	}
	id, err := c.number("id")
	if err != nil {
		return err
	}
	_, a, err := repo.asset(func(_ *release, a *asset) bool { return a.id == id })
	if err != nil {
		return err
	}
	c.header.Set("Content-Type", a.contentType)
	data := a.data
	c.write = func(w http.ResponseWriter) { _, _ = w.Write(data) }
	return nil
}
