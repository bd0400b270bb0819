// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// setJob is what a scale set knows of a job. Its phases only follow one another.
type setJob struct {
	job   *job
	phase int
}

// The phases of a scale set's job. Each but the first is told in a message.
const (
	setAvailable = iota + 1
	setAssigned
	setStarted
	setCompleted
)

// setMessage waits until it is deleted.
type setMessage struct {
	id   int64
	body string
}

func (set *scaleSet) statistics() map[string]int {
	out := map[string]int{"totalAvailableJobs": 0, "totalAcquiredJobs": 0, "totalAssignedJobs": 0, "totalRunningJobs": 0}
	for _, j := range set.jobs {
		switch j.phase {
		case setAvailable:
			out["totalAvailableJobs"]++
		case setAssigned:
			out["totalAssignedJobs"]++
		case setStarted:
			out["totalAssignedJobs"]++
			out["totalRunningJobs"]++
		}
	}
	for _, r := range set.agents {
		switch {
		case r.removed:
			continue
		case r.job != nil:
			out["totalBusyRunners"]++
		default:
			out["totalIdleRunners"]++
		}
		out["totalRegisteredRunners"]++
	}
	return out
}

// sessionJSON is a session on the wire, with where its messages are.
func (c *setCall) sessionJSON(set *scaleSet) map[string]any {
	return map[string]any{
		"sessionId": set.session.id, "ownerName": set.session.owner, "runnerScaleSet": c.json(set), "statistics": set.statistics(),
		"messageQueueUrl":         c.s.urls[servicePipelines] + "/" + tenant + "/_apis/runtime/runnerscalesets/" + decimal(set.id) + "/messages?sessionId=" + set.session.id,
		"messageQueueAccessToken": set.session.token,
	}
}

func (c *setCall) open() (int, any, *actionsError) {
	set, fault := c.set()
	var q struct {
		Owner string `json:"ownerName"`
	}
	switch {
	case fault != nil:
		return 0, nil, fault
	case json.Unmarshal(c.body, &q) != nil || q.Owner == "":
		return 0, nil, &actionsError{http.StatusBadRequest, "InvalidSessionException", "a session needs an owner"}
	case set.session != nil:
		return 0, nil, &actionsError{http.StatusConflict, "RunnerScaleSetSessionConflictException", "The runner scale set already has an active session."}
	}
	set.session = &setSession{newID(), q.Owner, newID()}
	return http.StatusOK, c.sessionJSON(set), nil
}

// inSession finds the scale set whose session a request names.
func (c *setCall) inSession() (*scaleSet, *actionsError) {
	set, fault := c.set()
	if fault != nil {
		return nil, fault
	}
	if set.session == nil || !strings.EqualFold(set.session.id, c.r.PathValue("id")) {
		return nil, &actionsError{http.StatusNotFound, "SessionNotFoundException", "no such session"}
	}
	return set, nil
}

func (c *setCall) refresh() (int, any, *actionsError) {
	set, fault := c.inSession()
	if fault != nil {
		return 0, nil, fault
	}
	set.session.token = newID()
	return http.StatusOK, c.sessionJSON(set), nil
}

func (c *setCall) closeSession() (int, any, *actionsError) {
	set, fault := c.inSession()
	if fault != nil {
		return 0, nil, fault
	}
	set.session = nil
	c.s.touch()
	return http.StatusNoContent, nil, nil
}

// generate registers an ephemeral runner of a scale set. It takes no jobs until the scale set has acquired one.
func (c *setCall) generate() (int, any, *actionsError) {
	set, fault := c.set()
	var q struct {
		Name   string `json:"name"`
		Folder string `json:"workFolder"`
	}
	switch {
	case fault != nil:
		return 0, nil, fault
	case json.Unmarshal(c.body, &q) != nil || q.Name == "":
		return 0, nil, &actionsError{http.StatusBadRequest, "InvalidRunnerException", "a runner needs a name"}
	}
	c.s.mu.Unlock()
	key, err := c.s.cfg.NewKey()
	c.s.mu.Lock()
	if err != nil {
		return 0, nil, &actionsError{http.StatusInternalServerError, "Exception", err.Error()}
	}
	for _, r := range c.s.runners {
		if r.in(c.scope) && strings.EqualFold(r.name, q.Name) {
			return 0, nil, &actionsError{http.StatusConflict, "AgentExistsException", "A runner with the name " + q.Name + " already exists."}
		}
	}
	r := &runner{
		id: c.s.next("runner"), name: q.Name, os: "unknown", group: set.group, clientID: newID(), key: key,
		repo: c.scope.repo, org: c.scope.org, enterprise: c.scope.enterprise,
	}
	blob, err := c.s.jitConfig(r, q.Folder)
	if err != nil {
		return 0, nil, &actionsError{http.StatusInternalServerError, "Exception", err.Error()}
	}
	c.s.runners[r.id] = r
	set.agents = append(set.agents, r)
	c.s.books.registrations++
	set.lend(c.s)
	return http.StatusOK, map[string]any{"runner": agentJSON(set, r), "encodedJITConfig": blob}, nil
}

