// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
)

// revoked says what is not accepted any more, whatever else speaks for it.
type revoked struct {
	word   string // none
	Images list   // SHA-256 of any subject of an image's statements
	Keys   list   // SHA-256 of an environment key or an attestation key (SPKI)
	Chips  list   // as in environments.chips
}

// UnmarshalYAML reads the word none, or the three lists.
func (r *revoked) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		return n.Decode(&r.word)
	}
	return mapping(n, "revoked", map[string]func(*yaml.Node) error{
		"images": r.Images.UnmarshalYAML, "keys": r.Keys.UnmarshalYAML, "chips": r.Chips.UnmarshalYAML,
	})
}

func (c *checker) revoked(r *revoked) {
	switch {
	case r == nil:
		c.fault("revoked is missing: write what is not accepted any more, or none")
		return
	case r.word == wordNone:
		c.opened("revoked", wordNone)
		return
	case r.word != "":
		c.fault("revoked: want images, keys and chips, or none, got %.40q", r.word)
		return
	}
	for _, f := range []struct {
		name string
		list *list
		size int
	}{{"images", &r.Images, 32}, {"keys", &r.Keys, 32}, {"chips", &r.Chips, 64}} {
		c.list("revoked."+f.name, f.list, wordNone, hexOf(f.size))
	}
}

// Names are what a revocation can name. Only what is known is given.
type Names struct {
	Images []binding.Digest // every subject of the image's statements
	Keys   []binding.Digest // environment key, attestation key
	Chip   [64]byte         // as [Environment].ChipID; zero where it is not told
}

// Revoked is the section that says what is not accepted any more.
type Revoked struct{ policy *Policy }

// Revoked gives the section revoked, which refuses everything when the file has none.
func (p *Policy) Revoked() Revoked { return Revoked{p} }

// Allow returns nil when none of the names is revoked. Otherwise it joins one [refusal.Refusal] with code revoked for each
// that is.
func (r Revoked) Allow(n Names, now time.Time) error {
	if err := r.policy.inForce(now); err != nil {
		return err
	}
	s := r.policy.revoked
	if s == nil {
		return noSection("revoked")
	}
	var errs []error
	for _, d := range n.Images {
		errs = append(errs, s.Images.revokes("images", "an image", d.String()))
	}
	for _, d := range n.Keys {
		errs = append(errs, s.Keys.revokes("keys", "a key", d.String()))
	}
	return errors.Join(append(errs, s.chip(n.Chip))...)
}

// revokes refuses what the list names.
func (l *list) revokes(field, what, name string) error {
	if !slices.Contains(l.values, name) {
		return nil
	}
	return &refusal.Refusal{
		Link: link, Code: refusal.Revoked, Want: fmt.Sprintf("%s that revoked.%s does not name", what, field), Got: name,
		Next: "use another one; this one was withdrawn in writing",
	}
}

// chip refuses a machine on a revoked chip.
func (r *revoked) chip(id [64]byte) error {
	if id == [64]byte{} {
		return nil
	}
	return r.Chips.revokes("chips", "a chip", hex.EncodeToString(id[:]))
}
