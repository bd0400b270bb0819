// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"nhooyr.io/websocket"

	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/secret"
)

const token = "ghp_operator"

const workflow = `
name: build
on: {workflow_dispatch: {}, push: {}}
permissions: {contents: read, id-token: write}
jobs:
  build:
    runs-on: [self-hosted, tee]
    steps:
      - run: echo "hello from $GITHUB_REPOSITORY"
      - run: echo second
`

// world is one GitHub whose traffic is recorded. It adds the live console to job messages, without which the independent runner
// does not run: GitHub has it, fakegithub leaves it out.
type world struct {
	t      *testing.T
	github *fakegithub.Server
	base   string
	app    *rsa.PrivateKey

	mu       sync.Mutex
	recorded []exchange
}

// exchange is one request of the REST API with its answer.
type exchange struct {
	method, url string
	ask         http.Header
	asked       []byte
	status      int
	header      http.Header
	answer      []byte
}

func newWorld(t *testing.T) *world {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	w := &world{t: t, base: "http://" + server.Listener.Addr().String()}
	var err error
	if w.app, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	w.github, err = fakegithub.New(fakegithub.Config{
		Base: w.base, Operator: fakegithub.Operator{Login: "operator", ID: 1001, Token: secret.New(token)},
		Apps: []fakegithub.App{{
			ID: 77, InstallationID: 88, Account: "acme", Key: &w.app.PublicKey,
			Permissions: map[string]string{"administration": "write", "actions": "write", "contents": "write"},
		}},
		Enterprises: []fakegithub.Enterprise{{Slug: "big", Organizations: []string{"acme"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = w.github.AddRepository(fakegithub.Repository{
		Owner: "acme", Name: "widget", ID: 1296269, OwnerID: 583231, Refs: []string{"refs/heads/main", "refs/tags/v1"},
		FS: fstest.MapFS{".github/workflows/build.yml": &fstest.MapFile{Data: []byte(workflow)}, "README.md": &fstest.MapFile{Data: []byte("# Widget\n")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = w
	server.Start()
	t.Cleanup(func() {
		if err := w.github.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		server.CloseClientConnections()
		server.Close()
	})
	return w
}

// ServeHTTP implements [http.Handler].
func (w *world) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	service, path, _ := w.github.Locate(r)
	switch {
	case r.URL.Path == "/feed":
		w.feed(out, r)
		return
	case service == "broker" && path == "/message":
		w.github.ServeHTTP(out, r) // it may wait long
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(out, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	kept := httptest.NewRecorder()
	w.github.ServeHTTP(kept, r)
	answer := kept.Body.Bytes()
	if service == "run" && strings.HasSuffix(path, "/acquirejob") && kept.Code == http.StatusOK {
		answer = w.withFeed(answer)
	}
	if service == "api" || service == "uploads" {
		w.mu.Lock()
		w.recorded = append(w.recorded, exchange{r.Method, path + "?" + r.URL.RawQuery, r.Header, body, kept.Code, kept.Header(), answer})
		w.mu.Unlock()
	}
	for name, values := range kept.Header() {
		out.Header()[name] = values
	}
	out.WriteHeader(kept.Code)
	_, _ = out.Write(answer) // the client's trouble, if any
}

// withFeed adds FeedStreamUrl to the job's connection.
func (w *world) withFeed(message []byte) []byte {
	var m map[string]any
	if err := json.Unmarshal(message, &m); err != nil {
		w.t.Error(err)
		return message
	}
	resources, _ := m["resources"].(map[string]any)
	list, _ := resources["endpoints"].([]any)
	for _, e := range list {
		if endpoint, ok := e.(map[string]any); ok {
			if data, ok := endpoint["data"].(map[string]any); ok {
				data["FeedStreamUrl"] = w.base + "/feed"
			}
		}
	}
	out, err := json.Marshal(m)
	if err != nil {
		w.t.Error(err)
		return message
	}
	return out
}

// feed takes the live console's lines and drops them.
func (w *world) feed(out http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(out, r, nil)
	if err != nil {
		return
	}
	for {
		if _, _, err := c.Read(r.Context()); err != nil {
			return
		}
	}
}

func (w *world) send(method, path, bearer, body string) (int, []byte) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.base+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultTransport.RoundTrip(req) // redirects are answers here
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, raw
}
