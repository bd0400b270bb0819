// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/kettle/attest/internal/fakegithub"
)

// maxBody is the most a request may carry whose body a predicate reads, in bytes.
const maxBody = 64 << 20

// Rule says which requests are treated badly, and how. What is empty matches everything; [Rule.Act] must be set.
type Rule struct {
	Services []string // names as [fakegithub.Server.Locate] gives them: "api", "broker", …
	Method   string
	// Path is a pattern of the path as the service sees it: * is one segment or a part of it, ** any number of them.
	Path string
	// When decides further. It may read the body, which the server still gets, and must not call the server.
	When func(*http.Request) bool
	Skip int // so many matching requests pass before the first act
	// Times is how often the rule acts; 0 means until it is removed.
	Times int
	Act   Act
}

// Validate reports every fault of a rule.
func (r *Rule) Validate() error {
	var faults []error
	if r.Act.do == nil {
		faults = append(faults, errors.New("a rule needs an act"))
	}
	if r.Skip < 0 || r.Times < 0 {
		faults = append(faults, errors.New("skip and times must not be negative"))
	}
	if r.Path != "" && !doublestar.ValidatePattern(r.Path) {
		faults = append(faults, fmt.Errorf("%q is not a pattern", r.Path))
	}
	for _, name := range r.Services {
		if !slices.Contains(fakegithub.ServiceNames(), name) {
			faults = append(faults, fmt.Errorf("there is no service %q", name))
		}
	}
	return errors.Join(faults...)
}

// Wait pauses for a duration or until the context ends, whose error it returns then.
type Wait func(ctx context.Context, d time.Duration) error

// Handler is the server with faults. It is an [http.Handler]; its methods are safe for concurrent use.
type Handler struct {
	server *fakegithub.Server
	wait   Wait

	mu     sync.Mutex
	closed bool
	rules  []*Armed
	flying map[*flight]struct{}
}

// flight is a request on its way through the server.
type flight struct {
	service string
	cut     func() // may be called again
}

// New puts a handler before a server. A nil wait uses the machine's clock.
func New(server *fakegithub.Server, wait Wait) *Handler {
	if wait == nil {
		wait = pause
	}
	return &Handler{server: server, wait: wait, flying: map[*flight]struct{}{}}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Armed is a rule in force.
type Armed struct {
	handler *Handler
	rule    Rule
	removed chan struct{} // closed at the end of the rule: what it holds back goes on
	remove  func()        // closes it, once

	// The fields below are the handler's mutex's.
	seen, hits int
	changed    chan struct{} // closed and replaced at every hit
	partition  bool
}

// Add puts a rule in force, after those that are there.
func (h *Handler) Add(r Rule) (*Armed, error) {
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("adding fault: %w", err)
	}
	r.Services = slices.Clone(r.Services)
	a := &Armed{handler: h, rule: r, removed: make(chan struct{}), changed: make(chan struct{})}
	a.remove = sync.OnceFunc(func() { close(a.removed) })
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errors.New("adding fault: the handler is closed")
	}
	h.rules = append(h.rules, a)
	return a, nil
}

// Partition cuts services off, all of them if none is named: requests under way lose their connections, later ones get no
// answer until the client gives up. [Armed.Remove] heals it; what still waited then loses its connection.
func (h *Handler) Partition(services ...string) (*Armed, error) {
	a, err := h.Add(Rule{Services: services, Act: Hang()})
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rules = slices.Insert(slices.DeleteFunc(h.rules, func(r *Armed) bool { return r == a }), 0, a) // before all others
	a.partition = true
	for f := range h.flying {
		if a.separates(f.service) {
			f.cut()
		}
	}
	return a, nil
}

// separates reports whether the rule is a partition of a service. The caller holds the handler's mutex.
func (a *Armed) separates(service string) bool {
	return a.partition && (len(a.rule.Services) == 0 || slices.Contains(a.rule.Services, service))
}

