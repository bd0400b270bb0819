// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// adminLife is how long the token of the Actions service lasts.
const adminLife = time.Hour

// scaleSets is the state of runner scale sets. The zero value has none. mu of the server guards it.
type scaleSets struct {
	tokens map[string]scope // of registration, one use each
	admins map[string]admin
	sets   []*scaleSet
}

// admin is who a token of the Actions service stands for.
type admin struct {
	scope   scope
	expires time.Time
}

// scaleSet is one runner scale set.
type scaleSet struct {
	id      int64
	name    string
	group   int64
	labels  []setLabel
	setting setSetting
	scope   scope
	created time.Time
	session *setSession
	agents  []*runner
	jobs    map[int64]*setJob // by job
	last    int64             // message
	inbox   []setMessage
}

type setLabel struct {
	Type string `json:"type"`
	Name string `json:"name"`
}

type setSetting struct {
	DisableUpdate bool `json:"disableUpdate,omitempty"`
}

// setSession is the one session that a scale set can have.
type setSession struct {
	id, owner, token string
}

// setJSON is a scale set on the wire.
type setJSON struct {
	ID         int64          `json:"id,omitempty"`
	Name       string         `json:"name,omitempty"`
	GroupID    int64          `json:"runnerGroupId,omitempty"`
	GroupName  string         `json:"runnerGroupName,omitempty"`
	Labels     []setLabel     `json:"labels,omitempty"`
	Setting    setSetting     `json:"RunnerSetting"`
	Created    time.Time      `json:"createdOn"`
	JIT        string         `json:"runnerJitConfigUrl,omitempty"`
	Statistics map[string]int `json:"statistics,omitempty"`
}

// actionsError is an error of the Actions service.
type actionsError struct {
	status        int
	name, message string
}

func (e *actionsError) write(w http.ResponseWriter) {
	writeJSON(w, e.status, map[string]string{"typeName": "GitHub.Actions.Runtime.WebApi." + e.name + ", GitHub.Actions.Runtime.WebApi", "message": e.message})
}

func unauthorizedAdmin() *actionsError {
	return &actionsError{http.StatusUnauthorized, "UnauthorizedException", "not authorized"}
}

func noSet() *actionsError {
	return &actionsError{http.StatusNotFound, "RunnerScaleSetNotFoundException", "no such runner scale set"}
}

// routeScaleSets mounts what github.com/actions/scaleset speaks to: two calls of the API that lead to the Actions
// service, whose other calls are on the host of the pipelines.
func (s *Server) routeScaleSets(mux [services]*http.ServeMux) {
	for prefix, who := range scopes() {
		mux[serviceAPI].Handle("POST "+prefix+"/actions/runners/registration-token", s.rest(func(c *call) error {
			sc, err := who(c)
			if err != nil {
				return err
			}
			token := "A" + strings.ToUpper(random(14))
			if c.s.scaleSets.tokens == nil {
				c.s.scaleSets.tokens, c.s.scaleSets.admins = map[string]scope{}, map[string]admin{}
			}
			c.s.scaleSets.tokens[token] = sc
			return c.reply(http.StatusCreated, map[string]string{"token": token, "expires_at": stamp(c.s.cfg.Now().Add(adminLife))})
		}))
	}
	mux[serviceAPI].HandleFunc("POST /actions/runner-registration", s.connectAdmin)
	const base = "/" + tenant + "/_apis/runtime/runnerscalesets"
	const agents = "/" + tenant + "/_apis/distributedtask/pools/0/agents"
	for pattern, h := range map[string]func(*setCall) (int, any, *actionsError){
		"GET " + base:                               (*setCall).find,
		"POST " + base:                              (*setCall).create,
		"GET " + base + "/{set}":                    (*setCall).get,
		"PATCH " + base + "/{set}":                  (*setCall).update,
		"DELETE " + base + "/{set}":                 (*setCall).remove,
		"POST " + base + "/{set}/sessions":          (*setCall).open,
		"PATCH " + base + "/{set}/sessions/{id}":    (*setCall).refresh,
		"DELETE " + base + "/{set}/sessions/{id}":   (*setCall).closeSession,
		"POST " + base + "/{set}/generatejitconfig": (*setCall).generate,
		"GET " + agents:                             (*setCall).findAgent,
		"GET " + agents + "/{id}":                   (*setCall).getAgent,
		"DELETE " + agents + "/{id}":                (*setCall).removeAgent,
	} {
		mux[servicePipelines].Handle(pattern, s.asAdmin(h))
	}
	mux[servicePipelines].HandleFunc("POST "+base+"/{set}/acquirejobs", s.acquireForSet)
	mux[servicePipelines].HandleFunc("GET "+base+"/{set}/messages", s.pollSet)
	mux[servicePipelines].HandleFunc("DELETE "+base+"/{set}/messages/{message}", s.ackSet)
}

