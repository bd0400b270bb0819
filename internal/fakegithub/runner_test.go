// SPDX-License-Identifier: Apache-2.0

package fakegithub_test

import (
	"errors"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-github/v60/github"

	"github.com/kettle/attest/internal/fakegithub"
)

// status returns the HTTP status of a go-github error.
func status(err error) int {
	var e *github.ErrorResponse
	if errors.As(err, &e) {
		return e.Response.StatusCode
	}
	if err != nil {
		return -1
	}
	return http.StatusOK
}

func TestRegistration(t *testing.T) {
	t.Parallel()
	s, base := start(t)
	c := client(t, base, operatorToken)
	req := &github.GenerateJITConfigRequest{Name: "host-1", RunnerGroupID: 1, Labels: []string{"attested-cvm"}}
	cfg, resp, err := c.Actions.GenerateRepoJITConfig(t.Context(), "acme", "widget", req)
	if err != nil || resp.StatusCode != http.StatusCreated || resp.Header.Get("X-Github-Request-Id") == "" {
		t.Fatal(err, resp)
	}
	r := cfg.GetRunner()
	if r.GetName() != "host-1" || r.GetStatus() != "offline" || r.GetBusy() || len(r.Labels) != 1 {
		t.Errorf("runner %+v", r)
	}
	if _, _, err := c.Actions.GenerateRepoJITConfig(t.Context(), "acme", "widget", req); status(err) != http.StatusConflict {
		t.Errorf("same name again: %v", err)
	}
	if _, _, err := c.Actions.GenerateOrgJITConfig(t.Context(), "acme", req); err != nil {
		t.Errorf("same name in the organization: %v", err)
	}
	list, _, err := c.Actions.ListRunners(t.Context(), "acme", "widget", nil)
	if err != nil || list.TotalCount != 1 || list.Runners[0].GetID() != r.GetID() {
		t.Errorf("list %+v: %v", list, err)
	}
	if _, _, err := c.Actions.GetRunner(t.Context(), "acme", "safe", r.GetID()); status(err) != http.StatusNotFound {
		t.Errorf("runner seen from another repository: %v", err)
	}
	if _, err := c.Actions.RemoveRunner(t.Context(), "acme", "widget", r.GetID()); err != nil {
		t.Error(err)
	}
	if _, err := c.Actions.RemoveRunner(t.Context(), "acme", "widget", r.GetID()); status(err) != http.StatusNotFound {
		t.Errorf("removing twice: %v", err)
	}
	if left := s.Runners(); len(left) != 1 {
		t.Errorf("runners left: %+v", left)
	}
}

func TestRegistrationRefused(t *testing.T) {
	t.Parallel()
	_, base := start(t)
	many := make([]string, 101)
	for i := range many {
		many[i] = strconv.Itoa(i)
	}
	tests := map[string]struct {
		token, repo string
		req         github.GenerateJITConfigRequest
		want        int
	}{
		"anonymous":       {"", "widget", github.GenerateJITConfigRequest{Name: "n", RunnerGroupID: 1, Labels: many[:1]}, http.StatusUnauthorized},
		"wrong token":     {"ghp_wrong", "widget", github.GenerateJITConfigRequest{Name: "n", RunnerGroupID: 1, Labels: many[:1]}, http.StatusUnauthorized},
		"no name":         {operatorToken, "widget", github.GenerateJITConfigRequest{RunnerGroupID: 1, Labels: many[:1]}, http.StatusUnprocessableEntity},
		"no label":        {operatorToken, "widget", github.GenerateJITConfigRequest{Name: "n", RunnerGroupID: 1}, http.StatusUnprocessableEntity},
		"101 labels":      {operatorToken, "widget", github.GenerateJITConfigRequest{Name: "n", RunnerGroupID: 1, Labels: many}, http.StatusUnprocessableEntity},
		"unknown group":   {operatorToken, "widget", github.GenerateJITConfigRequest{Name: "n", RunnerGroupID: 7, Labels: many[:1]}, http.StatusNotFound},
		"no such repo":    {operatorToken, "nothing", github.GenerateJITConfigRequest{Name: "n", RunnerGroupID: 1, Labels: many[:1]}, http.StatusNotFound},
		"private, nobody": {"", "safe", github.GenerateJITConfigRequest{Name: "n", RunnerGroupID: 1, Labels: many[:1]}, http.StatusNotFound},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := client(t, base, test.token).Actions.GenerateRepoJITConfig(t.Context(), "acme", test.repo, &test.req)
			if status(err) != test.want {
				t.Errorf("got %v, want %d", err, test.want)
			}
		})
	}
	body, _ := send(t, http.MethodPost, base+"/repos/acme/widget/actions/runners/generate-jitconfig", operatorToken, "", []byte(`{"name":"n","labels":["a"]}`))
	if body != http.StatusUnprocessableEntity {
		t.Errorf("without runner_group_id: %d", body)
	}
}

