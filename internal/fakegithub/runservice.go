// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

func (s *Server) routeRunService(mux *http.ServeMux) {
	mux.HandleFunc("POST "+runTenant+"acquirejob", s.acquireJob)
	mux.HandleFunc("POST "+runTenant+"renewjob", s.renewJob)
	mux.HandleFunc("POST "+runTenant+"completejob", s.completeJob)
	mux.HandleFunc("GET "+runTenant+"idtoken/{plan}/{job}", s.idToken)
}

func runError(status int, message string) *serviceError {
	return &serviceError{Source: "actions-run-service", Status: status, Message: message}
}

// acquireJob hands the job's message to the runner it was offered to. From here the job is in progress. A failed acquire ends
// the ephemeral registration, as the real service does, and the broker goes on answering polls with nothing: a ghost.
func (s *Server) acquireJob(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		ID string `json:"jobMessageId"`
		OS string `json:"runnerOS"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&ask); err != nil {
		runError(http.StatusBadRequest, "malformed request").write(w)
		return
	}
	s.mu.Lock()
	raw, fault := s.acquire(r, ask.ID)
	s.mu.Unlock()
	if fault != nil {
		fault.write(w)
		return
	}
	writeJSON(w, http.StatusOK, raw)
}

func (s *Server) acquire(r *http.Request, id string) (json.RawMessage, *serviceError) {
	p := s.lookup(bearer(r))
	if p == nil || p.kind != runnerOAuth || p.runner.removed {
		return nil, runError(http.StatusUnauthorized, "not authorized")
	}
	j := s.byGUID("", id)
	s.asked(p.runner)
	switch {
	case j == nil || j.runner != p.runner || j.status == statusCompleted:
		if p.runner.job == nil {
			p.runner.ghost = true
			s.remove(p.runner)
		}
		s.books.refusals++
		return nil, runError(http.StatusNotFound, "job not found")
	case j.status != statusQueued:
		s.books.refusals++
		return nil, runError(http.StatusConflict, "job already acquired")
	}
	if fault := s.refuse(p.runner, j); fault != nil {
		return nil, fault
	}
	raw, err := json.Marshal(s.message(j))
	if err != nil {
		return nil, runError(http.StatusUnprocessableEntity, err.Error())
	}
	p.runner.drop(j)
	s.granted(p.runner, j)
	j.status, j.started, j.deadline = statusInProgress, s.cfg.Now(), s.steady().Add(s.cfg.Lock)
	s.watch(j, s.cfg.Lock)
	s.settle(j.run)
	s.touch()
	return raw, nil
}

// refuse applies Faults.Acquire. The caller holds mu.
func (s *Server) refuse(r *runner, j *job) *serviceError {
	if s.faults.Acquire == nil {
		return nil
	}
	why := s.faults.Acquire(j.snapshot(), r.snapshot())
	if why == (Refusal{}) {
		return nil
	}
	s.books.refusals++
	r.ghost = true
	s.remove(r)
	if why.Cancel {
		s.cancel(j.run)
	} else {
		s.withdraw(j)
	}
	return runError(cmp.Or(why.Status, http.StatusNotFound), "the job cannot be acquired")
}

// working finds the job in progress whose SystemVssConnection bearer a request carries and that the request names.
func (s *Server) working(r *http.Request, plan, guid string) (*job, *serviceError) {
	p := s.lookup(bearer(r))
	if p == nil || p.kind != jobSystem {
		return nil, runError(http.StatusUnauthorized, "not authorized")
	}
	if j := s.byGUID(plan, guid); j == nil || j != p.job || j.status != statusInProgress {
		return nil, runError(http.StatusNotFound, "job not found")
	}
	return p.job, nil
}

// renewJob keeps the job with its runner.
func (s *Server) renewJob(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Plan string `json:"planId"`
		Job  string `json:"jobId"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&ask); err != nil {
		runError(http.StatusBadRequest, "malformed request").write(w)
		return
	}
	s.mu.Lock()
	j, fault := s.working(r, ask.Plan, ask.Job)
	until := s.cfg.Now().Add(s.cfg.Lock)
	if fault == nil {
		j.deadline = s.steady().Add(s.cfg.Lock)
		s.watch(j, s.cfg.Lock)
	}
	s.mu.Unlock()
	if fault != nil {
		fault.write(w)
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"lockedUntil": until.UTC().Format(time.RFC3339Nano)})
}

// completion is the body of completejob.
type completion struct {
	Plan       string `json:"planId"`
	Job        string `json:"jobId"`
	Conclusion string `json:"conclusion"`
	Outputs    map[string]struct {
		Value string `json:"value"`
	} `json:"outputs"`
	Steps []struct {
		ID         string    `json:"external_id"`
		Number     int       `json:"number"`
		Name       string    `json:"name"`
		Status     string    `json:"status"`
		Conclusion string    `json:"conclusion"`
		Started    time.Time `json:"started_at"`
		Completed  time.Time `json:"completed_at"`
	} `json:"stepResults"`
}

// concluded translates the runner's TaskResult to a conclusion of the REST API.
func concluded(result string) (string, bool) {
	out, ok := map[string]string{
		"succeeded": concludedSuccess, "succeededwithissues": concludedSuccess, "failed": concludedFailure,
		"canceled": concludedCancelled, "skipped": concludedSkipped, "abandoned": concludedFailure,
	}[strings.ToLower(result)]
	return out, ok
}

// completeJob ends the job and with it the registration of its ephemeral runner.
func (s *Server) completeJob(w http.ResponseWriter, r *http.Request) {
	var ask completion
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&ask); err != nil {
		runError(http.StatusBadRequest, "malformed request: "+err.Error()).write(w)
		return
	}
	result, ok := concluded(ask.Conclusion)
	if !ok {
		runError(http.StatusUnprocessableEntity, "unknown conclusion "+ask.Conclusion).write(w)
		return
	}
	s.mu.Lock()
	j, fault := s.working(r, ask.Plan, ask.Job)
	if fault == nil {
		j.outputs = map[string]string{}
		for k, v := range ask.Outputs {
			j.outputs[k] = v.Value
		}
		for _, st := range ask.Steps {
			c, _ := concluded(st.Conclusion)
			j.report(Step{st.ID, st.Number, st.Name, statusCompleted, c, st.Started, st.Completed})
		}
		s.books.completed++
		s.finish(j, result)
	}
	s.mu.Unlock()
	if fault != nil {
		fault.write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// report adds a step, or replaces what was known of it.
func (j *job) report(st Step) {
	for i := range j.steps {
		if j.steps[i].ID == st.ID {
			j.steps[i] = st
			return
		}
	}
	j.steps = append(j.steps, st)
}