// depart notes a request on its way, unless a partition came before it. The caller calls land at its end.
func (h *Handler) depart(f *flight) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.ContainsFunc(h.rules, func(a *Armed) bool { return a.separates(f.service) }) {
		return false
	}
	h.flying[f] = struct{}{}
	return true
}

func (h *Handler) land(f *flight) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.flying, f)
}

// Remove ends the rule. Requests it holds back go on, or lose their connections where they were to have no answer.
func (a *Armed) Remove() {
	h := a.handler
	h.mu.Lock()
	h.rules = slices.DeleteFunc(h.rules, func(r *Armed) bool { return r == a })
	h.mu.Unlock()
	a.remove()
}

// Hits is how often the rule has acted.
func (a *Armed) Hits() int {
	a.handler.mu.Lock()
	defer a.handler.mu.Unlock()
	return a.hits
}

// Await waits until the rule has acted n times.
func (a *Armed) Await(ctx context.Context, n int) error {
	for {
		a.handler.mu.Lock()
		hits, changed := a.hits, a.changed
		a.handler.mu.Unlock()
		if hits >= n {
			return nil
		}
		select {
		case <-changed:
		case <-a.removed:
			return fmt.Errorf("waiting for act %d of a fault: it was removed after %d", n, hits)
		case <-ctx.Done():
			return fmt.Errorf("waiting for act %d of a fault: %w", n, ctx.Err())
		}
	}
}

// Clear removes every rule.
func (h *Handler) Clear() {
	h.mu.Lock()
	rules := h.rules
	h.rules = nil
	h.mu.Unlock()
	for _, a := range rules {
		a.remove()
	}
}

// Close removes every rule for good. The server stays open.
func (h *Handler) Close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.Clear()
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	service, path, ok := h.server.Locate(r)
	if !ok {
		service = ""
	}
	a, err := h.match(service, path, r)
	if err == nil && a != nil {
		_, err = buffer(r) // net/http notices that a client has gone only when its request was read
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	act := Act{(*exchange).pass}
	if a != nil {
		act = a.rule.Act
	}
	act.do(&exchange{handler: h, armed: a, w: w, r: r, service: service})
}

// buffer reads a request's body and puts it back.
func buffer(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil || len(body) > maxBody {
		return nil, errors.New("reading body for a fault: it is too large or was cut")
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, nil
}

// match finds the rule that acts on a request and counts it.
func (h *Handler) match(service, path string, r *http.Request) (*Armed, error) {
	h.mu.Lock()
	rules := slices.Clone(h.rules)
	h.mu.Unlock()
	for _, a := range rules {
		fits, err := a.rule.fits(service, path, r)
		if err != nil {
			return nil, err
		}
		if fits && h.take(a) {
			return a, nil
		}
	}
	return nil, nil //nolint:nilnil // No rule is the usual answer.
}

// take counts an occurrence and says whether the rule acts on it.
func (h *Handler) take(a *Armed) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-a.removed:
		return false
	default:
	}
	a.seen++
	if a.seen <= a.rule.Skip || a.rule.Times > 0 && a.hits >= a.rule.Times {
		return false
	}
	a.hits++
	close(a.changed)
	a.changed = make(chan struct{})
	return true
}

// fits reports whether a rule matches a request. A predicate sees a copy of the body.
func (r *Rule) fits(service, path string, req *http.Request) (bool, error) {
	if len(r.Services) > 0 && !slices.Contains(r.Services, service) || r.Method != "" && !strings.EqualFold(r.Method, req.Method) {
		return false, nil
	}
	if r.Path != "" {
		if ok, err := doublestar.Match(r.Path, path); err != nil || !ok {
			return false, nil //nolint:nilerr // Validate has refused bad patterns.
		}
	}
	if r.When == nil {
		return true, nil
	}
	body, err := buffer(req)
	if err != nil {
		return false, err
	}
	seen := req.Clone(req.Context())
	seen.Body = io.NopCloser(bytes.NewReader(body))
	return r.When(seen), nil
}
