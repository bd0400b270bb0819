// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/kettle/attest/internal/fakegithub/jobmessage"
)

// The kinds of broker error that the runner knows (BrokerErrorKind.cs).
const (
	kindAcknowledgeNotFound = "AcknowledgeJobNotFound"
	kindRunnerNotFound      = "RunnerNotFound"
	kindSessionInvalid      = "RunnerSessionInvalid"
	kindVersionTooOld       = "RunnerVersionTooOld"
)

func (s *Server) routeBroker(mux *http.ServeMux) {
	mux.HandleFunc("POST /session", s.createSession)
	mux.HandleFunc("DELETE /session", s.deleteSession)
	mux.HandleFunc("GET /message", s.poll)
	mux.HandleFunc("POST /acknowledge", s.acknowledge)
}

// serviceError is an error in the form of the broker and the run service.
type serviceError struct {
	Source  string `json:"source"`
	Kind    string `json:"errorKind,omitempty"`
	Status  int    `json:"statusCode"`
	Message string `json:"errorMessage"`
}

func (e *serviceError) write(w http.ResponseWriter) { writeJSON(w, e.Status, e) }

func brokerError(status int, kind, message string) *serviceError {
	return &serviceError{"actions-broker-listener", kind, status, message}
}

// listener finds the runner behind a broker request. A runner whose registration is gone is told so.
func (s *Server) listener(r *http.Request) (*runner, *serviceError) {
	p := s.lookup(bearer(r))
	switch {
	case p == nil || p.kind != runnerOAuth:
		return nil, brokerError(http.StatusUnauthorized, "", "Not authorized")
	case p.runner.removed && !p.runner.ghost:
		return nil, brokerError(http.StatusNotFound, kindRunnerNotFound, "Registration "+p.runner.clientID+" was not found.")
	}
	return p.runner, nil
}

