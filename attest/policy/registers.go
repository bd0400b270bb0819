// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kettle/attest/attest/refusal"
)

// The platforms whose boot is measured in registers, by the family of their registers.
const (
	familyRTMR = "rtmr" // SHA-384, TDX
	familyPCR  = "pcr"  // SHA-256, the TPM of a paravisor or of the host
)

// family names the registers that prove what a platform booted, or "" where the launch measurement alone does.
func family(platform string) string {
	switch platform {
	case "tdx":
		return familyRTMR
	case "az-snp", "az-tdx", "vtpm":
		return familyPCR
	}
	return ""
}

// familySize is the length of a register's value in bytes.
func familySize(family string) int {
	if family == familyRTMR {
		return 48
	}
	return 32
}

// mustName gives the registers that every entry of a family has to name: firmware, boot path, kernel, command line,
// initial RAM disk. A PCR that a system extension or a host could extend has to be named too, to be what it should be.
func mustName(family string) []string {
	if family == familyRTMR {
		return []string{"rtmr0", "rtmr1", "rtmr2"}
	}
	return []string{
		"pcr0", "pcr1", "pcr2", "pcr3", "pcr4", "pcr5", "pcr6", "pcr7", "pcr8", "pcr9", "pcr11", "pcr12", "pcr13", "pcr14",
	}
}

// registers is one state of all registers that is accepted: name to value in lower-case hexadecimal, "any", or "signed" for
// what the image's reference values say.
type registers struct {
	line   int
	values map[string]string
}

// UnmarshalYAML reads a mapping of names to text. A repeated name is an error of the file.
func (r *registers) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: want registers and their values", n.Line)
	}
	r.line, r.values = n.Line, map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if name.Kind != yaml.ScalarNode || value.Kind != yaml.ScalarNode {
			return fmt.Errorf("line %d: want text", name.Line)
		}
		if _, twice := r.values[name.Value]; twice {
			return fmt.Errorf("line %d: %q stands there twice", name.Line, name.Value)
		}
		r.values[name.Value] = value.Value
	}
	return nil
}

// family gives the family of an entry by its first name; checker.registers demands that all are of one.
func (r registers) family() string {
	for name := range r.values {
		if strings.HasPrefix(name, familyRTMR) {
			return familyRTMR
		}
	}
	return familyPCR
}

// differ lists the registers whose value is not the one accepted, and gives how many have the very value written.
func (r registers) differ(env Environment) (names []string, same int) {
	for name, want := range r.values {
		got, quoted := env.Registers[name]
		fits := want == wordAny || want == wordSigned && env.signed(name) || got == want
		switch {
		case !quoted || !fits:
			names = append(names, name)
		case want != wordAny:
			same++
		}
	}
	slices.Sort(names)
	return names, same
}

// registers checks the entries of environments.registers, and that each platform that boots into registers has one.
func (c *checker) registers(e *environments) {
	const field = "environments.registers"
	if len(e.Registers) > maxList {
		c.fault("%s has more than %d entries", field, maxList)
		return
	}
	families := map[string]bool{}
	for n, r := range e.Registers {
		f := r.family()
		families[f] = true
		at := fmt.Sprintf("%s[%d]", field, n)
		for _, name := range mustName(f) {
			if r.values[name] == "" {
				c.fault("%s: %s is missing: write its value, or any", at, name)
			}
		}
		for name, value := range r.values {
			c.register(at+"."+name, name, f, value, e.Images.word == wordAny)
		}
	}
	for _, p := range e.Platforms.values {
		if f := family(p); f != "" && !families[f] {
			c.fault("%s: platform %s is accepted, so at least one entry with %s… is needed", field, p, f)
		}
	}
}

func (c *checker) register(at, name, family, value string, anyImage bool) {
	if !slices.Contains(allNames(family), name) {
		c.fault("%s: want registers of one kind, rtmr0 to rtmr2 or pcr0 to pcr23 without pcr15", at)
		return
	}
	if value == wordAny {
		c.opened(at, wordAny)
		return
	}
	if value == wordSigned {
		if anyImage {
			c.fault("%s: signed needs environments.images to say who signs", at)
		}
		return
	}
	if err := hexDigits(familySize(family))(value); err != nil {
		c.fault("%s: %w", at, err)
	}
}

// allNames gives every register that an entry may name. RTMR3 and PCR 15 are the run-time registers: their value is
// demanded by the replay of the event log.
func allNames(family string) []string {
	if family == familyRTMR {
		return mustName(family)
	}
	var out []string
	for i := range 24 {
		if i != 15 {
			out = append(out, fmt.Sprintf("pcr%d", i))
		}
	}
	return out
}

// allowRegisters demands that one entry's registers all have the values that were quoted.
func (s *environments) allowRegisters(env Environment) error {
	f := family(env.Platform)
	if f == "" {
		return nil
	}
	var nearest []string
	best := -1
	for _, r := range s.Registers {
		if r.family() != f {
			continue
		}
		differ, same := r.differ(env)
		if len(differ) == 0 {
			return nil
		}
		if same > best {
			nearest, best = differ, same
		}
	}
	if best < 0 {
		return refuse(refusal.Measurement, "environments.registers to have an entry for platform "+env.Platform, "none",
			"write down the registers of the images that may build")
	}
	var errs []error
	for _, name := range nearest {
		got := env.Registers[name]
		if got == "" {
			got = "not quoted"
		}
		errs = append(errs, refuse(refusal.Measurement, name+" as environments.registers says", got,
			"firmware, kernel, command line or their settings differ from what the policy expects"))
	}
	return errors.Join(errs...)
}
