// SPDX-License-Identifier: Apache-2.0

package statement

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/kettle/attest/attest/binding"
)

// The SCAI attributes of an image.
const (
	// AttributeReferenceValue says what a component is, or what a launch measures.
	AttributeReferenceValue = "REFERENCE_VALUE"
	// AttributeNoAgents says that nothing in the image lets its host, its cloud or a person in.
	AttributeNoAgents = "NO_MAINTENANCE_AGENTS"
	// AttributeEphemeralKey says that what a job writes lies under a key that is made inside and lives in memory.
	AttributeEphemeralKey = "RW_STORAGE_EPHEMERAL_KEY"
)

// The platforms of reference values.
const (
	ReferenceSNP = "snp"
	ReferenceTDX = "tdx"
	ReferenceTPM = "tpm" // the PCRs of a paravisor's or a host's TPM, wherever it is
	ReferenceSim = "sim"
)

// The ways to boot an image.
const (
	BootDirect = "direct" // kernel, initrd and command line given to the firmware, with their hashes
	BootUKI    = "uki"    // the unified kernel image from the disk
)

// Components of an image that a machine can measure of itself.
const (
	ComponentCommandLine   = "command-line"  // SHA-256 of its exact bytes, without a NUL
	ComponentRootHash      = "root-hash"     // the dm-verity root hash itself
	ComponentKettled       = "kettled"       // the program
	ComponentRunner        = "runner"        // actions/runner
	ComponentAction        = "kettle-action" // the program
	ComponentConfiguration = "configuration" // the file config.yaml
	ComponentPolicy        = "policy"        // the file that says which jobs run
)

// maxValues bounds the attributes of one statement.
const maxValues = 8192

// ReferenceValues is a SCAI statement: what an image measures where it is launched as its maker says.
type ReferenceValues struct {
	Subjects []Subject // equal to those of the image's provenance
	Producer string    // the signing workflow at its ref: builder.id of the provenance
	Values   []ReferenceValue
	Shown    []Shown // properties of the image, each with the test that shows it
}

// ReferenceValue is one value and the conditions under which it is measured.
type ReferenceValue struct {
	Conditions Conditions
	Name       string // for people
	Key        string // digest key: sha256 for a component, else as [KeySNPMeasurement] and its like
	Value      string // lower-case hexadecimal
}

// Conditions say when a value is measured. Either Component is set, alone, or Platform and what else the value depends on; an
// absent condition means that it does not depend on it.
type Conditions struct {
	Component string `json:"component,omitempty"`

	Platform      string `json:"platform,omitempty"` // snp, tdx, tpm or sim
	Boot          string `json:"boot,omitempty"`     // direct or uki
	VMM           string `json:"vmm,omitempty"`      // snp: qemu, ec2, ec2-v1, gce
	VCPUs         int    `json:"vcpus,omitempty"`
	VCPUType      string `json:"vcpuType,omitempty"`
	GuestFeatures string `json:"guestFeatures,omitempty"` // snp: SEV_FEATURES, as 0x1
	Register      string `json:"register,omitempty"`      // "mrtd", "rtmr1", "pcr4", …; absent for a launch digest
	Variant       string `json:"variant,omitempty"`       // of values that depend on the host's software
}

// Shown is a property of the image with the test that shows it.
type Shown struct {
	Attribute string // [AttributeNoAgents] or [AttributeEphemeralKey]
	Test      string // URI of the test at the commit that was built
	Commit    string // that commit
}

type referencePredicate struct {
	Attributes []referenceAttribute `json:"attributes"`
	Producer   ResourceDescriptor   `json:"producer"`
}

type referenceAttribute struct {
	Attribute  string              `json:"attribute"`
	Target     *ResourceDescriptor `json:"target,omitempty"`
	Conditions *Conditions         `json:"conditions,omitempty"`
	Evidence   *ResourceDescriptor `json:"evidence,omitempty"`
}

