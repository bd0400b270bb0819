// SPDX-License-Identifier: Apache-2.0

package soak_test

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/kettle/attest/attest/token"
	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/fakegithub/fault"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner/github"
	"github.com/kettle/attest/runner/job/pinned"
	"github.com/kettle/attest/test/stage"
)

const operatorToken = "ghp_soak" //nolint:gosec // a stand-in's.

// workflow writes a file that says which run on which runner made it, and has it attested. A pause, in seconds, leaves
// time for something to meet the job.
func workflow(label string, pause int, attest string) string {
	wait := ""
	if pause > 0 {
		wait = fmt.Sprintf("      - run: sleep %d\n", pause)
	}
	return fmt.Sprintf(`on: workflow_dispatch
permissions: {id-token: write, contents: read}
jobs:
  build:
    runs-on: %s
    steps:
%s      - run: echo "$GITHUB_RUN_ID $RUNNER_NAME" > out.txt
      - run: INPUT_SUBJECT_PATH=out.txt INPUT_GITHUB_ATTESTATION=false INPUT_SHOW_SUMMARY=false %s
`, label, wait, attest)
}

// workflows are the files of all environments, each of which runs its own. Nobody else has the label of an environment that
// is a process.
func workflows(turns []turn) fstest.MapFS {
	files := fstest.MapFS{}
	for _, turn := range turns {
		pause := 0
		if turn.plan.slow {
			pause = 3
		}
		files[".github/workflows/"+workflowFile(turn.n)] = &fstest.MapFile{Data: []byte(workflow(label(turn.n), pause, "$ATTEST"))}
	}
	return files
}

func label(n int) string { return "soak-" + strconv.Itoa(n) }

func workflowFile(n int) string { return "w" + strconv.Itoa(n) + ".yml" }

// world is what stands outside all environments.
type world struct {
	github  *fakegithub.Server
	faults  *fault.Handler
	ca      *fakegithub.Authority
	url     string // of the API
	server  string
	host    string
	records *records
	sinkURL string
	client  *github.Client
	program atomic.Pointer[string] // faults of the runner program of the machine that is on; nil where nobody asks
}

func newWorld(t *testing.T, turns []turn) *world {
	t.Helper()
	listener, host := loopback(t)
	w := &world{url: "https://" + host, server: "https://" + host + "/_server", host: host, records: newRecords()}
	key := keys()
	var err error
	if w.ca, err = fakegithub.NewAuthority([]string{"localhost"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	w.github, err = fakegithub.New(fakegithub.Config{
		Base: w.url, Operator: fakegithub.Operator{Login: "acme", ID: 2, Token: secret.New(operatorToken)}, NewKey: key,
		Poll: 2 * time.Second, Offer: 10 * time.Second, Lock: 30 * time.Second, Keep: len(turns) + 100,
	})
	if err != nil {
		t.Fatal(err)
	}
	err = w.github.AddRepository(fakegithub.Repository{
		Owner: "acme", Name: "widget", ID: 1, OwnerID: 2, Refs: []string{"refs/heads/main"}, FS: workflows(turns)})
	if err != nil {
		t.Fatal(err)
	}
	w.faults = fault.New(w.github, nil)
	w.github.ServeWith(listener, w.ca, w.faults)
	w.sinkURL = "https://" + w.serveSink(t)
	w.client, err = github.New(github.Config{
		URL: w.server, APIURL: w.url, Scope: github.Repo, Target: "acme/widget", RunnerGroup: 1, Labels: []string{"attested-cvm"},
		Hosts: pinned.Hosts{host}, Credential: github.Credential{Token: secret.New(operatorToken)}, Roots: w.ca.Pool(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.client.Close()
		w.faults.Close()
		_ = w.github.Close(context.WithoutCancel(t.Context()))
	})
	return w
}

// serveSink keeps records until the test ends, and says where.
func (w *world) serveSink(t *testing.T) (host string) {
	t.Helper()
	listener, host := loopback(t)
	server := &http.Server{Handler: w.records, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(tls.NewListener(listener, w.ca.TLS())) }()
	t.Cleanup(func() { _ = server.Close() })
	return host
}

func newRecords() *records {
	return &records{files: map[string]map[string][]byte{}, moods: map[string]mood{}}
}

func loopback(t *testing.T) (l net.Listener, host string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return l, "localhost:" + port
}

// keys lends the same few RSA keys, which are slow to make.
func keys() func() (*rsa.PrivateKey, error) {
	var mu sync.Mutex
	var made []*rsa.PrivateKey
	n := 0
	return func() (*rsa.PrivateKey, error) {
		mu.Lock()
		defer mu.Unlock()
		if len(made) < 4 {
			k, err := newKey()
			if err != nil {
				return nil, err
			}
			made = append(made, k)
		}
		n++
		return made[n%len(made)], nil
	}
}

// trust is the verifier's copy of the issuer's keys.
func (w *world) trust(t *testing.T) *token.Trust {
	t.Helper()
	text, err := stage.Trust(w.github, w.server, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	tr, err := token.ParseTrust(text)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// mood is how the sink treats one environment.
type mood string

const (
	down    mood = "down"
	full    mood = "full"
	lazy    mood = "slow"
	shaking mood = "shaking" // fails now and then
)

// records is a create-only store with moods.
type records struct {
	mu    sync.Mutex
	files map[string]map[string][]byte // number of the environment → file → content
	moods map[string]mood
	puts  int
}

func (r *records) set(n string, m mood) { r.mu.Lock(); defer r.mu.Unlock(); r.moods[n] = m }

// ServeHTTP implements [http.Handler] for /N/ENVIRONMENT/FILE.
func (r *records) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	n, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	r.mu.Lock()
	r.puts++
	m, turn := r.moods[n], r.puts
	r.mu.Unlock()
	data, err := io.ReadAll(io.LimitReader(req.Body, 64<<20))
	switch {
	case err != nil || req.Method != http.MethodPut:
		http.Error(w, "PUT a file", http.StatusBadRequest)
		return
	case m == down, m == shaking && turn%2 == 0:
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	case m == full:
		http.Error(w, "full", http.StatusInsufficientStorage)
		return
	case m == lazy:
		time.Sleep(300 * time.Millisecond)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.files[n] == nil {
		r.files[n] = map[string][]byte{}
	}
	name := path.Base(req.URL.Path)
	if have, ok := r.files[n][name]; ok && string(have) != string(data) {
		w.WriteHeader(http.StatusConflict)
		return
	}
	r.files[n][name] = data
	w.WriteHeader(http.StatusCreated)
}

// take gives the record of an environment and forgets it.
func (r *records) take(n string) map[string][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	files := r.files[n]
	delete(r.files, n)
	return files
}
