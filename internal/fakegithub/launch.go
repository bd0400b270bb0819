// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

type actionReference struct {
	Action  string `json:"action"`
	Version string `json:"version"`
	Path    string `json:"path"`
}

type actionDownload struct {
	Name         string              `json:"name"`
	ResolvedName string              `json:"resolved_name"`
	ResolvedSHA  string              `json:"resolved_sha"`
	Version      string              `json:"version"`
	TarURL       string              `json:"tar_url"`
	ZipURL       string              `json:"zip_url"`
	Auth         *downloadCredential `json:"authentication,omitempty"`
}

type downloadCredential struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires_at"`
}

type resolutionError struct {
	Message string `json:"message"`
}

// resolveActions is the launch service: it turns owner/repo@ref into a commit and download links, for the job whose
// SystemVssConnection bearer the request carries; 422 with one error an action when any is unknown (LaunchHttpClient.cs).
func (s *Server) resolveActions(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Actions []actionReference `json:"actions"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&ask); err != nil {
		http.Error(w, "malformed request", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	j, fault := s.working(r, r.PathValue("plan"), r.PathValue("job"))
	found, missing := map[string]actionDownload{}, map[string]resolutionError{}
	if fault == nil {
		for _, a := range ask.Actions {
			key := a.Action + "@" + a.Version
			if d, ok := s.download(j, a); ok {
				found[key] = d
				continue
			}
			missing[key] = resolutionError{fmt.Sprintf("Unable to resolve action `%s`, unable to find version `%s`", strings.ToLower(key), a.Version)}
		}
	}
	s.mu.Unlock()
	switch {
	case fault != nil:
		http.Error(w, fault.Message, fault.Status)
	case len(missing) > 0:
		writeJSON(w, http.StatusUnprocessableEntity, map[string]any{"errors": missing})
	default:
		writeJSON(w, http.StatusOK, map[string]any{"actions": found})
	}
}

// download resolves one action. Another private repository than the job's own is not found.
func (s *Server) download(j *job, a actionReference) (actionDownload, bool) {
	owner, name, _ := strings.Cut(a.Action, "/")
	repo := s.repository(owner, name)
	if repo == nil || repo.Private && repo != j.run.repo {
		return actionDownload{}, false
	}
	commit, _, ok := repo.resolve(a.Version)
	if !ok {
		return actionDownload{}, false
	}
	base := s.repoURL(repo)
	d := actionDownload{
		Name: a.Action, ResolvedName: repo.full(), ResolvedSHA: commit.SHA, Version: a.Version,
		TarURL: base + "/tarball/" + commit.SHA, ZipURL: base + "/zipball/" + commit.SHA,
	}
	if repo.Private {
		d.Auth = &downloadCredential{j.token, s.cfg.Now().Add(time.Hour).UTC()}
	}
	return d, true
}
