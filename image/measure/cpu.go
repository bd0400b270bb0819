// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// CPU is a type of processor, as far as a launch digest depends on it.
type CPU struct {
	Name      string // as QEMU's -cpu takes it, or the signature in hexadecimal
	Signature uint32 // CPUID leaf 1, EAX: what the processor has in RDX after a reset
}

// CPUSignature packs family, model and stepping as CPUID leaf 1 does (AMD64 Architecture Programmer's Manual, volume 3,
// appendix E.3.2). Family is 0 to 270, model 0 to 255, stepping 0 to 15.
func CPUSignature(family, model, stepping uint32) uint32 {
	base, extended := family, uint32(0)
	if family > 0xf {
		base, extended = 0xf, family-0xf
	}
	return extended&0xff<<20 | model>>4&0xf<<16 | base<<8 | model&0xf<<4 | stepping&0xf
}

// cpuModels are QEMU's models of AMD EPYC and their versions (QEMU target/i386/cpu.c). The versions of a model differ in
// features, never in the signature.
func cpuModels() []CPU {
	var models []CPU
	for _, m := range []struct {
		name             string
		family, model    uint32
		stepping         uint32
		versions         int
		alternativeNames []string
	}{
		{"EPYC", 23, 1, 2, 5, []string{"EPYC-IBPB"}},
		{"EPYC-Rome", 23, 49, 0, 5, nil},
		{"EPYC-Milan", 25, 1, 1, 3, nil},
		{"EPYC-Genoa", 25, 17, 0, 2, nil},
		{"EPYC-Turin", 26, 0, 0, 1, nil},
	} {
		signature := CPUSignature(m.family, m.model, m.stepping)
		names := append([]string{m.name}, m.alternativeNames...)
		for v := range m.versions {
			names = append(names, m.name+"-v"+strconv.Itoa(v+1))
		}
		for _, name := range names {
			models = append(models, CPU{name, signature})
		}
	}
	return models
}

// CPUNames gives the names that [ParseCPU] knows, in QEMU's spelling.
func CPUNames() []string {
	var names []string
	for _, m := range cpuModels() {
		names = append(names, m.Name)
	}
	return names
}

// ParseCPU finds the type of processor by the name of a QEMU model, as EPYC-Milan or EPYC-v4, or takes a CPUID signature in
// hexadecimal, as 0xa00f11. A signature becomes eight digits, so that it has one spelling.
func ParseCPU(s string) (CPU, error) {
	if digits, ok := strings.CutPrefix(s, "0x"); ok {
		signature, err := strconv.ParseUint(digits, 16, 32)
		if err != nil || signature == 0 {
			return CPU{}, fmt.Errorf("reading a CPU signature: want 0x and up to eight hexadecimal digits, not 0, got %.40q", s)
		}
		return CPU{fmt.Sprintf("0x%08x", signature), uint32(signature)}, nil
	}
	models := cpuModels()
	i := slices.IndexFunc(models, func(m CPU) bool { return m.Name == s })
	if i < 0 {
		return CPU{}, fmt.Errorf("reading a CPU type: %.40q is no AMD EPYC model of QEMU: want EPYC, EPYC-Rome, EPYC-Milan, EPYC-Genoa or EPYC-Turin, "+
			"with or without a version as in EPYC-v4, or a signature as 0xa00f11", s)
	}
	return models[i], nil
}
