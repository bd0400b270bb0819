// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// debugWord is the word of the kernel command line that every debug image has, and no other.
const debugWord = "kettle.debug"

// Booted is what a machine says of itself: its quote, and what its caller measured or was told.
type Booted struct {
	// Environment is what a verified quote says. Its Platform decides which values have to fit.
	Environment policy.Environment
	// VCPUs and VCPUType are what the machine counts, or 0 and "" where nobody counted. A value that is signed for another
	// number or type is no match.
	VCPUs    int
	VCPUType string
	// CommandLine is the kernel's command line without a final newline, nil where nobody read it.
	CommandLine []byte
	// Components are digests by the names of statement.ComponentRootHash and its like, of what the caller measured. Each has to
	// be signed.
	Components map[string]binding.Digest
}

// Match is what of a machine is signed.
type Match struct {
	signed      []string
	values      []statement.ReferenceValue
	compared    []string
	notCompared []string
}

// Signed names the quoted values that are signed, for [policy.Environment].Signed.
func (m *Match) Signed() []string { return slices.Clone(m.signed) }

// Values gives the reference values of the platform that fitted.
func (m *Match) Values() []statement.ReferenceValue { return slices.Clone(m.values) }

// Compared names the components that the caller measured and that are what was signed, sorted.
func (m *Match) Compared() []string { return slices.Clone(m.compared) }

// NotCompared names the components that are signed and that the caller did not measure, sorted.
func (m *Match) NotCompared() []string { return slices.Clone(m.notCompared) }

// Covers demands that the quote shows signed values whose conditions fit the machine, all for one way to boot, and that
// everything that the caller measured is what was signed. Its refusals have the link "reference values" and the codes
// measurement and debug.
func (i *Image) Covers(b Booted) (*Match, error) { return covers(i.values, b) }

func covers(v *statement.ReferenceValues, b Booted) (*Match, error) {
	m := new(Match)
	if err := errors.Join(m.launch(v, b), m.components(v, b)); err != nil {
		return nil, err
	}
	return m, nil
}

// register is one quoted value that has to be signed.
type register struct {
	name      string // in policy.Environment.Signed
	condition string // in statement.Conditions.Register
	value     string // lower-case hexadecimal, "" where it was not quoted
}

// demanded lists what has to be signed on the platform: all that the image determines of its boot. What the host decides,
// RTMR0 and the other PCRs, is the policy's, and what runs later is the event log's.
func demanded(e policy.Environment) (platform string, out []register) {
	launch := register{name: policy.SignedMeasurement, value: hex.EncodeToString(e.Measurement[:])}
	if e.Measurement == [48]byte{} {
		launch.value = ""
	}
	named := func(names ...string) {
		for _, n := range names {
			out = append(out, register{n, n, e.Registers[n]})
		}
	}
	switch e.Platform {
	case "snp":
		return statement.ReferenceSNP, []register{launch}
	case "sim":
		return statement.ReferenceSim, []register{launch}
	case "tdx":
		launch.condition = "mrtd"
		out = []register{launch}
		named("rtmr1", "rtmr2")
		return statement.ReferenceTDX, out
	case "az-snp", "az-tdx", "vtpm": // a paravisor's own measurement is for the policy to name
		named("pcr4", "pcr9", "pcr11", "pcr12")
		return statement.ReferenceTPM, out
	}
	return "", nil
}

// launch finds the values of one way to boot that the quote shows.
func (m *Match) launch(v *statement.ReferenceValues, b Booted) error {
	platform, registers := demanded(b.Environment)
	if platform == "" {
		return refuse(LinkValues, refusal.Measurement, "a platform that images have reference values for", fmt.Sprintf("%.40q", b.Environment.Platform), nextLaunch)
	}
	var nearest []error
	for n, way := range []string{statement.BootDirect, statement.BootUKI} {
		var faults []error
		var found []statement.ReferenceValue
		for _, r := range registers {
			value, err := b.lookup(v, platform, way, r)
			if err != nil {
				faults = append(faults, err)
				continue
			}
			found = append(found, value)
		}
		if len(faults) == 0 {
			m.values = found
			for _, r := range registers {
				m.signed = append(m.signed, r.name)
			}
			return nil
		}
		if n == 0 || len(faults) < len(nearest) {
			nearest = faults
		}
	}
	return errors.Join(nearest...)
}

// lookup finds the reference value that a register shows, under conditions that fit the machine.
func (b Booted) lookup(v *statement.ReferenceValues, platform, way string, r register) (statement.ReferenceValue, error) {
	name := r.name
	if r.value == "" {
		return statement.ReferenceValue{}, refuse(LinkValues, refusal.Measurement, "a quote with its "+name, "none", nextLaunch)
	}
	known := 0
	var unfit string
	for _, have := range v.Values {
		c := have.Conditions
		if c.Component != "" || c.Platform != platform || c.Register != r.condition || c.Boot != "" && c.Boot != way {
			continue
		}
		known++
		if have.Value != r.value {
			continue
		}
		if unfit = b.unfit(c); unfit == "" {
			return have, nil
		}
	}
	want := fmt.Sprintf("one of the %d values of %s that are signed for %s", known, name, platform)
	if unfit != "" {
		return statement.ReferenceValue{}, refuse(LinkValues, refusal.Measurement, "a machine as its measurement is signed for: "+unfit, r.value, nextLaunch)
	}
	return statement.ReferenceValue{}, refuse(LinkValues, refusal.Measurement, want, r.value, nextLaunch)
}

// unfit says which condition the machine does not meet.
func (b Booted) unfit(c statement.Conditions) string {
	switch {
	case b.VCPUs != 0 && c.VCPUs != 0 && b.VCPUs != c.VCPUs:
		return fmt.Sprintf("%d processors, not %d", c.VCPUs, b.VCPUs)
	case b.VCPUType != "" && c.VCPUType != "" && b.VCPUType != c.VCPUType:
		return fmt.Sprintf("processors of type %s, not %.40q", c.VCPUType, b.VCPUType)
	}
	return ""
}

// components compares what the caller measured with what is signed.
func (m *Match) components(v *statement.ReferenceValues, b Booted) error {
	measured := maps.Clone(b.Components)
	if measured == nil {
		measured = map[string]binding.Digest{}
	}
	var errs []error
	if b.CommandLine != nil {
		if slices.Contains(strings.Fields(string(b.CommandLine)), debugWord) {
			errs = append(errs, refuse(LinkValues, refusal.Debug, "a production image", "the word "+debugWord+" on the kernel's command line",
				"launch an image that was built without --debug"))
		}
		measured[statement.ComponentCommandLine] = binding.Sum(b.CommandLine)
	}
	for _, name := range slices.Sorted(maps.Keys(measured)) {
		got := measured[name]
		want, ok := v.Component(name)
		switch {
		case !ok:
			errs = append(errs, refuse(LinkValues, refusal.Measurement, fmt.Sprintf("a signed value of %.64q", name), "none", nextLaunch))
		case got.IsZero() || got != want:
			errs = append(errs, refuse(LinkValues, refusal.Measurement, fmt.Sprintf("%s sha256:%s, as signed", name, want), "sha256:"+got.String(), nextLaunch))
		default:
			m.compared = append(m.compared, name)
		}
	}
	for _, value := range v.Values {
		if c := value.Conditions.Component; c != "" {
			if _, ok := measured[c]; !ok {
				m.notCompared = append(m.notCompared, c)
			}
		}
	}
	slices.Sort(m.notCompared)
	return errors.Join(errs...)
}

const nextLaunch = "launch the image as it was built, on a machine of a shape that it has reference values for"
