// SPDX-License-Identifier: Apache-2.0

package statement

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kettle/attest/attest/binding"
)

// SelfVerifier is the verifier.id of every VSA-SELF and of nothing else: a machine that judges itself. Nothing outside of
// the machine may rely on it alone.
const SelfVerifier = "https://github.com/kettle/attest/verifiers/self/v1"

const (
	environments   = "https://github.com/kettle/attest/environments/"
	images         = "https://github.com/kettle/attest/images/"
	instancePrefix = "instance:" // and the platform
	launchSubject  = "launch"
)

// EnvironmentURI is the resourceUri of what is said about an environment, which its key names.
func EnvironmentURI(key binding.Digest) string { return environments + key.String() }

// ImageURI is a resourceUri for an image that is published nowhere: the digest of its image.json names it.
func ImageURI(manifest binding.Digest) string { return images + manifest.String() }

// The digest keys that name a running machine and what it measured, beside sha256. All are lower-case hexadecimal.
const (
	KeySNPReportID    = "sevSnpReportId"    // REPORT_ID, 32 bytes
	KeySNPChipID      = "sevSnpChipId"      // CHIP_ID, 64 bytes
	KeyTDXPPID        = "tdxPpid"           // PPID, 16 bytes
	KeyTPMAK          = "tpmAk"             // SHA-256 of the attestation key's SubjectPublicKeyInfo
	KeySNPMeasurement = "sevSnpMeasurement" // launch digest, 48 bytes
	KeySimMeasurement = "simMeasurement"    // the simulator's launch digest, 48 bytes
	KeyTDXMRTD        = "tdxMrtd"           // MRTD, 48 bytes
	KeyTDXRTMR        = "tdxRtmr"           // and the number, 0 to 3: RTMR, 48 bytes
	KeyTPMPCR         = "tpmPcrSha256_"     // and the number, 0 to 23: a PCR's value in the SHA-256 bank
)

// InstanceDigest gives the digest set that names a running machine.
func InstanceDigest(i Instance) DigestSet {
	s := DigestSet{}
	chip := KeySNPChipID
	if i.ReportID == "" {
		chip = KeyTDXPPID
	}
	for key, value := range map[string]string{KeySNPReportID: i.ReportID, chip: i.ChipID, KeyTPMAK: i.AttestationKey} {
		if value != "" {
			s[key] = value
		}
	}
	return s
}

// parseInstance reads what InstanceDigest writes.
func parseInstance(platform string, s DigestSet) (Instance, error) {
	i := Instance{Platform: platform, ReportID: s[KeySNPReportID], ChipID: s[KeySNPChipID] + s[KeyTDXPPID], AttestationKey: s[KeyTPMAK]}
	if err := i.validate(); err != nil {
		return Instance{}, err
	}
	if !maps.Equal(InstanceDigest(i), s) {
		return Instance{}, malformed("an instance with the names of platform "+platform+" and no others", "other names")
	}
	return i, nil
}

// ImageVSA is VSA-IMG: whoever is about to launch an image says that its provenance and reference values hold.
type ImageVSA struct {
	VSA // subjects are the image's files
}

// Marshal encodes the statement once. The levels need [PropertyImage] unless the result is FAILED.
func (v *ImageVSA) Marshal() ([]byte, error) {
	if err := v.kind(); err != nil {
		return nil, err
	}
	return v.VSA.Marshal()
}

// ParseImageVSA reads a VSA-IMG payload.
func ParseImageVSA(payload []byte) (*ImageVSA, error) {
	v, err := ParseVSA(payload)
	if err != nil {
		return nil, err
	}
	img := &ImageVSA{*v}
	if err := img.kind(); err != nil {
		return nil, err
	}
	return img, nil
}

func (v *ImageVSA) kind() error {
	if err := imageSubjects(v.Subjects); err != nil {
		return err
	}
	return v.only(PropertyImage)
}

// SelfVSA is VSA-SELF: an environment says that it found its own measurements among the signed reference values of its
// image before it made its key. It is advisory.
type SelfVSA struct {
	EnvironmentKey binding.Digest
	Image          []Subject // the image's files
	Summary        VSA       // Subjects and ResourceURI are written by Marshal
}

