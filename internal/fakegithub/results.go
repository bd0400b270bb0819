// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

const (
	receiver    = "/twirp/results.services.receiver.Receiver/"
	stepUpdates = "/twirp/github.actions.results.api.v1.WorkflowStepUpdateService/WorkflowStepsUpdate"

	storageType  = "BLOB_STORAGE_TYPE_AZURE"
	summaryLimit = 1 << 20 // bytes of one step's summary
	logLimit     = 64 << 20
)

// resultsCall is the part of the results service's requests that names a job and a step.
type resultsCall struct {
	Plan string `json:"workflow_run_backend_id"`
	Job  string `json:"workflow_job_run_backend_id"`
	Step string `json:"step_backend_id"`
}

func (s *Server) routeResults(results, blobs *http.ServeMux) {
	for method, h := range map[string]func(*job, resultsCall) any{
		"GetStepSummarySignedBlobURL": func(j *job, q resultsCall) any {
			return map[string]any{"summary_url": s.signedURL(j.summaryPath(q.Step)), "soft_size_limit": summaryLimit, "blob_storage_type": storageType}
		},
		"GetStepLogsSignedBlobURL": func(j *job, q resultsCall) any {
			return map[string]any{"logs_url": s.signedURL(j.logPath(q.Step)), "soft_size_limit": logLimit, "blob_storage_type": storageType}
		},
		"GetJobLogsSignedBlobURL": func(j *job, _ resultsCall) any {
			return map[string]any{"logs_url": s.signedURL(j.logPath("")), "blob_storage_type": storageType}
		},
		"GetJobDiagLogsSignedBlobURL": func(j *job, _ resultsCall) any {
			return map[string]any{"diag_logs_url": s.signedURL(j.base() + "logs/runner/diag.zip"), "blob_storage_type": storageType}
		},
		"CreateStepSummaryMetadata": func(*job, resultsCall) any { return map[string]bool{"ok": true} },
		"CreateStepLogsMetadata":    func(*job, resultsCall) any { return map[string]bool{"ok": true} },
		"CreateJobLogsMetadata":     func(*job, resultsCall) any { return map[string]bool{"ok": true} },
	} {
		results.Handle("POST "+receiver+method, s.results(func(j *job, raw []byte) (any, error) {
			var q resultsCall
			if err := json.Unmarshal(raw, &q); err != nil {
				return nil, err
			}
			return h(j, q), nil
		}))
	}
	results.Handle("POST "+stepUpdates, s.results(s.updateSteps))
	blobs.HandleFunc("PUT /actions-results/{path...}", s.putBlob)
	blobs.HandleFunc("GET /actions-results/{path...}", s.getBlob)
}

// results authenticates a twirp call by the job's SystemVssConnection bearer, which stays good for uploads after the job.
func (s *Server) results(h func(*job, []byte) (any, error)) http.Handler {
	fail := func(w http.ResponseWriter, status int, code, message string) {
		writeJSON(w, status, map[string]string{"code": code, "msg": message})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var raw json.RawMessage
		var q resultsCall
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&raw); err != nil {
			fail(w, http.StatusBadRequest, "malformed", err.Error())
			return
		}
		if err := json.Unmarshal(raw, &q); err != nil {
			fail(w, http.StatusBadRequest, "malformed", err.Error())
			return
		}
		s.mu.Lock()
		p := s.lookup(bearer(r))
		authentic := p != nil && p.kind == jobSystem
		var answer any
		var err error
		named := authentic && strings.EqualFold(p.job.guid, q.Job) && strings.EqualFold(p.job.run.plan, q.Plan)
		if named {
			answer, err = h(p.job, raw)
		}
		s.mu.Unlock()
		switch {
		case !authentic:
			fail(w, http.StatusUnauthorized, "unauthenticated", "not authorized")
		case !named:
			fail(w, http.StatusForbidden, "permission_denied", "the token is for another job")
		case err != nil:
			fail(w, http.StatusBadRequest, "malformed", err.Error())
		default:
			writeJSON(w, http.StatusOK, answer)
		}
	})
}

// updateSteps stores what the runner says of its steps (Contracts.cs, StepsUpdateRequest). The caller holds mu.
func (s *Server) updateSteps(j *job, raw []byte) (any, error) {
	var ask struct {
		Steps []struct {
			ID         string `json:"external_id"`
			Number     int    `json:"number"`
			Name       string `json:"name"`
			Status     int    `json:"status"`
			Conclusion int    `json:"conclusion"`
			Started    string `json:"started_at"`
			Completed  string `json:"completed_at"`
		} `json:"steps"`
	}
	if err := json.Unmarshal(raw, &ask); err != nil {
		return nil, err
	}
	status := map[int]string{3: statusInProgress, 5: statusQueued, 6: statusCompleted}
	conclusion := map[int]string{2: concludedSuccess, 3: concludedFailure, 4: concludedCancelled, 7: concludedSkipped}
	for _, u := range ask.Steps {
		st := Step{ID: u.ID, Number: u.Number, Name: u.Name, Status: cmp.Or(status[u.Status], statusQueued), Conclusion: conclusion[u.Conclusion]}
		st.Started, st.Completed = moment(u.Started), moment(u.Completed)
		j.report(st)
	}
	s.touch()
	return map[string]bool{"ok": true}, nil
}

// moment reads a time of a step; the runner sends an empty string for one that has not come.
func moment(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t
}
