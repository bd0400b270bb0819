// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// LateCompromise is a kind of evidence that resists an environment whose supervisor is taken over after dispatch.
type LateCompromise string

// The kinds of evidence that a policy can require. All that it lists are required.
const (
	RegisterReplay LateCompromise = "register-replay" // a run-time register that the host and the guest can only extend
	Token          LateCompromise = "token"           // GitHub's own signature over the job's identity, for this key
	Admission      LateCompromise = "admission"       // an operator's VSA-ENV: the machine was admitted once, for one job
)

// The floors that a policy can name, in the words of package snp.
const (
	FloorSignature = "signature"
	FloorDefault   = "default"
	FloorStrict    = "strict"
)

// The words of environments.revocation.
const (
	RevocationRequired  = "required"   // evidence without the vendor's list of revoked keys is refused
	RevocationIfPresent = "if-present" // a list that travels with the evidence is judged, its absence is shown
)

// environments says which environments may have built.
type environments struct {
	Platforms      list        `yaml:"platforms"`
	Floor          string      `yaml:"floor"`
	Chips          list        `yaml:"chips"`
	Providers      list        `yaml:"providers"`
	Revocation     string      `yaml:"revocation"`
	Images         images      `yaml:"images"`
	Measurements   list        `yaml:"measurements"`
	Registers      []registers `yaml:"registers"`
	LateCompromise list        `yaml:"lateCompromise"`
	Admission      *admission  `yaml:"admission"`

	revoked *revoked // the section of that name
}

// Environment is what a verified quote says about its machine.
type Environment struct {
	Platform    string
	ChipID      [64]byte          // AMD: CHIP_ID; Intel: PPID, 16 bytes, then zeros; zero where it is not told
	Provider    string            // whom the endorsement key was made for, "" where it is the chip's own
	Measurement [48]byte          // of the launch; zero on a plain TPM, which has none
	Registers   map[string]string // "rtmr0", "pcr4", …: the quoted ones, lower-case hexadecimal

	// Signed names the values above that are among the signed reference values of one image which environments.images
	// accepts: [SignedMeasurement], and registers by their names. Only what package reference found may stand here; empty
	// means that no image was verified.
	Signed []string
}

// SignedMeasurement is the name of the launch measurement in [Environment].Signed.
const SignedMeasurement = "measurement"

// Environments is the section that says which environments may have built.
type Environments struct{ policy *Policy }

// Environments gives the section environments, which refuses everything when the file has none.
func (p *Policy) Environments() Environments { return Environments{p} }

func (e Environments) section(now time.Time) (*environments, error) {
	if err := e.policy.inForce(now); err != nil {
		return nil, err
	}
	if e.policy.envs == nil {
		return nil, noSection("environments")
	}
	return e.policy.envs, nil
}

// Floor gives the floor that every quote has to reach: one of the floor constants.
func (e Environments) Floor(now time.Time) (string, error) {
	s, err := e.section(now)
	if err != nil {
		return "", err
	}
	return s.Floor, nil
}

// Requires gives the evidence against late compromise that the policy demands: all of it. It is empty only where the
// policy says "none".
func (e Environments) Requires(now time.Time) ([]LateCompromise, error) {
	s, err := e.section(now)
	if err != nil {
		return nil, err
	}
	out := make([]LateCompromise, len(s.LateCompromise.values))
	for i, v := range s.LateCompromise.values {
		out[i] = LateCompromise(v)
	}
	return out, nil
}

// Allow returns nil when the section accepts the environment at this time: platform, chip, image, measurement and
// registers, and no chip that is revoked. Otherwise it joins one [refusal.Refusal] for each that it does not accept, with
// code revoked, policy or measurement.
func (e Environments) Allow(env Environment, now time.Time) error {
	s, err := e.section(now)
	if err != nil {
		return err
	}
	errs := []error{s.revoked.chip(env.ChipID)}
	if env.Platform == "" || !slices.Contains(s.Platforms.values, env.Platform) {
		errs = append(errs, refuse(refusal.Policy, "environments.platforms to accept it: "+s.Platforms.String(),
			fmt.Sprintf("%q", env.Platform), "build on a platform that the policy names"))
	}
	if s.Chips.word != wordAny && !s.Chips.absent() && !s.names(env) {
		errs = append(errs, refuse(refusal.Policy, "environments.chips to name the chip, or environments.providers its provider",
			hex.EncodeToString(env.ChipID[:]), "build on a chip that the policy names"))
	}
	if err := s.needsImage(env); err != nil {
		errs = append(errs, err)
	}
	if m := hex.EncodeToString(env.Measurement[:]); env.Platform != platformTPM && (env.Measurement == [48]byte{} || !s.measures(env, m)) {
		errs = append(errs, refuse(refusal.Measurement, "a measurement that environments.measurements names: "+
			s.Measurements.String(), m, "the image, kernel or command line differs from what the policy expects; "+
			"build with that image, or measure this one and review it"))
	}
	return errors.Join(append(errs, s.allowRegisters(env))...)
}

// measures reports whether the section names the measurement, or leaves it to the image's signed reference values and those
// have it.
func (s *environments) measures(env Environment, measurement string) bool {
	if s.Measurements.word == wordSigned {
		return env.signed(SignedMeasurement)
	}
	return s.Measurements.has(measurement)
}

// platformTPM is the platform without a launch measurement: its registers alone say what booted.
const platformTPM = "vtpm"

// names reports whether the policy writes this machine's chip or provider down. "any" names nobody.
func (s *environments) names(env Environment) bool {
	chip := env.ChipID != [64]byte{} && slices.Contains(s.Chips.values, hex.EncodeToString(env.ChipID[:]))
	return chip || (env.Provider != "" && slices.Contains(s.Providers.values, env.Provider))
}

// Names reports whether the section writes the machine's chip or provider down, which lets a floor pass it that refuses
// its kind of chip. The word "any" names nobody.
func (e Environments) Names(env Environment, now time.Time) (bool, error) {
	s, err := e.section(now)
	if err != nil {
		return false, err
	}
	return s.names(env), nil
}

// RevocationRequired reports whether a quote has to come with the vendor's list of revoked keys.
func (e Environments) RevocationRequired(now time.Time) (bool, error) {
	s, err := e.section(now)
	if err != nil {
		return false, err
	}
	return s.Revocation != RevocationIfPresent, nil
}

// artifacts says which artifacts a consumer takes.
type artifacts struct {
	Builders list `yaml:"builders"`
	identity `yaml:",inline"`
}

// Artifacts is the section that says which artifacts a consumer takes.
type Artifacts struct{ policy *Policy }

// Artifacts gives the section artifacts, which refuses everything when the file has none.
func (p *Policy) Artifacts() Artifacts { return Artifacts{p} }

// Allow returns nil when the section accepts an artifact that this builder made in a job with these facts. Otherwise
// it joins one [refusal.Refusal] for each field that does not, with code identity or policy.
func (a Artifacts) Allow(builderID string, f statement.Facts, now time.Time) error {
	if err := a.policy.inForce(now); err != nil {
		return err
	}
	s := a.policy.arts
	if s == nil {
		return noSection("artifacts")
	}
	var errs []error
	if builderID == "" || !slices.Contains(s.Builders.values, builderID) {
		errs = append(errs, refuse(refusal.Policy, "artifacts.builders to accept the builder: "+s.Builders.String(),
			fmt.Sprintf("%q", builderID), "take an artifact of a builder that the policy names"))
	}
	return errors.Join(append(errs, s.allow("artifacts", f))...)
}
