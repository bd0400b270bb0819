// SPDX-License-Identifier: Apache-2.0

package statement

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kettle/attest/attest/binding"
)

// VSAType is the predicate type of SLSA's verification summary.
const VSAType = "https://slsa.dev/verification_summary/v1"

// slsaVersion is the version of the specification whose levels a summary speaks of.
const slsaVersion = "1.2"

// VSAResult is what a verifier came to.
type VSAResult string

// The results. The empty one is none and is refused.
const (
	Passed VSAResult = "PASSED"
	Failed VSAResult = "FAILED"
)

// The properties that Kettle writes into verifiedLevels beside SLSA's levels. SLSA allows values of one's own there that do
// not start with SLSA_.
const (
	PropertyImage                = "KETTLE_IMAGE_VERIFIED"         // VSA-IMG: provenance and reference values of the image
	PropertySelf                 = "KETTLE_SELF_VERIFIED"          // VSA-SELF: an environment's word about itself
	PropertyEnvironment          = "KETTLE_ENVIRONMENT_ADMITTED"   // VSA-ENV: appraised from outside
	PropertyRevocationChecked    = "KETTLE_REVOCATION_CHECKED"     // against lists that the verifier holds
	PropertyRevocationNotChecked = "KETTLE_REVOCATION_NOT_CHECKED" // revocation: not checked
)

// Limits of one summary.
const (
	maxLevels = 32
	maxInputs = 256
	maxText   = 2048 // bytes of a URI or a name
)

// VSA is a verification summary: a verifier's signed word that it judged something under a policy. [ImageVSA], [SelfVSA]
// and [EnvironmentVSA] are the three that Kettle makes. Every field but DependencyLevels is required.
type VSA struct {
	Subjects     []Subject // digest sets with keys of one's own are allowed: see [InstanceDigest]
	Verifier     Verifier
	TimeVerified time.Time // whole seconds
	ResourceURI  string
	Policy       VSAPolicy
	Inputs       []ResourceDescriptor // all attestations that were judged, each with a SHA-256 digest
	Result       VSAResult
	Levels       []string // one of each track, and properties; FAILED alone with the result FAILED

	// DependencyLevels counts the transitive dependencies by level. Nil makes no claim; an empty map says that there are
	// none. The two differ, and both survive writing and reading.
	DependencyLevels *map[string]uint64

	// DraftLevels allows SLSA_BUILDENV_LEVEL_n among the levels when writing. That track is a working draft. Reading sets
	// it when such a level is there, and the reader decides.
	DraftLevels bool
}

// Verifier names who judged. The key that signs the summary has to be one that the reader knows for this ID.
type Verifier struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version"` // of the programs that judged
}

// VSAPolicy names the policy file.
type VSAPolicy struct {
	URI    string
	Digest binding.Digest
}

type vsaPredicate struct {
	Verifier           Verifier             `json:"verifier"`
	TimeVerified       *time.Time           `json:"timeVerified"`
	ResourceURI        string               `json:"resourceUri"`
	Policy             ResourceDescriptor   `json:"policy"`
	InputAttestations  []ResourceDescriptor `json:"inputAttestations"`
	VerificationResult VSAResult            `json:"verificationResult"`
	VerifiedLevels     []string             `json:"verifiedLevels"`
	DependencyLevels   *map[string]count    `json:"dependencyLevels,omitempty"`
	SLSAVersion        string               `json:"slsaVersion"`
}

// count is a number of dependencies. The bindings of the in-toto project write it as text, as Protobuf's JSON does.
type count uint64

