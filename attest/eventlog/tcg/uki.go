// SPDX-License-Identifier: Apache-2.0

package tcg

import (
	"slices"
	"strings"
)

const maxSectionName = 8 // characters that the header of a section in a PE file has room for

// sectionName gives the name of a section of a unified kernel image from systemd-stub's description of it.
func sectionName(data []byte) (string, bool) {
	if len(data) > 2*(maxSectionName+1) {
		return "", false
	}
	name, ok := string16(data)
	if !ok || len(name) < 2 || len(name) > maxSectionName || name[0] != '.' {
		return "", false
	}
	for _, c := range name[1:] {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return "", false
		}
	}
	return name, true
}

// sections reads the run of names and contents that systemd-stub measures before anything else may: PCR 11 has nothing
// before it, RTMR 2 shares the register with what the loader measured. The run ends where the pattern ends; what looks
// like it later may come from a system that already runs.
func (l *Log) sections(f *Facts, events []*Proven) {
	begin := slices.IndexFunc(events, func(p *Proven) bool { return p.Proof == SectionName })
	if begin < 0 || l.kind == TPM && begin > 0 {
		return
	}
	for run := events[begin:]; len(run) >= 2 && run[0].Proof == SectionName; run = run[2:] {
		name := strings.TrimSuffix(string(run[0].Content), "\x00")
		f.Sections = append(f.Sections, Section{
			Event: run[1].Number, Register: run[1].Register, Name: name, Digest: run[1].Digest,
		})
	}
}
