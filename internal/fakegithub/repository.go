// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/kettle/attest/internal/fakegithub/tree"
	"github.com/kettle/attest/internal/secret"
)

// Repository is a folder shown as a repository. Its content is read once, when it is added or when a ref is set.
type Repository struct {
	Owner   string
	Name    string
	ID      int64
	OwnerID int64
	Private bool

	Dir     string   // the folder, or
	FS      fs.FS    // the file system
	Include []string // paths to take, with all below; empty means all
	SHA     string   // commit identifier to claim; empty computes git's own over the content
	Refs    []string // full names (refs/heads/main, refs/tags/v1) that point to it; the first branch is the default branch

	Vars    map[string]string        // configuration variables
	Secrets map[string]secret.String // Actions secrets
}

// repository is a repository in the server's state.
type repository struct {
	Repository
	branch       string // the default branch, short
	refs         map[string]*tree.Commit
	commits      map[string]*tree.Commit
	releases     []*release
	attestations []Attestation
}

func (r *repository) full() string { return r.Owner + "/" + r.Name }

// AddRepository reads a folder and shows it as a repository.
func (s *Server) AddRepository(in Repository) error {
	if in.Owner == "" || in.Name == "" || strings.Contains(in.Owner+in.Name, "/") || in.ID == 0 || in.OwnerID == 0 || len(in.Refs) == 0 {
		return fmt.Errorf("adding repository %s/%s: owner, name, identifiers and a ref are required", in.Owner, in.Name)
	}
	commit, err := snapshot(in)
	if err != nil {
		return fmt.Errorf("adding repository %s/%s: %w", in.Owner, in.Name, err)
	}
	repo := &repository{Repository: in, refs: map[string]*tree.Commit{}, commits: map[string]*tree.Commit{commit.SHA: commit}}
	for _, ref := range in.Refs {
		if !strings.HasPrefix(ref, "refs/heads/") && !strings.HasPrefix(ref, "refs/tags/") {
			return fmt.Errorf("adding repository %s/%s: %q is not refs/heads/… or refs/tags/…", in.Owner, in.Name, ref)
		}
		repo.refs[ref] = commit
		if branch, ok := strings.CutPrefix(ref, "refs/heads/"); ok && repo.branch == "" {
			repo.branch = branch
		}
	}
	if repo.branch == "" {
		repo.branch = "main"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.ToLower(repo.full())
	if s.repositories[key] != nil {
		return fmt.Errorf("adding repository %s: it exists", repo.full())
	}
	s.repositories[key] = repo
	return nil
}

// SetRef reads a folder and points a ref of an existing repository to it, as a push would. It returns the commit. Only Dir, FS,
// Include, SHA and Refs of in are used besides its name.
func (s *Server) SetRef(in Repository) (string, error) {
	commit, err := snapshot(in)
	if err != nil {
		return "", fmt.Errorf("setting a ref of %s/%s: %w", in.Owner, in.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	repo := s.repository(in.Owner, in.Name)
	if repo == nil {
		return "", fmt.Errorf("setting a ref of %s/%s: no such repository", in.Owner, in.Name)
	}
	repo.commits[commit.SHA] = commit
	for _, ref := range in.Refs {
		repo.refs[ref] = commit
	}
	return commit.SHA, nil
}

func snapshot(in Repository) (*tree.Commit, error) {
	fsys := in.FS
	switch {
	case (in.FS == nil) == (in.Dir == ""):
		return nil, errors.New("exactly one of Dir and FS must be set")
	case fsys == nil:
		fsys = os.DirFS(in.Dir)
	}
	return tree.New(fsys, tree.Options{Include: in.Include, SHA: in.SHA})
}

// repository finds a repository; names are case-insensitive. The caller holds mu.
func (s *Server) repository(owner, name string) *repository {
	return s.repositories[strings.ToLower(owner+"/"+name)]
}

// resolve finds a commit by full ref, short branch, short tag, heads/…, tags/…, or (a prefix of at least seven digits of) its
// identifier.
func (r *repository) resolve(ref string) (*tree.Commit, string, bool) {
	for _, prefix := range []string{"", "refs/", "refs/heads/", "refs/tags/"} {
		if c, ok := r.refs[prefix+ref]; ok {
			return c, prefix + ref, true
		}
	}
	if ref == "HEAD" || ref == "" {
		c, ok := r.refs["refs/heads/"+r.branch]
		return c, "refs/heads/" + r.branch, ok
	}
	if len(ref) >= 7 {
		for sha, c := range r.commits {
			if strings.HasPrefix(sha, ref) {
				return c, sha, true
			}
		}
	}
	return nil, "", false
}

// Commit returns the commit that a ref of a repository points to.
func (s *Server) Commit(owner, name, ref string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	repo := s.repository(owner, name)
	if repo == nil {
		return "", false
	}
	c, _, ok := repo.resolve(ref)
	if !ok {
		return "", false
	}
	return c.SHA, true
}