// UnmarshalJSON reads a number, or the same digits as text.
func (c *count) UnmarshalJSON(b []byte) error {
	text := string(b)
	if quoted, ok := strings.CutPrefix(text, `"`); ok {
		text = strings.TrimSuffix(quoted, `"`)
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != text {
		return errors.New("a number of dependencies is no whole number")
	}
	*c = count(n)
	return nil
}

// BuildLevel names a level of SLSA's build track, 0 to 3.
func BuildLevel(n int) string { return "SLSA_BUILD_LEVEL_" + strconv.Itoa(n) }

// BuildEnvLevel names a level of the draft build environment track, 0 to 3.
func BuildEnvLevel(n int) string { return "SLSA_BUILDENV_LEVEL_" + strconv.Itoa(n) }

// Marshal encodes the statement once.
func (v *VSA) Marshal() ([]byte, error) {
	if err := v.validate(); err != nil {
		return nil, err
	}
	if !v.DraftLevels && slices.ContainsFunc(v.Levels, draftLevel) {
		return nil, malformed("levels of SLSA "+slsaVersion, "one of the draft build environment track, not asked for")
	}
	p := vsaPredicate{
		Verifier: v.Verifier, TimeVerified: seconds(v.TimeVerified), ResourceURI: v.ResourceURI,
		Policy:            ResourceDescriptor{URI: v.Policy.URI, Digest: SHA256(v.Policy.Digest)},
		InputAttestations: v.Inputs, VerificationResult: v.Result, VerifiedLevels: v.Levels, SLSAVersion: slsaVersion,
	}
	if v.DependencyLevels != nil {
		counts := make(map[string]count, len(*v.DependencyLevels))
		for level, n := range *v.DependencyLevels {
			counts[level] = count(n)
		}
		p.DependencyLevels = &counts
	}
	predicate, err := encode(p)
	if err != nil {
		return nil, err
	}
	return encode(header{Type: StatementType, Subject: v.Subjects, PredicateType: VSAType, Predicate: predicate})
}

// ParseVSA reads a summary of any verifier that keeps to the specification's fields and to this package's levels.
func ParseVSA(payload []byte) (*VSA, error) {
	var p vsaPredicate
	subjects, err := parseFor(payload, VSAType, &p, checkVSASubjects)
	if err != nil {
		return nil, err
	}
	if p.SLSAVersion != slsaVersion {
		return nil, malformed("slsaVersion "+slsaVersion, fmt.Sprintf("%.20q", p.SLSAVersion))
	}
	v := &VSA{
		Subjects: subjects, Verifier: p.Verifier, ResourceURI: p.ResourceURI, Inputs: p.InputAttestations,
		Result: p.VerificationResult, Levels: p.VerifiedLevels, DraftLevels: slices.ContainsFunc(p.VerifiedLevels, draftLevel),
	}
	if p.TimeVerified != nil {
		v.TimeVerified = *p.TimeVerified
	}
	v.Policy.URI = p.Policy.URI
	v.Policy.Digest, _ = p.Policy.Digest.SHA256()
	if p.DependencyLevels != nil {
		levels := make(map[string]uint64, len(*p.DependencyLevels))
		for level, n := range *p.DependencyLevels {
			levels[level] = uint64(n)
		}
		v.DependencyLevels = &levels
	}
	if err := v.validate(); err != nil {
		return nil, err
	}
	return v, nil
}

// Has reports whether the summary passed and claims this level or property.
func (v *VSA) Has(level string) bool { return v.Result == Passed && slices.Contains(v.Levels, level) }

func (v *VSA) validate() error {
	if err := checkVSASubjects(v.Subjects); err != nil {
		return err
	}
	if !absolute(v.Verifier.ID) {
		return malformed("verifier.id as an absolute URI", fmt.Sprintf("%.80q", v.Verifier.ID))
	}
	for program, version := range v.Verifier.Version {
		if program == "" || version == "" || len(program)+len(version) > maxText {
			return malformed("verifier.version with the names of programs and their versions", fmt.Sprintf("%.40q: %.40q", program, version))
		}
	}
	if len(v.Verifier.Version) == 0 || len(v.Verifier.Version) > maxLevels {
		return malformed("verifier.version with at least one program", fmt.Sprint(len(v.Verifier.Version)))
	}
	if v.TimeVerified.IsZero() {
		return malformed("timeVerified", "none")
	}
	if !absolute(v.ResourceURI) {
		return malformed("resourceUri as an absolute URI", fmt.Sprintf("%.80q", v.ResourceURI))
	}
	if v.Policy.URI == "" || len(v.Policy.URI) > maxText || v.Policy.Digest.IsZero() {
		return malformed("a policy with URI and SHA-256 digest", fmt.Sprintf("%.80q", v.Policy.URI))
	}
	if err := v.validateInputs(); err != nil {
		return err
	}
	return v.validateLevels()
}

func (v *VSA) validateInputs() error {
	if len(v.Inputs) == 0 || len(v.Inputs) > maxInputs {
		return malformed(fmt.Sprintf("1 to %d inputAttestations", maxInputs), fmt.Sprint(len(v.Inputs)))
	}
	seen := map[binding.Digest]bool{}
	for _, in := range v.Inputs {
		d, ok := in.Digest.SHA256()
		if !ok || d.IsZero() || seen[d] {
			return malformed("inputAttestations that each have a SHA-256 digest of their own", fmt.Sprintf("%.80q", in.Digest["sha256"]))
		}
		seen[d] = true
	}
	return nil
}

// The shapes of levels that this package writes and reads. Stock verifiers of summaries split at the underscore and stumble
// over SLSA's other properties, so those are not among them.
var (
	slsaLevel    = regexp.MustCompile(`^SLSA_(BUILD|BUILDENV)_LEVEL_[0-3]$`)
	ownProperty  = regexp.MustCompile(`^KETTLE_[A-Z0-9]+(_[A-Z0-9]+){0,7}$`)
	dependencies = regexp.MustCompile(`^SLSA_BUILD_LEVEL_([0-3]|UNEVALUATED)$`)
)

func draftLevel(level string) bool { return strings.HasPrefix(level, "SLSA_BUILDENV_") }

func (v *VSA) validateLevels() error {
	if v.DependencyLevels != nil {
		for level := range *v.DependencyLevels {
			if !dependencies.MatchString(level) {
				return malformed("dependencyLevels of the build track", fmt.Sprintf("%.80q", level))
			}
		}
	}
	switch v.Result {
	case Failed:
		if len(v.Levels) != 1 || v.Levels[0] != string(Failed) || v.DependencyLevels != nil {
			return malformed("verifiedLevels FAILED alone with the result FAILED", fmt.Sprintf("%.80q", v.Levels))
		}
		return nil
	case Passed:
	default:
		return malformed("verificationResult PASSED or FAILED", fmt.Sprintf("%.20q", string(v.Result)))
	}
	if len(v.Levels) == 0 || len(v.Levels) > maxLevels {
		return malformed(fmt.Sprintf("1 to %d verifiedLevels", maxLevels), fmt.Sprint(len(v.Levels)))
	}
	seen := map[string]bool{}
	for _, level := range v.Levels {
		name := level
		if slsaLevel.MatchString(level) {
			name = level[:len(level)-1] // one of each track
		} else if !ownProperty.MatchString(level) || len(level) > 64 {
			return malformed("verifiedLevels SLSA_BUILD_LEVEL_0 to _3 and KETTLE_…", fmt.Sprintf("%.80q", level))
		}
		if seen[name] {
			return malformed("one level of each track, each property once", fmt.Sprintf("%.80q", level))
		}
		seen[name] = true
	}
	return nil
}

// checkVSASubjects demands names of their own and well-formed digests. A summary can be about something that has no
// SHA-256, for example a running machine.
func checkVSASubjects(subjects []Subject) error {
	if len(subjects) == 0 || len(subjects) > MaxSubjects {
		return malformed(fmt.Sprintf("1 to %d subjects", MaxSubjects), fmt.Sprint(len(subjects)))
	}
	seen := make(map[string]bool, len(subjects))
	for _, s := range subjects {
		if s.Name == "" || len(s.Name) > maxText || seen[s.Name] {
			return malformed("subjects with a name of their own", fmt.Sprintf("%.80q", s.Name))
		}
		seen[s.Name] = true
		if err := s.Digest.check(); err != nil {
			return err
		}
	}
	return nil
}

var digestKey = regexp.MustCompile(`^[a-z][A-Za-z0-9_]{1,31}$`)

// zeros reports whether a value in hexadecimal is nothing but zeros.
func zeros(value string) bool { return strings.Trim(value, "0") == "" }

// extendable reports whether a digest key is of a register that starts as zeros, so that zeros say that nothing was measured.
func extendable(key string) bool {
	return strings.HasPrefix(key, KeyTDXRTMR) || strings.HasPrefix(key, KeyTPMPCR)
}

// check demands at least one digest, and of each a key and whole bytes in lower-case hexadecimal. Zeros are no digest.
func (s DigestSet) check() error {
	if len(s) == 0 || len(s) > 32 {
		return malformed("1 to 32 digests", fmt.Sprint(len(s)))
	}
	for key, value := range s {
		if !digestKey.MatchString(key) || len(value) == 0 || len(value)%2 != 0 || len(value) > 128 ||
			strings.Trim(value, "0123456789abcdef") != "" || zeros(value) && !extendable(key) {
			return malformed("digests in lower-case hexadecimal, each under its algorithm", fmt.Sprintf("%.40q: %.40q", key, value))
		}
		if _, ok := s.SHA256(); key == "sha256" && !ok {
			return malformed("a SHA-256 digest of 64 digits", fmt.Sprintf("%d characters", len(value)))
		}
	}
	return nil
}

// absolute reports whether s is a URI that stands for itself.
func absolute(s string) bool {
	u, err := url.Parse(s)
	return err == nil && len(s) <= maxText && u.Scheme != "" && (u.Host != "" || u.Opaque != "")
}
