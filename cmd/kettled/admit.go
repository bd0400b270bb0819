// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/admission"
	"github.com/kettle/attest/runner/github"
)

// service is GitHub as this environment reaches it. Before a credential is there it answers that there is none.
type service struct {
	mu         sync.Mutex
	registrar  runner.Registrar  // mu
	identifier runner.Identifier // mu
}

var (
	_ runner.Registrar  = (*service)(nil)
	_ runner.Identifier = (*service)(nil)
)

var errNoCredential = errors.New("this environment was given no credential for GitHub")

func (s *service) open(r runner.Registrar, i runner.Identifier) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.registrar, s.identifier = r, i
}

func (s *service) get() (runner.Registrar, runner.Identifier, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.registrar == nil || s.identifier == nil {
		return nil, nil, errNoCredential
	}
	return s.registrar, s.identifier, nil
}

// Register implements [runner.Registrar].
func (s *service) Register(ctx context.Context, name string) (runner.Registration, error) {
	r, _, err := s.get()
	if err != nil {
		return runner.Registration{}, err
	}
	return r.Register(ctx, name)
}

// Observe implements [runner.Registrar].
func (s *service) Observe(ctx context.Context, reg runner.Registration) (runner.Sight, error) {
	r, _, err := s.get()
	if err != nil {
		return "", err
	}
	return r.Observe(ctx, reg)
}

// Remove implements [runner.Registrar].
func (s *service) Remove(ctx context.Context, reg runner.Registration) error {
	r, _, err := s.get()
	if err != nil {
		return err
	}
	return r.Remove(ctx, reg)
}

// Identify implements [runner.Identifier].
func (s *service) Identify(ctx context.Context, q runner.Question) (*runner.Job, error) {
	_, i, err := s.get()
	if err != nil {
		return nil, err
	}
	return i.Identify(ctx, q)
}

// Conclusion implements [runner.Identifier].
func (s *service) Conclusion(ctx context.Context, facts statement.Facts) (string, error) {
	_, i, err := s.get()
	if err != nil {
		return "", err
	}
	return i.Conclusion(ctx, facts)
}

// applicant asks the dispatcher, and reaches GitHub with what it gives.
type applicant struct {
	client *admission.Client
	use    func(ctx context.Context, c github.Credential) error
	hide   func(...secret.String)
	log    *slog.Logger
}

var _ runner.Admission = (*applicant)(nil)

// Admit implements [runner.Admission].
func (a *applicant) Admit(ctx context.Context, e runner.Applicant) ([]byte, error) {
	line, err := a.client.Admit(ctx, e)
	if err != nil {
		return nil, err
	}
	given, ok := a.client.Released()
	if !ok {
		return nil, errNoCredential
	}
	a.log.InfoContext(ctx, "admitted", slog.String("by", given.Summary.Summary.Verifier.ID), slog.Any("clock", given.Clock))
	a.hide(given.Credential.Token)
	return line, a.use(ctx, github.Credential{Token: given.Credential.Token})
}

// newClient makes the client of the dispatcher that the measured configuration names.
func newClient(m *measured, prefix string, imageLines []byte, log *slog.Logger) (*admission.Client, error) {
	lines, err := bundle.Certified(imageLines)
	if err != nil {
		return nil, err
	}
	return admission.New(admission.Config{
		URL: m.config.Credential.URL, Roots: m.dispatchCA, Operators: m.operators, Prefix: prefix, Tolerance: clockTolerance,
		Image: lines, Now: time.Now, Logger: log,
	})
}
