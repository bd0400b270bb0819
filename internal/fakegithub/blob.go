// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"cmp"
	"crypto/subtle"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// blob is one object of the blob storage: written under a signed URL, once as a whole or appended to until sealed.
type blob struct {
	number    int64 // in the order of creation
	signature string
	kind      string // BlockBlob or AppendBlob; empty until written
	sealed    bool
	data      []byte
}

func (j *job) base() string {
	return j.run.plan + "/workflow-job-run-" + j.guid + "/"
}

func (j *job) logPath(step string) string {
	if step == "" {
		return j.base() + "logs/job/job-logs.txt"
	}
	return j.base() + "logs/steps/step-logs-" + strings.ToLower(step) + ".txt"
}

func (j *job) summaryPath(step string) string {
	return j.base() + "summaries/step-summary-" + strings.ToLower(step) + ".md"
}

// signedURL returns the URL under which a blob may be written and read. The caller holds mu.
func (s *Server) signedURL(path string) string {
	b := s.blobs[path]
	if b == nil {
		b = &blob{number: s.next("blob"), signature: random(16)}
		s.blobs[path] = b
	}
	expiry := s.cfg.Now().Add(time.Hour).UTC().Format("2006-01-02T15%3A04%3A05Z")
	return s.urls[serviceBlobs] + "/actions-results/" + path + "?se=" + expiry + "&sig=" + b.signature + "&sp=cw&sr=b&sv=2025-11-05"
}

// signed finds the blob of a request with the right signature. The caller holds mu.
func (s *Server) signed(r *http.Request) *blob {
	b := s.blobs[r.PathValue("path")]
	if b == nil || subtle.ConstantTimeCompare([]byte(b.signature), []byte(r.URL.Query().Get("sig"))) != 1 {
		return nil
	}
	return b
}

// putBlob writes a whole blob, makes an append blob, or appends to one (comp=appendblock, seal=true for the last piece).
func (s *Server) putBlob(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, logLimit))
	if err != nil {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	s.mu.Lock()
	status := s.storeBlob(r, data)
	s.mu.Unlock()
	w.WriteHeader(status)
}

func (s *Server) storeBlob(r *http.Request, data []byte) int {
	b := s.signed(r)
	if b == nil {
		return http.StatusForbidden
	}
	const block, appending = "BlockBlob", "AppendBlob"
	kind := r.Header.Get("x-ms-blob-type")
	switch part := r.URL.Query().Get("comp") == "appendblock"; {
	case part && (b.kind != appending || b.sealed):
		return http.StatusConflict
	case part && len(b.data)+len(data) > logLimit:
		return http.StatusRequestEntityTooLarge
	case part:
		b.data = append(b.data, data...)
		b.sealed = r.URL.Query().Get("seal") == "true"
	case kind != block && kind != appending:
		return http.StatusBadRequest
	case b.kind != "":
		return http.StatusConflict
	default:
		b.kind, b.data, b.sealed = kind, data, kind == block
	}
	s.touch()
	return http.StatusCreated
}

func (s *Server) getBlob(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	b := s.signed(r)
	var data []byte
	if b != nil {
		data = b.data
	}
	s.mu.Unlock()
	if b == nil {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(data)
}

// StepLog returns the log that the runner uploaded for a step of a job, as it is on GitHub's page.
func (s *Server) StepLog(jobID int64, step string) ([]byte, bool) {
	return s.stored(jobID, func(j *job) string { return j.logPath(step) })
}

// StepSummary returns the summary that a step wrote to GITHUB_STEP_SUMMARY.
func (s *Server) StepSummary(jobID int64, step string) ([]byte, bool) {
	return s.stored(jobID, func(j *job) string { return j.summaryPath(step) })
}

// JobLog returns the job's log: the one the runner uploaded as a whole, or else its steps' logs in the order they came.
func (s *Server) JobLog(jobID int64) ([]byte, bool) {
	if whole, ok := s.stored(jobID, func(j *job) string { return j.logPath("") }); ok {
		return whole, true
	}
	return s.joined(jobID, "logs/steps/")
}

// JobSummary returns the summaries of a job's steps in the order they came, as GitHub's page shows them.
func (s *Server) JobSummary(jobID int64) ([]byte, bool) { return s.joined(jobID, "summaries/") }

// joined returns the blobs of a job below a folder, one after another.
func (s *Server) joined(jobID int64, folder string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobByID(jobID)
	if j == nil {
		return nil, false
	}
	var found []*blob
	for path, b := range s.blobs {
		if strings.HasPrefix(path, j.base()+folder) && b.kind != "" {
			found = append(found, b)
		}
	}
	slices.SortFunc(found, func(a, b *blob) int { return cmp.Compare(a.number, b.number) })
	var out []byte
	for _, b := range found {
		out = append(out, b.data...)
	}
	return out, len(found) > 0
}

func (s *Server) stored(jobID int64, path func(*job) string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobByID(jobID)
	if j == nil {
		return nil, false
	}
	b := s.blobs[path(j)]
	if b == nil || b.kind == "" {
		return nil, false
	}
	return append([]byte(nil), b.data...), true
}

func (s *Server) jobByID(id int64) *job {
	for _, j := range s.jobs {
		if j.id == id {
			return j
		}
	}
	return nil
}