func TestClientAssertion(t *testing.T) {
	t.Parallel()
	_, base := start(t)
	m := newMini(t, base, "host-1", "attested-cvm")
	all, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	other := all[0]
	if other.Equal(m.key) {
		t.Fatal("the keys must differ")
	}
	tests := map[string]struct {
		assertion string
		ok        bool
	}{
		"PS256":          {m.assertion(jose.PS256, m.key, nil), true},
		"RS256":          {m.assertion(jose.RS256, m.key, nil), true},
		"RS512":          {m.assertion(jose.RS512, m.key, nil), false},
		"another key":    {m.assertion(jose.PS256, other, nil), false},
		"wrong audience": {m.assertion(jose.PS256, m.key, map[string]any{"aud": "https://elsewhere"}), false},
		"wrong subject":  {m.assertion(jose.PS256, m.key, map[string]any{"sub": "x"}), false},
		"unknown client": {m.assertion(jose.PS256, m.key, map[string]any{"iss": "x", "sub": "x"}), false},
		"expired":        {m.assertion(jose.PS256, m.key, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}), false},
		"no expiry":      {m.assertion(jose.PS256, m.key, map[string]any{"exp": nil}), false},
		"garbage":        {"a.b.c", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := *m
			m.t = t
			code, out := m.authorize(test.assertion)
			if test.ok != (code == http.StatusOK) || !test.ok && out["error"] != "invalid_client" {
				t.Errorf("got %d %v", code, out)
			}
		})
	}
}

func TestOneJob(t *testing.T) {
	t.Parallel()
	s, base := start(t)
	c := client(t, base, operatorToken)
	m := newMini(t, base, "host-1", "self-hosted", "attested-cvm")
	m.connect()
	run := dispatch(t, s, "widget", "build.yml")
	id := run.Jobs[0].ID
	job, _, err := c.Actions.GetWorkflowJobByID(t.Context(), "acme", "widget", id)
	if err != nil || job.GetStatus() != "queued" || job.GetRunnerID() != m.id {
		t.Fatalf("offered job: %+v %v", job, err)
	}
	o := m.offered()
	if again := m.offered(); again.ID != o.ID {
		t.Fatal("an offer that is not acknowledged must be repeated")
	}
	if _, err := c.Actions.RemoveRunner(t.Context(), "acme", "widget", m.id); status(err) != http.StatusUnprocessableEntity {
		t.Errorf("removing a busy runner: %v", err)
	}
	w := m.acquire(o)
	if job, _, err = c.Actions.GetWorkflowJobByID(t.Context(), "acme", "widget", id); err != nil || job.GetStatus() != "in_progress" || job.GetRunnerName() != "host-1" {
		t.Fatalf("acquired job: %+v %v", job, err)
	}
	if code, _ := m.call(o.URL+"acquirejob", m.token, map[string]string{"jobMessageId": o.ID}); code != http.StatusConflict {
		t.Errorf("acquiring twice: %d", code)
	}
	if code := w.renew(); code != http.StatusOK {
		t.Errorf("renewjob: %d", code)
	}
	if code, _ := m.call(w.url+"renewjob", m.token, map[string]string{"planId": w.Plan.PlanID, "jobId": w.JobID}); code != http.StatusUnauthorized {
		t.Errorf("renewjob with the runner's token: %d", code)
	}
	w.upload("GetStepLogsSignedBlobURL", "logs_url", w.Steps[1].ID, "one\n", "two\n")
	w.upload("GetStepSummarySignedBlobURL", "summary_url", w.Steps[2].ID, "# Attested\n")
	w.upload("GetJobLogsSignedBlobURL", "logs_url", "", "whole\n")
	if code := w.complete("succeeded", map[string]any{"bundle": map[string]any{"value": "/x"}}); code != http.StatusNoContent {
		t.Fatalf("completejob: %d", code)
	}
	done, err := s.Wait(t.Context(), run)
	if err != nil || done.Conclusion != "success" || done.Jobs[0].Outputs["bundle"] != "/x" || done.Jobs[0].RunnerID != m.id {
		t.Fatalf("run %+v: %v", done, err)
	}
	checkResults(t, s, c, w, id)
	if left := s.Runners(); len(left) != 0 {
		t.Errorf("the registration must be gone: %+v", left)
	}
	for what, code := range map[string]int{"renewjob": w.renew(), "completejob": w.complete("succeeded", nil)} {
		if code != http.StatusNotFound {
			t.Errorf("%s after the end: %d", what, code)
		}
	}
	if code, _ := m.poll("Online"); code != http.StatusNotFound {
		t.Errorf("polling after the end: %d", code)
	}
	if code, _ := m.broker(http.MethodDelete, "session", nil); code != http.StatusUnauthorized {
		t.Errorf("deleting the session after the end: %d", code)
	}
	if code, out := m.authorize(m.assertion(jose.PS256, m.key, nil)); code != http.StatusBadRequest || out["error"] != "invalid_client" {
		t.Errorf("token after the end: %d %v", code, out)
	}
}

