// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/netutil"

	wire "github.com/kettle/attest/attest/admission"
	"github.com/kettle/attest/attest/refusal"
)

// Times of the server's connections beside those of [Limits].
const (
	headerTime = 5 * time.Second
	idleTime   = 30 * time.Second
	closeTime  = 10 * time.Second
)

// Handler answers the two exchanges and nothing else. It has to stand behind TLS.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+wire.PathChallenge, s.serveChallenge)
	mux.HandleFunc("POST "+wire.PathAdmit, s.serveAdmit)
	return mux
}

// Serve answers on the listener over TLS 1.3 with this certificate until ctx ends, and then finishes what it has begun.
func (s *Server) Serve(ctx context.Context, l net.Listener, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) error {
	limits := s.config.Limits
	server := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: 8 << 10,
		ReadTimeout: headerTime + limits.Wait + limits.Read, WriteTimeout: headerTime + 4*limits.Wait + limits.Read,
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	listener := tls.NewListener(netutil.LimitListener(l, limits.Conns), &tls.Config{
		MinVersion: tls.VersionTLS13, GetCertificate: certificate, NextProtos: []string{"http/1.1"},
	})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving admissions: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	err := server.Shutdown(grace)
	if err != nil {
		err = errors.Join(fmt.Errorf("ending the server: %w", err), server.Close())
	}
	if last := <-served; !errors.Is(last, http.ErrServerClosed) {
		err = errors.Join(err, last)
	}
	return err
}

func (s *Server) serveChallenge(w http.ResponseWriter, r *http.Request) {
	body, err := s.read(w, r, wire.MaxHello)
	var h wire.Hello
	if err == nil {
		h, err = wire.ParseHello(body)
	}
	var line []byte
	if err == nil {
		line, err = s.challenge(r.Context(), h)
	}
	s.config.Metrics.challenged(err)
	if err != nil {
		s.refuse(r.Context(), w, s.refused(outcome{}, err))
		return
	}
	answer(w, http.StatusOK, wire.MediaJSON, line)
}

func (s *Server) serveAdmit(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	leave := s.config.Metrics.enter()
	defer leave()
	size, err := length(r, wire.MaxRequest)
	if err == nil {
		err = s.acquire(r.Context(), s.memory, size)
	}
	if err != nil {
		s.conclude(r, w, s.refused(outcome{event: Event{At: s.config.Now()}}, err), began)
		return
	}
	defer s.memory.Release(size)
	body, err := s.read(w, r, size)
	if err != nil {
		s.conclude(r, w, s.refused(outcome{event: Event{At: s.config.Now()}}, err), began)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 2*s.config.Limits.Wait)
	defer cancel()
	s.conclude(r, w, s.admit(ctx, body, r.RemoteAddr), began)
}

// conclude sends the answer and says in the audit log what became of it.
func (s *Server) conclude(r *http.Request, w http.ResponseWriter, o outcome, began time.Time) {
	ctx := context.WithoutCancel(r.Context())
	o.event.From = clip(r.RemoteAddr)
	if o.answer != nil {
		_, err := w.Write(o.head(w)) //nolint:gosec // no page: JSON for a program.
		if err == nil {
			err = http.NewResponseController(w).Flush()
		}
		if o.event.Decision = Delivered; err != nil {
			o.event.Decision, o.event.Fault = Lost, "the answer could not be sent"
		}
	} else {
		s.refuse(ctx, w, o)
		if o.event.Decision == Lost {
			o.event.Fault = "the audit log could not be written"
		}
	}
	s.config.Metrics.concluded(o.event, time.Since(began))
	s.log.InfoContext(ctx, "admission concluded", "decision", string(o.event.Decision), "environment", o.event.Environment.String(), "from", o.event.From)
	if err := s.config.Audit.Write(o.event, false); err != nil {
		s.log.ErrorContext(ctx, "audit log not written", "error", err)
	}
}

// head writes the head of a good answer and gives its body.
func (o outcome) head(w http.ResponseWriter) []byte {
	header(w, wire.MediaLines, len(o.answer))
	w.WriteHeader(http.StatusOK)
	return o.answer
}

// refuse answers with refusals. What is none is told in one constant sentence: the cause is the operator's business.
func (s *Server) refuse(ctx context.Context, w http.ResponseWriter, o outcome) {
	rs := refusal.All(o.err)
	if len(rs) == 0 {
		s.log.WarnContext(ctx, "admission failed", "error", o.err)
		rs = []*refusal.Refusal{{
			Link: linkRequest, Code: refusal.Missing, Want: "a dispatcher that can decide", Got: "one that cannot now",
			Next: "ask again later; the dispatcher's log says why",
		}}
	}
	text, err := wire.Refusal{Final: o.final, Refusals: rs}.Encode()
	if err != nil {
		s.log.ErrorContext(ctx, "refusal not encoded", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	status := o.statusOf()
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
	}
	answer(w, status, wire.MediaJSON, text)
}

// retryAfter is when an environment should ask again.
const retryAfter = 2 * time.Second

// length demands a request that says how long it is.
func length(r *http.Request, limit int64) (int64, error) {
	if r.ContentLength <= 0 || r.ContentLength > limit {
		return 0, &refusal.Refusal{
			Link: linkRequest, Code: refusal.Malformed, Want: fmt.Sprintf("a request of 1 to %d bytes that says how many", limit),
			Got: fmt.Sprintf("%d", r.ContentLength), Next: "run programs of the same version on both sides",
		}
	}
	return r.ContentLength, nil
}

// read reads a body whole, within a time.
func (s *Server) read(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	size, err := length(r, limit)
	if err != nil {
		return nil, err
	}
	// A connection that takes no deadline has no network. When the body is there, nothing more is read, and a deadline
	// that passes would look like an asker that has gone.
	controller := http.NewResponseController(w)
	_ = controller.SetReadDeadline(time.Now().Add(s.config.Limits.Read))
	defer func() { _ = controller.SetReadDeadline(time.Time{}) }()
	body := make([]byte, size)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		return nil, fmt.Errorf("reading a request: %w", err)
	}
	return body, nil
}

func header(w http.ResponseWriter, media string, size int) {
	h := w.Header()
	h.Set("Content-Type", media)
	h.Set("Content-Length", strconv.Itoa(size))
	h.Set("Cache-Control", "no-store")
}

func answer(w http.ResponseWriter, status int, media string, body []byte) {
	header(w, media, len(body))
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec // no page: JSON for a program. The asker may have gone.
}