func agentJSON(set *scaleSet, r *runner) map[string]any {
	return map[string]any{"id": r.id, "name": r.name, "runnerScaleSetId": set.id}
}

// agent finds a registered runner of the admin's scope that is of a scale set.
func (c *setCall) agent(is func(*runner) bool) (*scaleSet, *runner) {
	for _, set := range c.s.scaleSets.sets {
		for _, r := range set.agents {
			if set.scope == c.scope && !r.removed && is(r) {
				return set, r
			}
		}
	}
	return nil, nil
}

func (c *setCall) findAgent() (int, any, *actionsError) {
	list := []any{}
	if set, r := c.agent(func(r *runner) bool { return strings.EqualFold(r.name, c.r.URL.Query().Get("agentName")) }); r != nil {
		list = append(list, agentJSON(set, r))
	}
	return http.StatusOK, map[string]any{"count": len(list), "value": list}, nil
}

func (c *setCall) byID() (*scaleSet, *runner, *actionsError) {
	set, r := c.agent(func(r *runner) bool { return decimal(r.id) == c.r.PathValue("id") })
	if r == nil {
		return nil, nil, &actionsError{http.StatusNotFound, "AgentNotFoundException", "no such runner"}
	}
	return set, r, nil
}

func (c *setCall) getAgent() (int, any, *actionsError) {
	set, r, fault := c.byID()
	if fault != nil {
		return 0, nil, fault
	}
	return http.StatusOK, agentJSON(set, r), nil
}

func (c *setCall) removeAgent() (int, any, *actionsError) {
	_, r, fault := c.byID()
	switch {
	case fault != nil:
		return 0, nil, fault
	case r.job != nil:
		return 0, nil, &actionsError{http.StatusBadRequest, "JobStillRunningException", "The runner is still running a job."}
	}
	c.s.remove(r)
	return http.StatusNoContent, nil, nil
}

// queue finds the scale set whose message queue a request's token opens. The caller holds mu.
func (s *Server) queue(r *http.Request) (*scaleSet, *actionsError) {
	for _, set := range s.scaleSets.sets {
		if decimal(set.id) != r.PathValue("set") {
			continue
		}
		if set.session == nil || set.session.token != bearer(r) {
			return nil, unauthorizedAdmin()
		}
		return set, nil
	}
	return nil, noSet()
}

// pollSet answers the next message, or 202 when none came in time.
func (s *Server) pollSet(w http.ResponseWriter, r *http.Request) {
	last, _ := strconv.ParseInt(r.URL.Query().Get("lastMessageId"), 10, 64)
	capacity, err := strconv.Atoi(r.Header.Get("X-ScaleSetMaxCapacity"))
	if err != nil {
		(&actionsError{http.StatusBadRequest, "BadRequestException", "no capacity"}).write(w)
		return
	}
	var next *setMessage
	var fault *actionsError
	var statistics map[string]int
	_, err = s.await(r.Context(), s.cfg.Poll, func() bool {
		var set *scaleSet
		if set, fault = s.queue(r); fault != nil {
			return true
		}
		set.advance(s, capacity)
		statistics = set.statistics()
		for _, m := range set.inbox {
			if m.id > last {
				next = &m
				return true
			}
		}
		return false
	})
	switch {
	case err != nil:
		(&actionsError{http.StatusServiceUnavailable, "Exception", err.Error()}).write(w)
	case fault != nil:
		fault.write(w)
	case next == nil:
		w.WriteHeader(http.StatusAccepted)
	default:
		writeJSON(w, http.StatusOK, map[string]any{"messageId": next.id, "messageType": "RunnerScaleSetJobMessages", "body": next.body, "statistics": statistics})
	}
}