func checkResults(t *testing.T, s *fakegithub.Server, c *github.Client, w *work, id int64) {
	t.Helper()
	if log, ok := s.StepLog(id, w.Steps[1].ID); !ok || string(log) != "one\ntwo\n" {
		t.Errorf("step log %q", log)
	}
	if sum, ok := s.StepSummary(id, w.Steps[2].ID); !ok || string(sum) != "# Attested\n" {
		t.Errorf("summary %q", sum)
	}
	if sum, ok := s.JobSummary(id); !ok || string(sum) != "# Attested\n" {
		t.Errorf("job summary %q", sum)
	}
	if log, ok := s.JobLog(id); !ok || string(log) != "whole\n" {
		t.Errorf("job log %q", log)
	}
	u, _, err := c.Actions.GetWorkflowJobLogs(t.Context(), "acme", "widget", id, 0)
	if err != nil {
		t.Fatal(err)
	}
	if code, body := send(t, http.MethodGet, u.String(), "", "", nil); code != http.StatusOK || string(body) != "whole\n" {
		t.Errorf("job log by link: %d %q", code, body)
	}
	job, _, err := c.Actions.GetWorkflowJobByID(t.Context(), "acme", "widget", id)
	if err != nil || job.GetConclusion() != "success" || len(job.Steps) != 1 || job.Steps[0].GetNumber() != 2 {
		t.Errorf("job %+v: %v", job, err)
	}
}

func TestBrokerRefuses(t *testing.T) {
	t.Parallel()
	_, base := start(t)
	m := newMini(t, base, "host-1", "attested-cvm")
	if code, _ := m.broker(http.MethodPost, "session", map[string]any{"agent": map[string]any{"id": m.id}}); code != http.StatusUnauthorized {
		t.Errorf("session without a token: %d", code)
	}
	m.login()
	if code, _ := m.broker(http.MethodPost, "session", map[string]any{"agent": map[string]any{"id": m.id + 1}}); code != http.StatusForbidden {
		t.Errorf("session of another agent: %d", code)
	}
	m.connect()
	if code, _ := m.broker(http.MethodPost, "session", map[string]any{"agent": map[string]any{"id": m.id}}); code != http.StatusConflict {
		t.Errorf("second session: %d", code)
	}
	if code, body := m.broker(http.MethodGet, "message?sessionId=other", nil); code != http.StatusBadRequest {
		t.Errorf("foreign session: %d %s", code, body)
	}
	if code, body := m.broker(http.MethodPost, "acknowledge?sessionId="+m.session, map[string]string{"runnerRequestId": "x"}); code != http.StatusNotFound {
		t.Errorf("acknowledging nothing: %d %s", code, body)
	}
	if code, _ := m.broker(http.MethodDelete, "session", nil); code != http.StatusNoContent {
		t.Errorf("deleting the session: %d", code)
	}
}

// A poll in hand ends when the registration is deleted.
func TestRemovalWakesPoll(t *testing.T) {
	t.Parallel()
	_, base := start(t)
	m := newMini(t, base, "host-1", "attested-cvm")
	m.connect()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.settled["ServerUrlV2"]+"message?sessionId="+m.session, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+m.token)
	code := make(chan int)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			code <- -1
			return
		}
		_ = resp.Body.Close()
		code <- resp.StatusCode
	}()
	if _, err := client(t, base, operatorToken).Actions.RemoveRunner(t.Context(), "acme", "widget", m.id); err != nil {
		t.Fatal(err)
	}
	if got := <-code; got != http.StatusNotFound {
		t.Errorf("poll: %d", got)
	}
}