// createSession answers POST session with 201 and the session: one a runner, 409 while another is open.
func (s *Server) createSession(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Owner string `json:"ownerName"`
		Agent struct {
			ID      json.Number `json:"id"`
			Name    string      `json:"name"`
			Version string      `json:"version"`
			OS      string      `json:"osDescription"`
		} `json:"agent"`
		Fips bool `json:"useFipsEncryption"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&ask); err != nil {
		brokerError(http.StatusBadRequest, "", "malformed session").write(w)
		return
	}
	s.mu.Lock()
	run, fault := s.listener(r)
	switch {
	case fault != nil:
	case ask.Agent.ID.String() != decimal(run.id):
		fault = brokerError(http.StatusForbidden, "", "The agent is not the one of the credential.")
	case run.session != "" || s.faults.SessionConflict:
		fault = brokerError(http.StatusConflict, "", "A session for this runner already exists.")
	default:
		run.session = newID()
		s.assign()
		s.touch()
	}
	var answer map[string]any
	if fault == nil {
		answer = map[string]any{
			"sessionId": run.session, "encryptionKey": nil, "ownerName": ask.Owner, "useFipsEncryption": ask.Fips,
			"agent": map[string]any{"id": run.id, "name": run.name, "version": ask.Agent.Version, "osDescription": ask.Agent.OS, "ephemeral": true, "status": 0},
		}
	}
	s.mu.Unlock()
	if fault != nil {
		fault.write(w)
		return
	}
	writeJSON(w, http.StatusCreated, answer)
}

// deleteSession answers DELETE session: 204, or 401 once the registration is gone. A job that was offered and not acquired goes
// back to the queue.
func (s *Server) deleteSession(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	run, fault := s.listener(r)
	if fault == nil {
		run.session = ""
		if j := run.job; j != nil && j.status == statusQueued {
			s.withdraw(j)
		}
		s.touch()
	}
	s.mu.Unlock()
	if fault != nil {
		brokerError(http.StatusUnauthorized, "", "Not authorized").write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// inSession finds the runner of a request that names a session.
func (s *Server) inSession(r *http.Request) (*runner, *serviceError) {
	run, fault := s.listener(r)
	if fault != nil {
		return nil, fault
	}
	if id := r.URL.Query().Get("sessionId"); run.session == "" || !strings.EqualFold(run.session, id) {
		return nil, brokerError(http.StatusBadRequest, kindSessionInvalid, "The session is not valid.")
	}
	return run, nil
}

// poll answers GET message: the next message, or 202 without a body when none came in time.
func (s *Server) poll(w http.ResponseWriter, r *http.Request) {
	busy := strings.EqualFold(r.URL.Query().Get("status"), "busy")
	var next *delivery
	var fault *serviceError
	_, err := s.await(r.Context(), s.cfg.Poll, func() bool {
		var run *runner
		if run, fault = s.inSession(r); fault != nil {
			return true
		}
		if fault = s.introduce(run, r.URL.Query()); fault != nil {
			return true
		}
		for i, d := range run.inbox {
			if busy && d.kind == jobmessage.TypeJobRequest {
				continue
			}
			next = &d
			if d.kind != jobmessage.TypeJobRequest {
				run.inbox = append(run.inbox[:i:i], run.inbox[i+1:]...)
			}
			return true
		}
		return false
	})
	switch {
	case err != nil:
		brokerError(http.StatusServiceUnavailable, "", err.Error()).write(w)
	case fault != nil:
		fault.write(w)
	case next == nil:
		w.WriteHeader(http.StatusAccepted)
	default:
		writeJSON(w, http.StatusOK, map[string]any{"messageId": next.id, "messageType": next.kind, "body": next.body})
	}
}

// introduce notes what a polling runner says of itself, turns it away when it is too old, and tells it to update itself if it
// may. The caller holds mu.
func (s *Server) introduce(r *runner, q url.Values) *serviceError {
	if os := q.Get("os"); os != "" {
		r.os = strings.ToLower(os)
	}
	if version := q.Get("runnerVersion"); version != "" {
		r.version = version
	}
	if least := s.faults.MinimumVersion; least != "" && older(r.version, least) {
		return brokerError(http.StatusForbidden, kindVersionTooOld,
			"Runner version v"+r.version+" is deprecated and cannot receive messages.")
	}
	update := s.faults.Update
	if update == "" || r.told || update == r.version || strings.EqualFold(q.Get("disableUpdate"), "true") {
		return nil
	}
	r.told = true
	body := compact(map[string]any{
		"target_version": update, "os": r.os, "sha256_checksum": strings.Repeat("0", 64),
		"download_url": s.urls[serviceServer] + "/actions/runner/releases/download/v" + update + "/actions-runner-linux-x64-" + update + ".tar.gz",
	})
	r.inbox = slices.Insert(r.inbox, 0, delivery{s.next("message"), jobmessage.TypeRefresh, body, nil})
	return nil
}

// older compares two versions number by number; what is not a number is older than any.
func older(version, least string) bool {
	parse := func(v string) []int {
		var out []int
		for part := range strings.SplitSeq(v, ".") {
			n, err := strconv.Atoi(part)
			if err != nil {
				return nil
			}
			out = append(out, n)
		}
		return out
	}
	return slices.Compare(parse(version), parse(least)) < 0
}

// acknowledge takes a job offer out of the inbox.
func (s *Server) acknowledge(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		ID string `json:"runnerRequestId"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&ask); err != nil {
		brokerError(http.StatusBadRequest, "", "malformed acknowledgement").write(w)
		return
	}
	s.mu.Lock()
	run, fault := s.inSession(r)
	if fault == nil && (run.job == nil || run.job.guid != ask.ID || run.job.status != statusQueued) {
		fault = brokerError(http.StatusNotFound, kindAcknowledgeNotFound, "Job "+ask.ID+" was not found.")
	}
	if fault == nil {
		run.drop(run.job)
	}
	s.mu.Unlock()
	if fault != nil {
		fault.write(w)
		return
	}
	writeJSON(w, http.StatusOK, struct{}{})
}

// drop takes the offer of a job out of the inbox.
func (r *runner) drop(j *job) {
	kept := r.inbox[:0]
	for _, d := range r.inbox {
		if d.job != j || d.kind != jobmessage.TypeJobRequest {
			kept = append(kept, d)
		}
	}
	r.inbox = kept
}

// jobReference is the body of a RunnerJobRequest: where the job itself is fetched.
func (s *Server) jobReference(j *job) string {
	return compact(map[string]any{
		"id": j.guid, "runner_request_id": j.guid, "run_service_url": s.urls[serviceRun] + runTenant,
		"billing_owner_id": billing(j.run.repo), "should_acknowledge": true,
	})
}

// tell sends a JobCancellation to the runner of a job. The caller holds mu.
func (s *Server) tell(j *job) {
	body := compact(map[string]any{"jobId": j.guid, "timeout": "00:05:00"})
	j.runner.inbox = append(j.runner.inbox, delivery{s.next("message"), jobmessage.TypeCancellation, body, j})
	s.touch()
}

// compact encodes plain values as JSON.
func compact(v map[string]any) string {
	raw, err := json.Marshal(v)
	if err != nil { // plain values: cannot happen
		return "{}"
	}
	return string(raw)
}