// ackSet deletes a message.
func (s *Server) ackSet(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	set, fault := s.queue(r)
	if fault == nil {
		set.inbox = slices.DeleteFunc(set.inbox, func(m setMessage) bool { return decimal(m.id) == r.PathValue("message") })
	}
	s.mu.Unlock()
	if fault != nil {
		fault.write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// acquireForSet gives the scale set jobs that it was offered. Only then its runners may take them.
func (s *Server) acquireForSet(w http.ResponseWriter, r *http.Request) {
	var ids []int64
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&ids); err != nil {
		(&actionsError{http.StatusBadRequest, "BadRequestException", "no list of requests"}).write(w)
		return
	}
	s.mu.Lock()
	set, fault := s.queue(r)
	got := []int64{}
	if fault == nil {
		for _, id := range ids {
			if j := set.jobs[id]; j != nil && j.phase == setAvailable && j.job.status == statusQueued && j.job.runner == nil {
				j.phase = setAssigned
				set.tell("JobAssigned", j.job, nil)
				got = append(got, id)
			}
		}
		set.lend(s)
	}
	s.mu.Unlock()
	if fault != nil {
		fault.write(w)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"count": len(got), "value": got})
}

// lend lets the scale set's runners serve its labels once it has acquired a job. The caller holds mu.
func (set *scaleSet) lend(s *Server) {
	if !slices.ContainsFunc(set.assigned(), func(j *setJob) bool { return j.phase == setAssigned }) {
		return
	}
	for _, r := range set.agents {
		if len(r.labels) == 0 {
			for _, l := range set.labels {
				r.labels = append(r.labels, l.Name)
			}
		}
	}
	s.assign()
	s.touch()
}

// assigned are the jobs that the scale set has acquired and that are not over.
func (set *scaleSet) assigned() []*setJob {
	var out []*setJob
	for _, j := range set.jobs {
		if j.phase == setAssigned || j.phase == setStarted {
			out = append(out, j)
		}
	}
	return out
}

// advance puts into messages what has happened to the jobs. The caller holds mu.
func (set *scaleSet) advance(s *Server, capacity int) {
	for _, j := range s.jobs {
		known := set.jobs[j.id]
		switch {
		case known == nil:
			free := len(set.assigned()) < capacity
			if free && j.status == statusQueued && j.runner == nil && s.serves(set.standIn(), j) {
				set.jobs[j.id] = &setJob{j, setAvailable}
				set.tell("JobAvailable", j, map[string]any{"acquireJobUrl": s.urls[servicePipelines] + "/" + tenant + "/acquire"})
			}
		case known.phase == setAssigned && j.status == statusInProgress:
			known.phase = setStarted
			set.tell("JobStarted", j, map[string]any{"runnerId": j.runnerID, "runnerName": j.runnerName})
		case known.phase > setAvailable && known.phase < setCompleted && j.status == statusCompleted:
			known.phase = setCompleted
			set.tell("JobCompleted", j, map[string]any{"runnerId": j.runnerID, "runnerName": j.runnerName, "result": j.conclusion})
		}
	}
}

// standIn is a runner that stands for the whole set when it is asked what it may take.
func (set *scaleSet) standIn() *runner {
	r := &runner{group: set.group, repo: set.scope.repo, org: set.scope.org, enterprise: set.scope.enterprise}
	for _, l := range set.labels {
		r.labels = append(r.labels, l.Name)
	}
	return r
}

// tell adds a message of one event. The caller holds mu.
func (set *scaleSet) tell(kind string, j *job, more map[string]any) {
	event := map[string]any{
		"messageType": kind, "runnerRequestId": j.id, "repositoryName": j.run.repo.Name, "ownerName": j.run.repo.Owner, "jobId": j.guid,
		"jobWorkflowRef": j.run.workflowRef(), "jobDisplayName": j.def.Name, "workflowRunId": j.run.id, "eventName": j.run.event,
		"requestLabels": j.def.Labels, "queueTime": j.created.UTC().Format(time.RFC3339),
	}
	for name, value := range more {
		event[name] = value
	}
	set.last++
	set.inbox = append(set.inbox, setMessage{set.last, fmt.Sprintf("[%s]", compact(event))})
}
