// SPDX-License-Identifier: Apache-2.0

package reference_test

import (
	"strings"
	"testing"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/reference"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// TestAttackReferenceValues boots something else than what was signed, or on a machine of another shape.
func TestAttackReferenceValues(t *testing.T) {
	t.Parallel()
	img, err := reference.Verify(request(t, image(1)))
	if err != nil {
		t.Fatal(err)
	}
	component := func(name string, d binding.Digest) func(*reference.Booted) {
		return func(b *reference.Booted) { b.Components = map[string]binding.Digest{name: d} }
	}
	register := func(name, value string) func(*reference.Booted) {
		return func(b *reference.Booted) { b.Environment.Registers[name] = value }
	}
	for name, tc := range map[string]struct {
		platform string
		change   func(*reference.Booted)
		code     refusal.Code
		says     string
	}{
		"another measurement":      {"snp", func(b *reference.Booted) { b.Environment.Measurement[47]++ }, refusal.Measurement, "2 values of measurement"},
		"no measurement":           {"snp", func(b *reference.Booted) { b.Environment.Measurement = [48]byte{} }, refusal.Measurement, "none"},
		"another number of vCPUs":  {"snp", func(b *reference.Booted) { b.VCPUs = 2 }, refusal.Measurement, "4 processors, not 2"},
		"vCPUs that nobody signed": {"snp", func(b *reference.Booted) { b.VCPUs = 8 }, refusal.Measurement, "4 processors, not 8"},
		"another type of vCPUs":    {"snp", func(b *reference.Booted) { b.VCPUType = "EPYC-Genoa" }, refusal.Measurement, "type EPYC-v4"},
		"a simulator's as genuine": {"snp", func(b *reference.Booted) { b.Environment.Measurement = booted("sim").Environment.Measurement }, refusal.Measurement, "signed for snp"},
		"genuine as a simulator's": {"sim", func(b *reference.Booted) { b.Environment.Measurement = booted("snp").Environment.Measurement }, refusal.Measurement, "signed for sim"},
		"an unknown platform":      {"snp", func(b *reference.Booted) { b.Environment.Platform = "nitro" }, refusal.Measurement, "nitro"},
		"no platform":              {"snp", func(b *reference.Booted) { b.Environment.Platform = "" }, refusal.Measurement, "platform"},
		"another firmware":         {"tdx", func(b *reference.Booted) { b.Environment.Measurement[0]++ }, refusal.Measurement, "measurement"},
		"another kernel":           {"tdx", register("rtmr1", hex("aa", 48)), refusal.Measurement, "rtmr1"},
		"another command line":     {"tdx", register("rtmr2", hex("aa", 48)), refusal.Measurement, "rtmr2"},
		"half direct, half UKI":    {"tdx", register("rtmr1", hex("e2", 48)), refusal.Measurement, "rtmr"},
		"values of other registers": {"tdx", func(b *reference.Booted) {
			r := b.Environment.Registers
			r["rtmr1"], r["rtmr2"] = r["rtmr2"], r["rtmr1"]
		}, refusal.Measurement, "rtmr1"},
		"a register left out":   {"tdx", func(b *reference.Booted) { delete(b.Environment.Registers, "rtmr2") }, refusal.Measurement, "rtmr2, got none"},
		"a PCR left out":        {"vtpm", func(b *reference.Booted) { delete(b.Environment.Registers, "pcr12") }, refusal.Measurement, "pcr12, got none"},
		"an extension loaded":   {"az-snp", register("pcr12", hex("aa", 32)), refusal.Measurement, "pcr12"},
		"command line's bytes":  {"snp", func(b *reference.Booted) { b.CommandLine = []byte("quiet init=/bin/sh") }, refusal.Measurement, "command-line"},
		"a newline more":        {"snp", func(b *reference.Booted) { b.CommandLine = []byte("quiet\n") }, refusal.Measurement, "command-line"},
		"no command line":       {"snp", func(b *reference.Booted) { b.CommandLine = []byte{} }, refusal.Measurement, "command-line"},
		"debug":                 {"snp", func(b *reference.Booted) { b.CommandLine = []byte("console=ttyS0 kettle.debug quiet") }, refusal.Debug, "kettle.debug"},
		"another root":          {"snp", component(statement.ComponentRootHash, digest(99)), refusal.Measurement, "root-hash"},
		"another kettled":       {"snp", component(statement.ComponentKettled, digest(99)), refusal.Measurement, "kettled"},
		"no kettled":            {"snp", component(statement.ComponentKettled, binding.Digest{}), refusal.Measurement, "kettled"},
		"what nobody signed":    {"snp", component(statement.ComponentConfiguration, digest(99)), refusal.Measurement, `signed value of "configuration", got none`},
		"another one's kettled": {"snp", component(statement.ComponentKettled, digest(4)), refusal.Measurement, "kettled"},
	} {
		b := booted(tc.platform)
		if _, err := img.Covers(*b); err != nil {
			t.Fatalf("%s: before: %v", name, err)
		}
		tc.change(b)
		m, err := img.Covers(*b)
		if err == nil || m != nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		wants(t, name, err, reference.LinkValues, tc.code)
		if !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v\ndoes not say %q", name, err, tc.says)
		}
		r := request(t, image(1))
		r.Files, r.Booted = nil, b
		if _, err := reference.Verify(r); err == nil {
			t.Errorf("%s: the image is found by the machine", name)
		}
	}
	b := booted("snp")
	b.VCPUs, b.VCPUType = 0, "" // nobody counted
	if m, err := img.Covers(*b); err != nil || m.Values()[0].Conditions.VCPUs != 4 {
		t.Errorf("without a claim: %v", err)
	}
}

// TestFileAndMachine demands that file and machine are of one image.
func TestFileAndMachine(t *testing.T) {
	t.Parallel()
	r := request(t, image(1))
	r.Booted = booted("snp")
	r.Booted.Components = map[string]binding.Digest{statement.ComponentKettled: digest(5)}
	if _, err := reference.Verify(r); err != nil {
		t.Fatal(err)
	}
	r.Files = []binding.Digest{digest(51)} // of another image in the same bundle
	_, err := reference.Verify(r)
	wants(t, "two images", err, reference.LinkValues, refusal.Measurement)
}

func FuzzLines(f *testing.F) {
	i := instance{}
	for _, line := range image(1).sign(f, i) {
		f.Add(line)
	}
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","dsseEnvelope":{"payload":"e30="}}`))
	p := parsePolicy(f)
	f.Fuzz(func(t *testing.T, line []byte) {
		_, signed := i[string(line)]
		img, err := reference.Verify(reference.Request{
			Lines: append([][]byte{line}, image(1).sign(t, i)[0]), Trust: i, Policy: p, At: now, Files: []binding.Digest{digest(1)},
		})
		if err == nil && !signed || (img == nil) == (err == nil) {
			t.Fatalf("%q: %v, %v", line, img, err)
		}
	})
}
