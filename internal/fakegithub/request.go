// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// Request is one entry of the request log. It holds no header and no query, so no credential.
type Request struct {
	Time    time.Time
	Host    string
	Method  string
	Path    string
	Status  int
	Elapsed time.Duration
}

// maxRequests is how many entries the log keeps; older ones are dropped.
const maxRequests = 10_000

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := s.cfg.Now()
	out := &recorder{ResponseWriter: w, status: http.StatusOK}
	h := out.Header()
	h.Set("X-GitHub-Request-Id", requestID())
	h.Set("Date", start.UTC().Format(http.TimeFormat))
	s.mu.Lock()
	s.sweep()
	s.mu.Unlock()
	svc, routed, ok := s.route(r)
	switch {
	case !ok:
		http.Error(out, "no such host: "+r.Host, http.StatusMisdirectedRequest)
	default:
		if svc == serviceAPI {
			h.Set("X-GitHub-Media-Type", "github.v3; format=json")
			h.Set("X-RateLimit-Limit", "5000")
			h.Set("X-RateLimit-Remaining", "4999")
		}
		s.mux[svc].ServeHTTP(out, routed)
	}
	entry := Request{start, r.Host, r.Method, r.URL.Path, out.status, s.cfg.Now().Sub(start)}
	s.log.DebugContext(r.Context(), "request", "host", entry.Host, "method", entry.Method, "path", entry.Path, "status", entry.Status)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.requests) >= maxRequests {
		s.requests = slices.Delete(s.requests, 0, maxRequests/10)
	}
	s.requests = append(s.requests, entry)
}

// Requests returns the requests answered so far, oldest first.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// requestID has GitHub's form, for example C0DE:1F3A2B:9D8E7F:1A2B3C:65F0A1B2.
func requestID() string {
	return strings.ToUpper(strings.Join([]string{random(2), random(3), random(3), random(3), random(4)}, ":"))
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements [http.ResponseWriter].
func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets [http.ResponseController] reach the real writer.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
