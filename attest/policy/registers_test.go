// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/refusal"
)

// measured is a policy that accepts TDX and Azure by their registers.
func measured(changes ...string) string {
	var rtmrs, pcrs []string
	for i, name := range mustName(familyRTMR) {
		rtmrs = append(rtmrs, fmt.Sprintf("%s: %q", name, strings.Repeat(fmt.Sprint(i+1), 96)))
	}
	for _, name := range mustName(familyPCR) {
		pcrs = append(pcrs, fmt.Sprintf("%s: %q", name, pcrValue(name)))
	}
	text := `apiVersion: kettle/v1
expires: never
environments:
  platforms: [tdx, az-snp, vtpm]
  floor: default
  chips: any
  providers: [CN=cc-us-east-2.amazonaws.com, "O=Some Provider, L=X"]
  revocation: required
  images: any
  measurements: ["` + strings.Repeat("1", 96) + `"]
  registers:
    - {rtmr0: any, rtmr1: "` + strings.Repeat("8", 96) + `", rtmr2: any}
    - {` + strings.Join(rtmrs, ", ") + `}
    - {` + strings.Join(pcrs, ", ") + `}
  lateCompromise: none
revoked: none
`
	for i := 0; i+1 < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			panic(changes[i])
		}
		text = strings.Replace(text, changes[i], changes[i+1], 1)
	}
	return text
}

func pcrValue(name string) string {
	return strings.Repeat(fmt.Sprintf("%02s", strings.TrimPrefix(name, "pcr")), 32)
}

// booted is an environment that measured accepts on a platform.
func booted(platform string) Environment {
	e := Environment{Platform: platform, Registers: map[string]string{}}
	if platform != platformTPM {
		e.Measurement = environment().Measurement
	}
	if family(platform) == familyRTMR {
		for i := range 4 {
			e.Registers[fmt.Sprintf("rtmr%d", i)] = strings.Repeat(fmt.Sprint(i+1), 96)
		}
		return e
	}
	for i := range 24 {
		name := fmt.Sprintf("pcr%d", i)
		e.Registers[name] = pcrValue(name)
	}
	return e
}

func TestRegistersAccept(t *testing.T) {
	t.Parallel()
	for _, platform := range []string{"tdx", "az-snp", "vtpm"} {
		if err := parse(t, measured()).Environments().Allow(booted(platform), now); err != nil {
			t.Errorf("%s: %v", platform, err)
		}
	}
	e := booted("tdx")
	e.Registers["rtmr1"] = strings.Repeat("8", 96) // the entry that leaves the others open
	if err := parse(t, measured()).Environments().Allow(e, now); err != nil {
		t.Errorf("another entry: %v", err)
	}
	open := parse(t, measured()).Open()
	for _, want := range []string{"environments.registers[0].rtmr0: any", "environments.registers[0].rtmr2: any", "environments.chips: any"} {
		if !slices.Contains(open, want) {
			t.Errorf("%q does not stand among the open places %q", want, open)
		}
	}
}

// TestRegistersRefuse changes each register, and takes it out of the quote.
func TestRegistersRefuse(t *testing.T) {
	t.Parallel()
	for _, platform := range []string{"tdx", "az-snp", "vtpm"} {
		for _, name := range mustName(family(platform)) {
			for _, change := range []func(map[string]string){
				func(r map[string]string) { delete(r, name) },
				func(r map[string]string) { r[name] = "" },
				func(r map[string]string) { r[name] = r[name][1:] + "f" },
				func(r map[string]string) { r[name] = strings.ToUpper(r[name][:1]+"a") + r[name][2:] },
			} {
				e := booted(platform)
				change(e.Registers)
				err := parse(t, measured()).Environments().Allow(e, now)
				if all := refusal.All(err); len(all) != 1 || all[0].Code != refusal.Measurement || !strings.Contains(all[0].Want, name) {
					t.Errorf("%s, %s: %v", platform, name, err)
				}
			}
		}
	}
	e := booted("tdx")
	maps.Copy(e.Registers, booted("az-snp").Registers)
	e.Registers["rtmr2"] = ""
	if err := parse(t, measured()).Environments().Allow(e, now); !errors.Is(err, refusal.ErrMeasurement) {
		t.Errorf("PCRs instead of RTMRs: %v", err)
	}
}