// connectAdmin trades a registration token for the URL and a token of the Actions service.
func (s *Server) connectAdmin(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		URL   string `json:"url"`
		Event string `json:"runner_event"`
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&ask)
	page, urlErr := url.Parse(ask.URL)
	s.mu.Lock()
	defer s.mu.Unlock()
	sc, known := s.scaleSets.tokens[token]
	delete(s.scaleSets.tokens, token)
	if err != nil || urlErr != nil || ask.Event != "register" || scheme != "RemoteAuth" || !known || !strings.EqualFold(strings.Trim(page.Path, "/"), sc.page()) {
		writeError(w, &apiError{status: http.StatusUnauthorized, message: "Bad credentials"})
		return
	}
	expires := s.cfg.Now().Add(adminLife)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(rand.Text() + rand.Text())}, nil)
	if err != nil {
		writeError(w, err)
		return
	}
	bearer, err := jwt.Signed(signer).Claims(jwt.Claims{ID: newID(), Expiry: jwt.NewNumericDate(expires)}).Serialize()
	if err != nil {
		writeError(w, err)
		return
	}
	s.scaleSets.admins[bearer] = admin{sc, s.steady().Add(adminLife)}
	writeJSON(w, http.StatusOK, map[string]string{"url": s.urls[servicePipelines] + "/" + tenant + "/", "token": bearer})
}

// page is where a scope is in a browser, below the server.
func (sc scope) page() string {
	switch {
	case sc.repo != nil:
		return sc.repo.full()
	case sc.enterprise != "":
		return "enterprises/" + sc.enterprise
	}
	return sc.org
}

// setCall is one request to the Actions service in hand. It holds mu.
type setCall struct {
	s     *Server
	r     *http.Request
	body  []byte
	scope scope
}

// asAdmin makes a handler of a call by an admin.
func (s *Server) asAdmin(h func(*setCall) (int, any, *actionsError)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body json.RawMessage
		if r.ContentLength != 0 {
			if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&body); err != nil {
				(&actionsError{http.StatusBadRequest, "BadRequestException", "no JSON"}).write(w)
				return
			}
		}
		s.mu.Lock()
		a, known := s.scaleSets.admins[bearer(r)]
		status, answer, fault := 0, any(nil), unauthorizedAdmin()
		if known && s.steady().Before(a.expires) {
			status, answer, fault = h(&setCall{s, r, body, a.scope})
		}
		raw, err := json.Marshal(answer)
		s.mu.Unlock()
		switch {
		case fault != nil:
			fault.write(w)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		case answer == nil:
			w.WriteHeader(status)
		default:
			writeJSON(w, status, json.RawMessage(raw))
		}
	})
}

// set finds the scale set that a request names.
func (c *setCall) set() (*scaleSet, *actionsError) {
	for _, set := range c.s.scaleSets.sets {
		if decimal(set.id) == c.r.PathValue("set") && set.scope == c.scope {
			return set, nil
		}
	}
	return nil, noSet()
}