// Marshal encodes the statement once. The verifier is [SelfVerifier], the result PASSED, and the levels hold
// [PropertySelf] and [PropertyRevocationNotChecked]: a machine cannot know what was revoked since it was built. A level of
// the build environment track is refused: nobody grants that to himself.
func (v *SelfVSA) Marshal() ([]byte, error) {
	s := v.Summary
	s.Subjects = about(v.EnvironmentKey, nil, nil, v.Image)
	s.ResourceURI = EnvironmentURI(v.EnvironmentKey)
	if err := selfKind(&s, v.EnvironmentKey, v.Image); err != nil {
		return nil, err
	}
	return s.Marshal()
}

// ParseSelfVSA reads a VSA-SELF payload.
func ParseSelfVSA(payload []byte) (*SelfVSA, error) {
	s, err := ParseVSA(payload)
	if err != nil {
		return nil, err
	}
	v := &SelfVSA{Summary: *s}
	if v.EnvironmentKey, v.Image, err = environmentOf(s.Subjects); err != nil {
		return nil, err
	}
	if err := selfKind(s, v.EnvironmentKey, v.Image); err != nil {
		return nil, err
	}
	return v, nil
}

func selfKind(s *VSA, key binding.Digest, image []Subject) error {
	if s.Verifier.ID != SelfVerifier {
		return malformed("verifier.id "+SelfVerifier, fmt.Sprintf("%.80q", s.Verifier.ID))
	}
	if s.Result != Passed || !slices.Contains(s.Levels, PropertyRevocationNotChecked) || slices.Contains(s.Levels, PropertyRevocationChecked) {
		return malformed("PASSED with "+PropertyRevocationNotChecked, fmt.Sprintf("%.20q without it", string(s.Result)))
	}
	if slices.ContainsFunc(s.Levels, draftLevel) {
		return malformed("no level of the build environment track", "one that a machine grants itself")
	}
	if err := imageSubjects(image); err != nil {
		return err
	}
	if err := s.ofEnvironment(key); err != nil {
		return err
	}
	return s.only(PropertySelf)
}

// EnvironmentVSA is VSA-ENV: somebody outside appraised this environment, on this running machine, before anything was
// released to it.
type EnvironmentVSA struct {
	EnvironmentKey binding.Digest
	Instance       Instance
	Launch         DigestSet // what was quoted: [KeySNPMeasurement] and its like
	Image          []Subject // the image's files; none where the policy accepts any image
	Summary        VSA       // Subjects and ResourceURI are written by Marshal
}

// Marshal encodes the statement once. The levels need [PropertyEnvironment] unless the result is FAILED.
func (v *EnvironmentVSA) Marshal() ([]byte, error) {
	s := v.Summary
	s.Subjects = about(v.EnvironmentKey, &v.Instance, v.Launch, v.Image)
	s.ResourceURI = EnvironmentURI(v.EnvironmentKey)
	if err := v.kind(&s); err != nil {
		return nil, err
	}
	return s.Marshal()
}

// ParseEnvironmentVSA reads a VSA-ENV payload.
func ParseEnvironmentVSA(payload []byte) (*EnvironmentVSA, error) {
	s, err := ParseVSA(payload)
	if err != nil {
		return nil, err
	}
	if len(s.Subjects) < 3 {
		return nil, malformed("environment, instance and launch as subjects", fmt.Sprintf("%d subjects", len(s.Subjects)))
	}
	v := &EnvironmentVSA{Summary: *s}
	platform, ok := strings.CutPrefix(s.Subjects[1].Name, instancePrefix)
	if !ok {
		return nil, malformed("the instance as second subject", fmt.Sprintf("%.80q", s.Subjects[1].Name))
	}
	if v.Instance, err = parseInstance(platform, s.Subjects[1].Digest); err != nil {
		return nil, err
	}
	if s.Subjects[2].Name != launchSubject {
		return nil, malformed("the launch as third subject", fmt.Sprintf("%.80q", s.Subjects[2].Name))
	}
	v.Launch = s.Subjects[2].Digest
	if v.EnvironmentKey, v.Image, err = environmentOf(append([]Subject{s.Subjects[0]}, s.Subjects[3:]...)); err != nil {
		return nil, err
	}
	if err := v.kind(s); err != nil {
		return nil, err
	}
	return v, nil
}

