// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	wire "github.com/kettle/attest/attest/admission"
	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/statement"
)

// summarise makes VSA-ENV, one line signed with the operator's key: this environment on this running machine was
// appraised from outside under this policy, at this time.
func (s *Server) summarise(ctx context.Context, g *genuine, image Image, at time.Time) ([]byte, error) {
	v := statement.EnvironmentVSA{
		EnvironmentKey: g.request.EnvironmentKey, Instance: g.instance, Launch: launched(g.quotes[0]), Image: image.Files,
		Summary: statement.VSA{
			Verifier: s.config.Verifier, TimeVerified: at, Result: statement.Passed,
			Policy: statement.VSAPolicy{URI: s.config.PolicyURI, Digest: s.config.Judge.Policy.Digest()},
			Inputs: append(g.inputs, image.Inputs...),
			Levels: append(slices.Clone(image.Levels), statement.PropertyEnvironment, statement.PropertyRevocationChecked),
		},
	}
	payload, err := v.Marshal()
	if err != nil {
		return nil, fmt.Errorf("making VSA-ENV: %w", err)
	}
	return bundle.Sign(ctx, s.config.Key, payload)
}

// launched gives what was quoted of the launch and the registers. What is all zero says nothing and is left out.
func launched(q *appraise.Quote) statement.DigestSet {
	env, set := q.Environment(), statement.DigestSet{}
	key := statement.KeySNPMeasurement
	switch {
	case q.TD() != nil:
		key = statement.KeyTDXMRTD
	case q.Platform() == appraise.PlatformSim:
		key = statement.KeySimMeasurement
	}
	put := func(key, value string) {
		if !allZero(value) {
			set[key] = value
		}
	}
	put(key, hex.EncodeToString(env.Measurement[:]))
	for name, value := range env.Registers {
		if n, ok := strings.CutPrefix(name, "rtmr"); ok {
			put(statement.KeyTDXRTMR+n, value)
		} else if n, ok := strings.CutPrefix(name, "pcr"); ok {
			put(statement.KeyTPMPCR+n, value)
		}
	}
	return set
}

// seal makes the signed release: the credential, sealed to the quoted key for this nonce, environment and summary.
func (s *Server) seal(ctx context.Context, g *genuine, c wire.Credential, summary []byte) ([]byte, error) {
	plaintext, err := c.Plaintext()
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	r := g.request
	terms := wire.Terms{Nonce: r.Conditions.Nonce, EnvironmentKey: r.EnvironmentKey, HPKEKey: r.HPKEKey, Summary: binding.Sum(summary)}
	sealed, err := wire.Seal(r.Conditions.HPKEKey, terms, plaintext)
	if err != nil {
		return nil, err
	}
	release := statement.Release{EnvironmentKey: r.EnvironmentKey, Summary: terms.Summary, Conditions: statement.ReleaseConditions{
		Nonce: terms.Nonce, HPKEKey: terms.HPKEKey, Encapsulated: sealed.Encapsulated, Sealed: sealed.Ciphertext,
	}}
	payload, err := release.Marshal()
	if err != nil {
		return nil, fmt.Errorf("making the release: %w", err)
	}
	return bundle.Sign(ctx, s.config.Key, payload)
}
