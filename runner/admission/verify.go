// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	wire "github.com/kettle/attest/attest/admission"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/runner"
)

const link = "admission"

// signed gives the payload of a line that one of the operators' keys signed, and which.
func (c *Client) signed(line []byte) ([]byte, binding.Digest, error) {
	b, err := bundle.Parse(line)
	if err != nil {
		return nil, binding.Digest{}, err
	}
	var errs []error
	for _, spki := range c.config.Operators {
		payload, err := b.Verify(spki)
		if err == nil {
			return payload, binding.Sum(spki), nil
		}
		errs = append(errs, err)
	}
	return nil, binding.Digest{}, (&refusal.Refusal{
		Link: link, Code: refusal.Signature, Want: fmt.Sprintf("a signature by one of the %d operators' keys of the configuration", len(c.config.Operators)),
		Got: "one that none of them made", Next: "compare credential.keys of the image's configuration with the key that the dispatcher signs with",
	}).Because(errors.Join(errs...))
}

// summary verifies VSA-ENV: signed by an operator, passed, now, and about this environment on this running machine.
func (c *Client) summary(e runner.Applicant, s *statement.Challenge, line []byte) (*statement.EnvironmentVSA, error) {
	payload, _, err := c.signed(line)
	if err != nil {
		return nil, err
	}
	v, err := statement.ParseEnvironmentVSA(payload)
	if err != nil {
		return nil, err
	}
	if !v.Summary.Has(statement.PropertyEnvironment) {
		return nil, &refusal.Refusal{
			Link: link, Code: refusal.Policy, Want: "a VSA-ENV that PASSED with " + statement.PropertyEnvironment,
			Got: fmt.Sprintf("%.20q", string(v.Summary.Result)), Next: "look at the dispatcher's audit log",
		}
	}
	if err := agree(claim{"environment key of VSA-ENV", e.Key(), v.EnvironmentKey}); err != nil {
		return nil, err
	}
	if own := e.Instance(); v.Instance != own {
		return nil, other("VSA-ENV about instance "+fmt.Sprint(own), fmt.Sprint(v.Instance))
	}
	at := v.Summary.TimeVerified
	if at.Before(s.Conditions.Time) || at.After(s.Conditions.Expires) {
		return nil, &refusal.Refusal{
			Link: link, Code: refusal.Expired, Want: "a VSA-ENV of after the challenge, " + s.Conditions.Time.UTC().Format(time.RFC3339),
			Got: at.UTC().Format(time.RFC3339), Next: "ask again; an older summary belongs to another conversation",
		}
	}
	return v, nil
}

// open verifies the release and opens what it carries.
func (c *Client) open(e runner.Applicant, s *statement.Challenge, a wire.Answer, key *wire.Key) (wire.Credential, error) {
	payload, _, err := c.signed(a.Release)
	if err != nil {
		return wire.Credential{}, err
	}
	r, err := statement.ParseRelease(payload)
	if err != nil {
		return wire.Credential{}, err
	}
	terms := wire.Terms{Nonce: s.Conditions.Nonce, EnvironmentKey: e.Key(), HPKEKey: key.Digest(), Summary: binding.Sum(a.Summary)}
	if err := agree(
		claim{"environment key of the release", terms.EnvironmentKey, r.EnvironmentKey},
		claim{"nonce of the release", terms.Nonce, r.Conditions.Nonce},
		claim{"HPKE key of the release", terms.HPKEKey, r.Conditions.HPKEKey},
		claim{"VSA-ENV of the release", terms.Summary, r.Summary},
	); err != nil {
		return wire.Credential{}, err
	}
	plaintext, err := key.Open(terms, wire.Sealed{Encapsulated: r.Conditions.Encapsulated, Ciphertext: r.Conditions.Sealed})
	if err != nil {
		return wire.Credential{}, err
	}
	defer clear(plaintext)
	return wire.ParseCredential(plaintext)
}

// claim is a digest that stands in two places.
type claim struct {
	name      string
	want, got binding.Digest
}

func agree(claims ...claim) error {
	var errs []error
	for _, c := range claims {
		if subtle.ConstantTimeCompare(c.want[:], c.got[:]) != 1 {
			errs = append(errs, other(c.name+" to be "+c.want.String(), c.got.String()))
		}
	}
	return errors.Join(errs...)
}

func other(want, got string) error {
	return &refusal.Refusal{
		Link: link, Code: refusal.Binding, Want: want, Got: got,
		Next: "the answer belongs to another conversation; if it stays so, something stands between this machine and the dispatcher",
	}
}