func TestLabelsDecide(t *testing.T) {
	t.Parallel()
	s, base := start(t)
	wrong := newMini(t, base, "wrong", "attested-cvm")
	wrong.connect()
	run := dispatch(t, s, "widget", "build.yml") // asks for self-hosted too
	if got, err := s.WaitFor(t.Context(), run, func(*fakegithub.Run) bool { return true }); err != nil || got.Jobs[0].RunnerID != 0 {
		t.Fatalf("a runner without the label got the job: %+v %v", got, err)
	}
	right := newMini(t, base, "right", "Attested-CVM", "self-hosted")
	right.connect()
	if o := right.offered(); o.ID != run.Jobs[0].GUID {
		t.Errorf("offered %q", o.ID)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	s, base := start(t)
	queued := dispatch(t, s, "widget", "build.yml")
	s.Cancel(queued)
	if done, err := s.Wait(t.Context(), queued); err != nil || done.Conclusion != "cancelled" {
		t.Fatalf("%+v %v", done, err)
	}
	m := newMini(t, base, "host-1", "self-hosted", "attested-cvm")
	m.connect()
	run := dispatch(t, s, "widget", "build.yml")
	w := m.acquire(m.offered())
	if resp, err := client(t, base, operatorToken).Actions.CancelWorkflowRunByID(t.Context(), "acme", "widget", run.ID); resp == nil || resp.StatusCode != http.StatusAccepted {
		t.Fatal(resp, err)
	}
	code, msg := m.poll("Busy")
	if code != http.StatusOK || msg.MessageType != "JobCancellation" || msg.Body != `{"jobId":"`+w.JobID+`","timeout":"00:05:00"}` {
		t.Fatalf("%d %+v", code, msg)
	}
	if code := w.complete("canceled", nil); code != http.StatusNoContent {
		t.Fatal(code)
	}
	if done, err := s.Wait(t.Context(), run); err != nil || done.Conclusion != "cancelled" {
		t.Fatalf("%+v %v", done, err)
	}
}

// A job cancelled between offer and acquire is not found, and the registration is used up.
func TestCancelBeforeAcquire(t *testing.T) {
	t.Parallel()
	s, base := start(t)
	m := newMini(t, base, "host-1", "self-hosted", "attested-cvm")
	m.connect()
	run := dispatch(t, s, "widget", "build.yml")
	o := m.offered()
	s.Cancel(run)
	if code, _ := m.call(o.URL+"acquirejob", m.token, map[string]string{"jobMessageId": o.ID}); code != http.StatusNotFound {
		t.Errorf("acquirejob: %d", code)
	}
	if left := s.Runners(); len(left) != 0 {
		t.Errorf("runners left: %+v", left)
	}
}

// A runner that leaves without acquiring gives the job back.
func TestOfferReturns(t *testing.T) {
	t.Parallel()
	s, base := start(t)
	first, second := newMini(t, base, "host-1", "attested-cvm"), newMini(t, base, "host-2", "attested-cvm")
	first.connect()
	run := dispatch(t, s, "widget", "two.yml")
	first.offeredAgain(run.Jobs[0].GUID)
	second.connect()
	if code, _ := first.broker(http.MethodDelete, "session", nil); code != http.StatusNoContent {
		t.Fatal(code)
	}
	second.offeredAgain(run.Jobs[0].GUID)
}

func TestNeeds(t *testing.T) {
	t.Parallel()
	for conclusion, want := range map[string]string{"succeeded": "queued", "failed": "completed"} {
		t.Run(conclusion, func(t *testing.T) {
			t.Parallel()
			s, base := start(t)
			m := newMini(t, base, "host-1", "attested-cvm")
			m.connect()
			run := dispatch(t, s, "widget", "two.yml")
			if o := m.offered(); o.ID != run.Jobs[0].GUID {
				t.Fatal("the second job came first")
			}
			w := m.acquire(m.offeredAgain(run.Jobs[0].GUID))
			w.complete(conclusion, map[string]any{"digest": map[string]any{"value": "1"}})
			got, err := s.WaitFor(t.Context(), run, func(r *fakegithub.Run) bool { return r.Jobs[0].Status == "completed" })
			if err != nil || got.Jobs[1].Status != want {
				t.Fatalf("second job %+v: %v", got.Jobs[1], err)
			}
			if want == "completed" {
				if got.Conclusion != "failure" || got.Jobs[1].Conclusion != "skipped" {
					t.Errorf("run %+v", got)
				}
				return
			}
			next := newMini(t, base, "host-2", "attested-cvm")
			next.connect()
			second := next.acquire(next.offered())
			const needs = `{"t":2,"d":[{"k":"first","v":{"t":2,"d":[{"k":"result","v":"success"},{"k":"outputs","v":{"t":2,"d":[{"k":"digest","v":"1"}]}}]}}]}`
			if string(second.ContextData["needs"]) != needs {
				t.Errorf("needs: %s", second.ContextData["needs"])
			}
		})
	}
}

// offeredAgain polls for an offer that was seen already.
func (m *mini) offeredAgain(id string) offer {
	m.t.Helper()
	o := m.offered()
	if o.ID != id {
		m.t.Fatalf("offered %s, want %s", o.ID, id)
	}
	return o
}
