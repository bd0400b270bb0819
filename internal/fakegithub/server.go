// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
)

// Server is one GitHub. It is an [http.Handler]; its methods are safe for concurrent use.
type Server struct {
	cfg    Config
	urls   endpoints
	byHost map[string]service
	mux    [services]*http.ServeMux
	skew   atomic.Int64     // of Faults
	steady func() time.Time // the clock without the skew: what was granted lasts as long as it was granted for
	log    *slog.Logger
	done   chan struct{} // closed by Close; ends every waiting poll
	once   sync.Once

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change of the state below
	state
}

// state is everything that mu guards.
type state struct {
	last         map[string]int64 // last identifier handed out, by kind
	repositories map[string]*repository
	runners      map[int64]*runner
	runs         []*run
	jobs         []*job
	tokens       map[string]*principal
	blobs        map[string]*blob
	requests     []Request
	serving      []*http.Server
	scaleSets    scaleSets

	issuer        *rsa.PrivateKey // signs id tokens
	kid           string
	retired       []jose.JSONWebKey // published, not used any more
	faults        Faults
	stray         *rsa.PrivateKey // of Faults.ForeignKey
	books         ledger
	spent         map[string]*budget
	registrations []registration
	swept         int // tokens that were left at the last sweep
}

// New makes a server and its issuer's key, which takes some hundred milliseconds. It serves nothing yet.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuring fakegithub: %w", err)
	}
	if cfg.Poll == 0 {
		cfg.Poll = 50 * time.Second
	}
	if cfg.Offer == 0 {
		cfg.Offer = offerTime
	}
	if cfg.Lock == 0 {
		cfg.Lock = lockTime
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.NewKey == nil {
		cfg.NewKey = func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }
	}
	key, err := cfg.NewKey()
	if err != nil {
		return nil, fmt.Errorf("making issuer key: %w", err)
	}
	s := &Server{
		cfg: cfg, urls: cfg.endpoints(), log: cfg.Log,
		byHost: map[string]service{}, done: make(chan struct{}), changed: make(chan struct{}),
	}
	s.steady = cfg.Now
	s.cfg.Now = func() time.Time { return cfg.Now().Add(time.Duration(s.skew.Load())) }
	s.state = state{
		issuer: key, kid: newID(), spent: map[string]*budget{}, swept: 1000,
		last: map[string]int64{"run": 7_000_000_000, "job": 41_000_000_000, "runner": 20}, repositories: map[string]*repository{},
		runners: map[int64]*runner{}, tokens: map[string]*principal{}, blobs: map[string]*blob{},
	}
	for svc := range services {
		s.byHost[cfg.Hosts.name(svc)] = svc
	}
	s.mux = s.routes()
	s.tokens[cfg.Operator.Token.Reveal()] = &principal{kind: operator, login: cfg.Operator.Login, id: cfg.Operator.ID}
	return s, nil
}

// Close ends waiting polls and stops what [Server.Serve] started. It waits for requests in hand until ctx ends.
func (s *Server) Close(ctx context.Context) error {
	s.once.Do(func() { close(s.done) })
	s.mu.Lock()
	serving := s.serving
	s.serving = nil
	for _, j := range s.jobs {
		if j.timer != nil {
			j.timer.Stop()
		}
	}
	s.mu.Unlock()
	for _, srv := range serving {
		if err := srv.Shutdown(ctx); err != nil {
			return fmt.Errorf("stopping fakegithub: %w", err)
		}
	}
	return nil
}

// touch tells everyone who waits that the state has changed. The caller holds mu.
func (s *Server) touch() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// await calls ready under mu until it says true, ctx ends, the server closes or the limit (0: none) is over. It reports
// whether ready said true.
func (s *Server) await(ctx context.Context, limit time.Duration, ready func() bool) (bool, error) {
	var over <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		over = timer.C
	}
	for {
		s.mu.Lock()
		ok, changed := ready(), s.changed
		s.mu.Unlock()
		if ok {
			return true, nil
		}
		select {
		case <-changed:
		case <-over:
			return false, nil
		case <-s.done:
			return false, http.ErrServerClosed
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// next hands out an identifier. The caller holds mu.
func (s *Server) next(kind string) int64 {
	s.last[kind]++
	return s.last[kind]
}

func newID() string { return uuid.NewString() }

// random returns n random bytes in hexadecimal.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
