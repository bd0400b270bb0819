// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

// service is one of GitHub's hosts.
type service int

const (
	serviceAPI service = iota
	serviceServer
	serviceUploads
	serviceCodeload
	serviceObjects
	serviceIssuer
	serviceOAuth
	serviceBroker
	serviceRun
	servicePipelines
	serviceLaunch
	serviceResults
	serviceBlobs
	services // their number
)

// prefixes tell the services apart when all of them share one base URL; the API has none.
func (s service) prefix() string {
	return [services]string{
		"", "/_server", "/_uploads", "/_codeload", "/_objects", "/_issuer", "/_oauth", "/_broker", "/_run", "/_pipelines", "/_launch",
		"/_results", "/_blobs",
	}[s]
}

// String is the service's name, as [Server.Locate] says it.
func (s service) String() string {
	if s == serviceAPI {
		return "api"
	}
	return strings.TrimPrefix(s.prefix(), "/_")
}

// Locate says which service a request is for, and the path as that service sees it. The names are api, server, uploads,
// codeload, objects, issuer, oauth, broker, run, pipelines, launch, results and blobs. False: no service has that host.
func (s *Server) Locate(r *http.Request) (service, path string, ok bool) {
	svc, path, ok := s.place(r)
	return svc.String(), path, ok
}

// endpoints are the base URLs of the services, without a trailing slash.
type endpoints [services]string

func (c *Config) endpoints() endpoints {
	var out endpoints
	for s := range services {
		if c.Base != "" {
			out[s] = strings.TrimSuffix(c.Base, "/") + s.prefix()
			continue
		}
		out[s] = "https://" + c.Hosts.name(s)
	}
	return out
}

// runTenant is the path below the run service's host that GitHub assigns to a tenant. The URL of the id token endpoint has
// a doubled slash after it, as GitHub's has.
const runTenant = "/91/"

// place finds the service for a request and the path without the service's prefix and without doubled slashes.
func (s *Server) place(r *http.Request) (service, string, bool) {
	svc, path := serviceAPI, r.URL.Path
	if s.cfg.Base != "" {
		for c := serviceAPI + 1; c < services; c++ {
			if rest, ok := strings.CutPrefix(path, c.prefix()+"/"); ok {
				svc, path = c, "/"+rest
				break
			}
		}
	} else {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		found, ok := s.byHost[strings.ToLower(host)]
		if !ok {
			return 0, "", false
		}
		svc = found
	}
	if svc == serviceAPI {
		path = "/" + strings.TrimPrefix(strings.TrimPrefix(path, "/"), "api/v3/")
	}
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return svc, path, true
}

// route finds the service for a request and returns the request as that service sees it.
func (s *Server) route(r *http.Request) (service, *http.Request, bool) {
	svc, path, ok := s.place(r)
	if !ok {
		return 0, nil, false
	}
	out := r.Clone(r.Context())
	out.URL = &url.URL{Path: path, RawQuery: r.URL.RawQuery}
	return svc, out, true
}

// routes fills one multiplexer a service.
func (s *Server) routes() [services]*http.ServeMux {
	var mux [services]*http.ServeMux
	for i := range mux {
		mux[i] = http.NewServeMux()
	}
	mux[serviceAPI].Handle("/", s.rest(func(*call) error { return notFound() }))
	s.routeRunners(mux[serviceAPI])
	s.routeRepositories(mux[serviceAPI], mux[serviceCodeload])
	s.routeRuns(mux[serviceAPI])
	s.routeReleases(mux)
	s.routeAttestations(mux[serviceAPI])
	mux[serviceAPI].Handle("POST /app/installations/{id}/access_tokens", s.rest((*call).createInstallationToken))
	mux[serviceOAuth].Handle("POST /_apis/oauth2/token/{tenant}", http.HandlerFunc(s.runnerToken))
	s.routeBroker(mux[serviceBroker])
	s.routeRunService(mux[serviceRun])
	const resolve = "POST /actions/build/{plan}/jobs/{job}/runnerresolve/actions"
	mux[serviceLaunch].HandleFunc(resolve, s.resolveActions)
	if s.cfg.Base != "" { // the runner takes this path as absolute and so loses a prefix
		mux[serviceAPI].HandleFunc(resolve, s.resolveActions)
	}
	s.routeResults(mux[serviceResults], mux[serviceBlobs])
	s.routeIssuer(mux[serviceIssuer])
	s.routeScaleSets(mux)
	for _, health := range []service{serviceBroker, serviceRun} {
		mux[health].HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	}
	return mux
}

// ServiceNames returns the names that [Server.Locate] gives.
func ServiceNames() []string {
	names := make([]string, 0, int(services))
	for s := range services {
		names = append(names, s.String())
	}
	return names
}
