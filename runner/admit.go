// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"fmt"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/statement"
)

// applicant is an environment while it asks to be admitted.
type applicant struct{ *environment }

var _ Applicant = applicant{}

// Key implements [Applicant].
func (a applicant) Key() binding.Digest { return a.keyID }

// Instance implements [Applicant].
func (a applicant) Instance() statement.Instance { return a.self.Instance }

// Boot implements [Applicant].
func (a applicant) Boot() (signed, evidence []byte) { return a.boot.bundle, a.boot.evidence }

// Quote implements [Applicant].
func (a applicant) Quote(ctx context.Context, payload []byte, nonce, hpkeKey binding.Digest) (signed, evidence []byte, err error) {
	rec, err := a.attest(ctx, a.key, payload, binding.Context{Purpose: binding.Admission, Nonce: nonce, HPKEKey: hpkeKey})
	if err != nil {
		return nil, nil, fmt.Errorf("quoting the admission request: %w", err)
	}
	return rec.bundle, rec.evidence, nil
}

// admit has the environment appraised from outside, where the configuration asks for it.
func (a *Agent) admit(ctx context.Context) error {
	if a.ports.Admission == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.config.Register)
	defer cancel()
	line, err := a.ports.Admission.Admit(ctx, applicant{a.env})
	if err != nil {
		return fmt.Errorf("asking to be admitted: %w", err)
	}
	a.env.admitted = line
	return a.journal.Note("admitted", nil)
}

// admission gives the line that goes into every bundle file of an admitted environment, and into its record.
func (e *environment) admission() [][]byte {
	if e.admitted == nil {
		return nil
	}
	return [][]byte{e.admitted}
}