// TestNames asks who is written down; any is nobody.
func TestNames(t *testing.T) {
	t.Parallel()
	p := parse(t, measured("chips: any", `chips: ["07`+strings.Repeat("00", 63)+`"]`)).Environments()
	listed := environment()
	for name, tc := range map[string]struct {
		change func(*Environment)
		want   bool
	}{
		"chip":          {func(*Environment) {}, true},
		"other chip":    {func(e *Environment) { e.ChipID[0]++ }, false},
		"masked chip":   {func(e *Environment) { e.ChipID = [64]byte{} }, false},
		"provider":      {func(e *Environment) { e.ChipID, e.Provider = [64]byte{}, "O=Some Provider, L=X" }, true},
		"other":         {func(e *Environment) { e.ChipID, e.Provider = [64]byte{}, "O=Some Provider" }, false},
		"empty":         {func(e *Environment) { e.ChipID, e.Provider = [64]byte{1}, "" }, false},
		"word provider": {func(e *Environment) { e.ChipID, e.Provider = [64]byte{1}, "any" }, false},
	} {
		e := listed
		tc.change(&e)
		if got, err := p.Names(e, now); err != nil || got != tc.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if err := p.Allow(withRegisters(e), now); (err == nil) != tc.want {
			t.Errorf("%s: allowed: %v", name, err)
		}
	}
	if got, err := parse(t, measured()).Environments().Names(listed, now); err != nil || got {
		t.Errorf("any names %v, %v", got, err)
	}
	if got, err := parse(t, "apiVersion: kettle/v1\nexpires: never\n").Environments().Names(listed, now); err == nil || got {
		t.Error("no section names somebody")
	}
}

func withRegisters(e Environment) Environment {
	e.Platform, e.Registers = "az-snp", booted("az-snp").Registers
	return e
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{measured(): true, measured("revocation: required", "revocation: if-present"): false} {
		if got, err := parse(t, text).Environments().RevocationRequired(now); err != nil || got != want {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
	}
	if _, err := parse(t, "apiVersion: kettle/v1\nexpires: never\n").Environments().RevocationRequired(now); err == nil {
		t.Error("no section, no error")
	}
}

func TestRegistersParseRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"no revocation":        {measured("  revocation: required\n", ""), "revocation is missing"},
		"revocation any":       {measured("revocation: required", "revocation: any"), "environments.revocation"},
		"no entry for TDX":     {measured(measured()[strings.Index(measured(), "    - {rtmr0"):strings.Index(measured(), "    - {pcr0")], ""), "platform tdx"},
		"no entry for Azure":   {measured("[tdx, az-snp, vtpm]", "[tdx, az-tdx]", measured()[strings.Index(measured(), "    - {pcr0"):strings.Index(measured(), "  lateCompromise")], ""), "platform az-tdx"},
		"register left out":    {measured("rtmr0: any, ", ""), "rtmr0 is missing"},
		"PCR left out":         {measured("pcr12: \""+pcrValue("pcr12")+"\", ", ""), "pcr12 is missing"},
		"the job's register":   {measured("rtmr0: any", "rtmr3: any, rtmr0: any"), "one kind"},
		"the job's PCR":        {measured("pcr14:", "pcr15: any, pcr14:"), "without pcr15"},
		"unknown":              {measured("rtmr0: any", "mrtd: any, rtmr0: any"), "one kind"},
		"both families":        {measured("rtmr0: any", "pcr0: any, rtmr0: any"), "one kind"},
		"twice":                {measured("rtmr0: any", "rtmr0: any, rtmr0: any"), "twice"},
		"short value":          {measured(strings.Repeat("8", 96), strings.Repeat("8", 94)), "96 lower-case"},
		"PCR of RTMR's length": {measured(pcrValue("pcr0"), strings.Repeat("0", 96)), "64 lower-case"},
		"not a mapping":        {measured("    - {rtmr0: any", "    - any\n    - {rtmr0: any"), "want registers"},
		"nested":               {measured("rtmr0: any", "rtmr0: [any]"), "want text"},
		"provider glob":        {measured("CN=cc-us-east-2.amazonaws.com", "\"CN=*\""), "exact name of a provider"},
		"any provider":         {measured(`[CN=cc-us-east-2.amazonaws.com, "O=Some Provider, L=X"]`, "any"), "want a list"},
		"no measurements":      {measured("  measurements: [\""+strings.Repeat("1", 96)+"\"]\n", ""), "measurements is missing"},
	} {
		p, err := Parse([]byte(tc.text))
		if !errors.Is(err, ErrInvalid) || p != nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, %v; want %q", name, p, err, tc.want)
		}
	}
	tpm := measured("[tdx, az-snp, vtpm]", "[vtpm]", "  measurements: [\""+strings.Repeat("1", 96)+"\"]\n", "")
	if _, err := Parse([]byte(tpm)); err != nil {
		t.Errorf("a TPM alone has no launch measurement: %v", err)
	}
}