func (v *EnvironmentVSA) kind(s *VSA) error {
	if s.Verifier.ID == SelfVerifier {
		return malformed("a verifier outside of the environment", SelfVerifier)
	}
	if err := v.Instance.validate(); err != nil {
		return err
	}
	if err := checkLaunch(v.Launch); err != nil {
		return err
	}
	if len(v.Image) > 0 {
		if err := imageSubjects(v.Image); err != nil {
			return err
		}
	}
	if err := s.ofEnvironment(v.EnvironmentKey); err != nil {
		return err
	}
	return s.only(PropertyEnvironment)
}

// about lists the subjects in the one order that is read.
func about(key binding.Digest, i *Instance, launch DigestSet, image []Subject) []Subject {
	out := []Subject{{Name: environmentSubject, Digest: SHA256(key)}}
	if i != nil {
		out = append(out, Subject{instancePrefix + i.Platform, InstanceDigest(*i)}, Subject{launchSubject, launch})
	}
	return append(out, image...)
}

// environmentOf takes the environment's key from the first subject; the others are the image's files.
func environmentOf(subjects []Subject) (binding.Digest, []Subject, error) {
	if subjects[0].Name != environmentSubject || len(subjects[0].Digest) != 1 {
		return binding.Digest{}, nil, malformed("the environment as first subject", fmt.Sprintf("%.80q", subjects[0].Name))
	}
	key, ok := subjects[0].Digest.SHA256()
	if !ok {
		return binding.Digest{}, nil, malformed("the SHA-256 digest of the environment key", "none")
	}
	return key, subjects[1:], nil
}

func imageSubjects(image []Subject) error {
	if err := checkSubjects(image); err != nil {
		return err
	}
	for _, s := range image {
		if reserved(s.Name) {
			return malformed("the name of an image's file", fmt.Sprintf("%.80q", s.Name))
		}
	}
	return nil
}

// reserved reports whether a subject's name has a meaning that no file of an image has.
func reserved(name string) bool {
	return name == environmentSubject || name == launchSubject || strings.HasPrefix(name, instancePrefix)
}

// ofEnvironment demands the URI of the environment that the key names.
func (v *VSA) ofEnvironment(key binding.Digest) error {
	if key.IsZero() {
		return malformed("the digest of the environment key", "none")
	}
	if want := EnvironmentURI(key); v.ResourceURI != want {
		return malformed("resourceUri "+want, fmt.Sprintf("%.120q", v.ResourceURI))
	}
	return nil
}

// only demands the property of one kind of summary, and none of the others'.
func (v *VSA) only(property string) error {
	for _, p := range []string{PropertyImage, PropertySelf, PropertyEnvironment} {
		if has := slices.Contains(v.Levels, p); has != (p == property) && v.Result != Failed {
			return malformed("the property "+property+" and none of another kind of summary", fmt.Sprintf("%.200q", v.Levels))
		}
	}
	return nil
}

// checkLaunch demands registers that are known, each of its length.
func checkLaunch(s DigestSet) error {
	if err := s.check(); err != nil {
		return err
	}
	for key, value := range s {
		if size, ok := registerSize(key); !ok || hex.DecodedLen(len(value)) != size {
			return malformed("measurements and registers that are known, each of its length", fmt.Sprintf("%.40q of %d digits", key, len(value)))
		}
	}
	return nil
}

// registerSize gives the length of what a digest key of a measurement holds, in bytes.
func registerSize(key string) (int, bool) {
	const sha384, sha256 = 48, 32
	switch key {
	case KeySNPMeasurement, KeySimMeasurement, KeyTDXMRTD:
		return sha384, true
	}
	if n, ok := strings.CutPrefix(key, KeyTDXRTMR); ok {
		return sha384, len(n) == 1 && n[0] >= '0' && n[0] <= '3'
	}
	if n, ok := strings.CutPrefix(key, KeyTPMPCR); ok {
		for i := range 24 {
			if n == fmt.Sprint(i) {
				return sha256, true
			}
		}
	}
	return 0, false
}
