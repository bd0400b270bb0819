// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"crypto/rsa"
	"fmt"
	"time"
)

// Faults are what a server gets wrong on purpose, or is strict about, where that needs its own state. The zero Faults is a server
// that behaves. What a request can meet on the way is in package fault.
//
// The functions run while the server's state is locked: they must return at once and must not call the server.
type Faults struct {
	// RunnerLag is how long the jobs API shows runner_id null after a runner got the job.
	RunnerLag time.Duration
	// JobRunner says which runner the jobs API shows for a job; 0 is null. With it a job names a wrong runner, or two jobs the same.
	JobRunner func(Job) (id int64, name string)
	// Acquire refuses an acquirejob. A refusal deletes the runner's registration, as the real service does (a ghost runner).
	Acquire func(Job, Runner) Refusal
	// MinimumVersion is the oldest runner that gets messages; older ones are told RunnerVersionTooOld. Empty: any.
	MinimumVersion string
	// Update is the version that runners which may update themselves are told to get, once each, by a RunnerRefresh.
	Update string
	// SessionConflict answers POST session with 409.
	SessionConflict bool
	// IDToken changes the claims of id tokens before they are signed.
	IDToken func(claims map[string]any)
	// KeyID takes the place of the key's identifier in id tokens. Empty: the real one.
	KeyID string
	// ForeignKey signs id tokens with a key that was never published.
	ForeignKey bool
	// InstallationLife is how long the tokens of App installations last from now on; 0 means an hour.
	InstallationLife time.Duration
	// Registrations is how many runners a scope may register in five minutes before a secondary rate limit refuses; 0: any number.
	Registrations int
	// Requests is how many requests a REST token has in an hour; answers of 304 are free. 0: any number.
	Requests int
	// Skew is how far this server's clock, its Date headers and all times in its answers are ahead of [Config.Now].
	Skew time.Duration
}

// Refusal is how an acquirejob is refused. The zero Refusal is none.
type Refusal struct {
	// Status is 404, 409 or 422.
	Status int
	// Cancel cancels the job's run first, as a person may between the offer and the acquire; otherwise the job is queued again.
	Cancel bool
}

// Misbehave puts faults in force in the place of those before.
func (s *Server) Misbehave(f Faults) error {
	var stray *rsa.PrivateKey
	if f.ForeignKey {
		var err error
		if stray, err = s.cfg.NewKey(); err != nil {
			return fmt.Errorf("making foreign key: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.stray = f, stray
	s.skew.Store(int64(f.Skew))
	s.touch()
	return nil
}

// RotateIssuer signs id tokens with a new key from now on. The keys before it stay published only if keep is set.
func (s *Server) RotateIssuer(keep bool) error {
	key, err := s.cfg.NewKey()
	if err != nil {
		return fmt.Errorf("making issuer key: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if keep {
		s.retired = append(s.retired, s.publicKey())
	} else {
		s.retired = nil
	}
	s.issuer, s.kid = key, newID()
	return nil
}

// RevokeInstallations ends every token of an App's installation, as an expiry or a person does.
func (s *Server) RevokeInstallations() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for token, p := range s.tokens {
		if p.kind == installation {
			delete(s.tokens, token)
		}
	}
}