// Marshal encodes the statement once.
func (r *ReferenceValues) Marshal() ([]byte, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	p := referencePredicate{Producer: ResourceDescriptor{URI: r.Producer}}
	for _, v := range r.Values {
		p.Attributes = append(p.Attributes, referenceAttribute{
			Attribute: AttributeReferenceValue, Conditions: &v.Conditions,
			Target: &ResourceDescriptor{Name: v.Name, Digest: DigestSet{v.Key: v.Value}},
		})
	}
	for _, s := range r.Shown {
		p.Attributes = append(p.Attributes, referenceAttribute{
			Attribute: s.Attribute, Evidence: &ResourceDescriptor{URI: s.Test, Digest: DigestSet{"gitCommit": s.Commit}},
		})
	}
	return marshal(r.Subjects, SCAIType, p)
}

// ParseReferenceValues reads a REFERENCE_VALUE payload. Attributes of other names are refused.
func ParseReferenceValues(payload []byte) (*ReferenceValues, error) {
	var p referencePredicate
	subjects, err := parse(payload, SCAIType, &p)
	if err != nil {
		return nil, err
	}
	if producer := (ResourceDescriptor{URI: p.Producer.URI}); !same(producer, p.Producer) {
		return nil, malformed("a producer with its URI alone", "more")
	}
	r := &ReferenceValues{Subjects: subjects, Producer: p.Producer.URI}
	for _, a := range p.Attributes {
		if err := r.add(a); err != nil {
			return nil, err
		}
	}
	if err := r.validate(); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *ReferenceValues) add(a referenceAttribute) error {
	switch {
	case a.Attribute == AttributeReferenceValue && a.Target != nil && a.Conditions != nil && a.Evidence == nil && len(r.Shown) == 0: // one order
		if len(a.Target.Digest) != 1 {
			return malformed("one digest of each reference value", fmt.Sprint(len(a.Target.Digest)))
		}
		for key, value := range a.Target.Digest {
			if !same(*a.Target, ResourceDescriptor{Name: a.Target.Name, Digest: DigestSet{key: value}}) {
				return malformed("name and digest of each reference value", "more")
			}
			r.Values = append(r.Values, ReferenceValue{Conditions: *a.Conditions, Name: a.Target.Name, Key: key, Value: value})
		}
		return nil
	case a.Attribute != AttributeReferenceValue && a.Evidence != nil && a.Target == nil && a.Conditions == nil:
		s := Shown{Attribute: a.Attribute, Test: a.Evidence.URI, Commit: a.Evidence.Digest["gitCommit"]}
		if !same(*a.Evidence, ResourceDescriptor{URI: s.Test, Digest: DigestSet{"gitCommit": s.Commit}}) {
			return malformed("the test that shows "+fmt.Sprintf("%.40q", s.Attribute)+", and its commit", "something else")
		}
		r.Shown = append(r.Shown, s)
		return nil
	}
	return malformed("reference values with target and conditions, and properties with evidence", fmt.Sprintf("%.40q", a.Attribute))
}

// same compares descriptors as they are written.
func same(a, b ResourceDescriptor) bool {
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err == nil && err2 == nil && string(x) == string(y)
}

func (r *ReferenceValues) validate() error {
	if !absolute(r.Producer) {
		return malformed("the producer's URI", fmt.Sprintf("%.120q", r.Producer))
	}
	if _, ok := DigestOf(r.Subjects, ImageManifest); !ok {
		return malformed("the subject "+ImageManifest, "none")
	}
	if len(r.Values) == 0 || len(r.Values)+len(r.Shown) > maxValues {
		return malformed(fmt.Sprintf("1 to %d attributes, reference values among them", maxValues), fmt.Sprint(len(r.Values)+len(r.Shown)))
	}
	components := map[string]bool{}
	seen := map[ReferenceValue]bool{}
	for _, v := range r.Values {
		if err := v.validate(); err != nil {
			return err
		}
		c := v.Conditions
		if c.Component != "" && components[c.Component] {
			return malformed("one value of each component", fmt.Sprintf("two of %.40q", c.Component))
		}
		components[c.Component] = true
		v.Name = ""
		if seen[v] {
			return malformed("each reference value once", fmt.Sprintf("%.64q twice", v.Value))
		}
		seen[v] = true
	}
	for i, s := range r.Shown {
		if s.Attribute != AttributeNoAgents && s.Attribute != AttributeEphemeralKey || !absolute(s.Test) || !gitCommit(s.Commit) {
			return malformed("a known property, the URI of its test, and the commit", fmt.Sprintf("%.40q %.80q", s.Attribute, s.Test))
		}
		if slices.ContainsFunc(r.Shown[:i], func(o Shown) bool { return o.Attribute == s.Attribute }) {
			return malformed("each property once", s.Attribute)
		}
	}
	return nil
}