func (c *setCall) json(set *scaleSet) setJSON {
	return setJSON{
		set.id, set.name, set.group, c.s.groupName(set.group), set.labels, set.setting, set.created,
		c.s.urls[servicePipelines] + "/" + tenant + "/_apis/runtime/runnerscalesets/" + decimal(set.id) + "/generatejitconfig", set.statistics(),
	}
}

func (c *setCall) find() (int, any, *actionsError) {
	q, list := c.r.URL.Query(), []setJSON{}
	for _, set := range c.s.scaleSets.sets {
		if set.scope == c.scope && decimal(set.group) == q.Get("runnerGroupId") && strings.EqualFold(set.name, q.Get("name")) {
			list = append(list, c.json(set))
		}
	}
	return http.StatusOK, map[string]any{"count": len(list), "value": list}, nil
}

func (c *setCall) create() (int, any, *actionsError) {
	var q setJSON
	if json.Unmarshal(c.body, &q) != nil || q.Name == "" || len(q.Labels) == 0 || c.s.usable(c.scope, q.GroupID) != nil {
		return 0, nil, &actionsError{http.StatusBadRequest, "InvalidRunnerScaleSetException", "a scale set needs a name, a group and labels"}
	}
	for _, set := range c.s.scaleSets.sets {
		if set.scope == c.scope && set.group == q.GroupID && strings.EqualFold(set.name, q.Name) {
			return 0, nil, &actionsError{http.StatusConflict, "RunnerScaleSetExistsException", "a runner scale set of this name exists"}
		}
	}
	set := &scaleSet{
		id: c.s.next("scaleset"), name: q.Name, group: q.GroupID, labels: q.Labels, setting: q.Setting, scope: c.scope,
		created: c.s.cfg.Now().UTC(), jobs: map[int64]*setJob{},
	}
	c.s.scaleSets.sets = append(c.s.scaleSets.sets, set)
	return http.StatusOK, c.json(set), nil
}

func (c *setCall) get() (int, any, *actionsError) {
	set, fault := c.set()
	if fault != nil {
		return 0, nil, fault
	}
	return http.StatusOK, c.json(set), nil
}

func (c *setCall) update() (int, any, *actionsError) {
	set, fault := c.set()
	var q setJSON
	switch {
	case fault != nil:
		return 0, nil, fault
	case json.Unmarshal(c.body, &q) != nil:
		return 0, nil, &actionsError{http.StatusBadRequest, "InvalidRunnerScaleSetException", "no scale set"}
	}
	if q.Labels != nil {
		set.labels = q.Labels
	}
	set.setting = q.Setting
	return http.StatusOK, c.json(set), nil
}

func (c *setCall) remove() (int, any, *actionsError) {
	set, fault := c.set()
	if fault == nil {
		c.s.scaleSets.sets = slices.DeleteFunc(c.s.scaleSets.sets, func(one *scaleSet) bool { return one == set })
		c.s.touch()
	}
	return http.StatusNoContent, nil, fault
}

// ScaleSet is a scale set as tests see it.
type ScaleSet struct {
	ID            int64
	Name          string
	Labels        []string
	DisableUpdate bool
	Owner         string // of its session; empty when it has none
}

// ScaleSets returns the scale sets, the oldest first.
func (s *Server) ScaleSets() []ScaleSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []ScaleSet
	for _, set := range s.scaleSets.sets {
		one := ScaleSet{ID: set.id, Name: set.name, DisableUpdate: set.setting.DisableUpdate}
		for _, l := range set.labels {
			one.Labels = append(one.Labels, l.Name)
		}
		if set.session != nil {
			one.Owner = set.session.owner
		}
		out = append(out, one)
	}
	return out
}

// ExpireScaleSetTokens ends the tokens of all message queues, and those of the Actions service when admins is set, as
// time does.
func (s *Server) ExpireScaleSetTokens(admins bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, set := range s.scaleSets.sets {
		if set.session != nil {
			set.session.token = newID()
		}
	}
	if admins {
		clear(s.scaleSets.admins)
	}
	s.touch()
}
