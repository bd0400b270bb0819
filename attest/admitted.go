// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// clockSkew is how far the clocks of an environment and of whoever admitted it may be apart.
const clockSkew = 5 * time.Minute

// checkRevoked demands that nothing of the environment is named in the policy's section revoked.
func (c *chain) checkRevoked() error {
	names := policy.Names{Keys: []binding.Digest{c.context.EnvironmentKey}, Chip: c.quote.Environment().ChipID}
	if ak, err := binding.ParseDigest(c.appraisal.Instance().AttestationKey); err == nil {
		names.Keys = append(names.Keys, ak)
	}
	if c.image != nil {
		for _, s := range c.image.Subjects() {
			if d, ok := s.Digest.SHA256(); ok {
				names.Images = append(names.Images, d)
			}
		}
	}
	return c.req.Policy.Revoked().Allow(names, c.req.At)
}

// checkAdmission demands, where the policy requires it, the summary of somebody outside who appraised this very machine
// before its job was dispatched, and admitted it once. On a platform without a run-time register it is what resists an
// environment that is taken over later: such a machine can quote what it likes, and cannot be admitted again.
func (c *chain) checkAdmission() (found, error) {
	env := c.req.Policy.Environments()
	required, err := env.Requires(c.req.At)
	if err != nil {
		return found{}, err
	}
	if !slices.Contains(required, policy.Admission) {
		return found{"not asked for", "environments.lateCompromise", true}, nil
	}
	keys, err := env.AdmissionKeys(c.req.At)
	if err != nil {
		return found{}, err
	}
	var first error
	for n, digest := range c.idx.summaries {
		if n == maxTries {
			break
		}
		for _, key := range keys {
			f, err := c.admittedBy(digest, key)
			if err == nil {
				return f, nil
			}
			if first == nil {
				first = err
			}
		}
	}
	if first != nil {
		return found{}, first
	}
	return found{}, refuse(refusal.Missing, "a summary of the environment's admission (VSA-ENV)", "none",
		"take the whole bundle file; if it has none, the machine was given its credential without being appraised")
}

// admittedBy checks one summary with one key of the policy.
func (c *chain) admittedBy(digest binding.Digest, key policy.AdmissionKey) (found, error) {
	payload, err := c.idx.signed(digest, key.SPKI)
	if err != nil {
		return found{}, err
	}
	v, err := statement.ParseEnvironmentVSA(payload)
	if err != nil {
		return found{}, err
	}
	launch := ""
	for _, name := range []string{statement.KeySNPMeasurement, statement.KeySimMeasurement, statement.KeyTDXMRTD} {
		launch += v.Launch[name]
	}
	if err := agree(refusal.Binding, append(c.sameInstance(v.Instance),
		claim{"environment key", c.context.EnvironmentKey.String(), v.EnvironmentKey.String()},
		claim{"measurement", c.launch(), launch})...); err != nil {
		return found{}, err
	}
	if !v.Summary.Has(statement.PropertyEnvironment) {
		return found{}, refuse(refusal.Policy, "a summary that the environment passed", string(v.Summary.Result), "the machine was refused; do not trust what it made")
	}
	if at := c.dispatch.Conditions.DispatchedOn; v.Summary.TimeVerified.After(at.Add(clockSkew)) {
		return found{}, refuse(refusal.Binding, "an admission before dispatch, "+at.UTC().Format(time.RFC3339), v.Summary.TimeVerified.UTC().Format(time.RFC3339),
			"a machine that is admitted after its job began could be another; do not trust it")
	}
	c.admission = v
	return found{
		fmt.Sprintf("admitted %s by %s", v.Summary.TimeVerified.UTC().Format(time.RFC3339), clip(v.Summary.Verifier.ID)),
		"VSA-ENV, key sha256:" + key.Digest.String(), false,
	}, nil
}

// launch is what was quoted of the launch; empty on a plain TPM, where the instance says which machine it is.
func (c *chain) launch() string {
	measured := c.quote.Environment().Measurement
	if measured == [48]byte{} {
		return ""
	}
	return hex.EncodeToString(measured[:])
}