var (
	componentName = regexp.MustCompile(`^([a-z][a-z0-9-]{0,63}|configuration/[A-Za-z0-9._-]{1,127})$`)
	conditionWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	featureWord   = regexp.MustCompile(`^0x[0-9a-f]{1,16}$`)
)

func (v ReferenceValue) validate() error {
	b, err := hex.DecodeString(v.Value)
	if err != nil || hex.EncodeToString(b) != v.Value || zeros(v.Value) && !extendable(v.Key) {
		return malformed("a reference value in lower-case hexadecimal", fmt.Sprintf("%.100q", v.Value))
	}
	c := v.Conditions
	if v.Name == "" || len(v.Name) > 128 {
		return malformed("a reference value with a name", fmt.Sprintf("%.40q", v.Name))
	}
	if c.Component != "" {
		if c != (Conditions{Component: c.Component}) || !componentName.MatchString(c.Component) {
			return malformed("a component as the only condition", fmt.Sprintf("%.40q and others", c.Component))
		}
		if v.Key != "sha256" || len(b) != len(binding.Digest{}) {
			return malformed("the SHA-256 digest of component "+c.Component, fmt.Sprintf("%.40q of %d bytes", v.Key, len(b)))
		}
		return nil
	}
	want, ok := c.key()
	size, known := registerSize(want)
	if !ok || !known || v.Key != want || len(b) != size {
		return malformed("a value of the register that its conditions name", fmt.Sprintf("%.40q of %d bytes", v.Key, len(b)))
	}
	return c.validate()
}

// key gives the digest key of the register that the conditions name.
func (c Conditions) key() (string, bool) {
	switch c.Platform {
	case ReferenceSNP:
		return KeySNPMeasurement, c.Register == ""
	case ReferenceSim:
		return KeySimMeasurement, c.Register == ""
	case ReferenceTDX:
		if c.Register == "mrtd" {
			return KeyTDXMRTD, true
		}
		n, ok := strings.CutPrefix(c.Register, "rtmr")
		return KeyTDXRTMR + n, ok
	case ReferenceTPM:
		n, ok := strings.CutPrefix(c.Register, "pcr")
		return KeyTPMPCR + n, ok
	}
	return "", false
}

func (c Conditions) validate() error {
	if c.Boot != "" && c.Boot != BootDirect && c.Boot != BootUKI {
		return malformed("boot direct or uki", fmt.Sprintf("%.40q", c.Boot))
	}
	for _, word := range []string{c.VMM, c.VCPUType, c.Variant} {
		if word != "" && !conditionWord.MatchString(word) {
			return malformed("conditions of one word", fmt.Sprintf("%.40q", word))
		}
	}
	if c.GuestFeatures != "" && !featureWord.MatchString(c.GuestFeatures) {
		return malformed("guest features as 0x1", fmt.Sprintf("%.40q", c.GuestFeatures))
	}
	if snp := c.Platform == ReferenceSNP; snp != (c.VCPUs > 0) || snp != (c.VMM != "") || snp != (c.GuestFeatures != "") || !snp && c.VCPUType != "" || c.VCPUs > 4096 {
		return malformed("vcpus, vmm and guestFeatures where they are in the digest, and nowhere else", fmt.Sprintf("%d, %.20q on %s", c.VCPUs, c.VMM, c.Platform))
	}
	return nil
}

// Component gives the value of a component.
func (r *ReferenceValues) Component(name string) (binding.Digest, bool) {
	for _, v := range r.Values {
		if v.Conditions.Component == name {
			d, err := binding.ParseDigest(v.Value)
			return d, err == nil
		}
	}
	return binding.Digest{}, false
}
