// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"time"
)

// Times of the launcher's own server and of who asks it.
const (
	headerTime = 5 * time.Second
	answerTime = 10 * time.Second
	closeTime  = 2 * time.Second
)

// Handler answers who may look and change nothing: /metrics, /healthz and /status.
func (s *Session) Handler() http.Handler {
	mux := http.NewServeMux()
	if m := s.config.Reaper.Metrics; m != nil {
		mux.Handle("GET /metrics", m.Handler())
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := s.Healthy(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = fmt.Fprintln(w, err)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /status", s.answer)
	return mux
}

// control is [Session.Handler] for who may also change something.
func (s *Session) control() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", s.Handler())
	mux.HandleFunc("POST /drain", func(w http.ResponseWriter, r *http.Request) {
		s.Drain()
		s.answer(w, r)
	})
	return mux
}

func (s *Session) answer(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(s.Status()) // the asker has gone
}

// Serve answers on the socket in the environment's folder, which only its user can reach, and on listener if it is not nil,
// until ctx ends. It returns at once, with a function that waits for the end.
func (s *Session) Serve(ctx context.Context, listener net.Listener) (wait func(), err error) {
	path := filepath.Join(s.config.Folder.path, socketFile)
	socket, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening on the control socket: %w", err)
	}
	ends := []func(){serve(ctx, socket, s.control())}
	if listener != nil {
		ends = append(ends, serve(ctx, listener, s.Handler()))
	}
	return func() {
		for _, end := range ends {
			end()
		}
	}, nil
}

// serve answers on one listener until ctx ends; the function it gives waits for that.
func serve(ctx context.Context, l net.Listener, h http.Handler) func() {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTime, ReadTimeout: headerTime, WriteTimeout: answerTime, IdleTimeout: answerTime,
		MaxHeaderBytes: 16 << 10, BaseContext: func(net.Listener) context.Context { return ctx },
	}
	served, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l) // ends with Shutdown; without it status and drain fail, and nothing else
	}()
	go func() {
		defer close(stopped)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close()
		}
	}()
	return func() { <-served; <-stopped }
}

// Ask has the living launcher of an environment say how it stands; with drain, it is asked to drain first. The error
// matches [ErrGone] when there is no such launcher.
func Ask(ctx context.Context, state, environment string, drain bool) (Status, error) {
	st, err := ask(ctx, filepath.Join(state, environment), drain)
	if err != nil {
		return Status{}, fmt.Errorf("asking the launcher of %s: %w", environment, err)
	}
	return st, nil
}

// ErrGone means that no launcher holds an environment.
var ErrGone = errors.New("no launcher holds it")

func ask(ctx context.Context, path string, drain bool) (Status, error) {
	if !alive(path) {
		return Status{}, ErrGone
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(path, socketFile))
	}}
	method, what := http.MethodGet, "/status"
	if drain {
		method, what = http.MethodPost, "/drain"
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://launcher"+what, nil)
	if err != nil {
		return Status{}, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return Status{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Status{}, fmt.Errorf("it answered %s", resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxFile))
	if err != nil {
		return Status{}, err
	}
	return ParseStatus(data)
}
