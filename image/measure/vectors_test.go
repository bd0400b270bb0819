// SPDX-License-Identifier: Apache-2.0

package measure_test

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/measure"
	"github.com/kettle/attest/image/measure/boot"
	"github.com/kettle/attest/image/measure/ovmf"
	"github.com/kettle/attest/internal/vectors"
)

func readJSON(t testing.TB, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// launchInputs is what was published beside a real report.
type launchInputs struct {
	CommandLine string       `json:"cmdline"`
	Pages       string       `json:"ovmf_hash"`
	Kernel      image.SHA256 `json:"kernel_hash"`
	Initrd      image.SHA256 `json:"initrd_hash"`
	HashTable   uint32       `json:"hashes_table_gpa"`
	ResetEIP    uint32       `json:"reset_eip"`
	Sections    []struct {
		GPA  uint32           `json:"gpa"`
		Size uint32           `json:"size"`
		Type ovmf.SectionType `json:"type"`
	} `json:"ovmf_sections"`
	VCPUs    int    `json:"vcpus"`
	VCPUType string `json:"vcpu_type"`
	Features uint64 `json:"guest_features"`
}

func milanLaunch(t testing.TB, dir string) measure.SNPLaunch {
	t.Helper()
	var in launchInputs
	readJSON(t, filepath.Join(dir, "launch-inputs.json"), &in)
	l := measure.SNPLaunch{
		Firmware: measure.SNPFirmware{
			Pages:    measure.Digest(unhex(t, in.Pages)),
			Metadata: ovmf.SEV{ResetEIP: in.ResetEIP, HashTable: in.HashTable},
		},
		Direct: &measure.KernelHashes{Kernel: in.Kernel, Initrd: in.Initrd, CommandLine: measure.KernelCommandLine(in.CommandLine)},
		VMM:    measure.QEMU, VCPUs: in.VCPUs, CPU: cpu(t, in.VCPUType), GuestFeatures: in.Features,
	}
	for _, s := range in.Sections {
		l.Firmware.Metadata.Sections = append(l.Firmware.Metadata.Sections, ovmf.Section{GPA: s.GPA, Size: s.Size, Type: s.Type})
	}
	return l
}

// TestRealMilanReport predicts the measurement that a real EPYC Milan signed.
func TestRealMilanReport(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(vectors.TEE(t), "snp-milan-measured-boot")
	report, err := os.ReadFile(filepath.Join(dir, "report.bin"))
	if err != nil {
		t.Fatal(err)
	}
	l := milanLaunch(t, dir)
	got, err := measure.SNP(l)
	wantDigest(t, got, err, hex.EncodeToString(report[0x90:0xc0]))
	for name, change := range map[string]func(*measure.SNPLaunch){
		"kernel":       func(l *measure.SNPLaunch) { l.Direct.Kernel[0] ^= 1 },
		"initrd":       func(l *measure.SNPLaunch) { l.Direct.Initrd[0] ^= 1 },
		"command line": func(l *measure.SNPLaunch) { l.Direct.CommandLine[0] ^= 1 },
		"firmware":     func(l *measure.SNPLaunch) { l.Firmware.Pages[0] ^= 1 },
		"processors":   func(l *measure.SNPLaunch) { l.VCPUs++ },
		"type":         func(l *measure.SNPLaunch) { l.CPU = cpu(t, "EPYC-Genoa") },
		"features":     func(l *measure.SNPLaunch) { l.GuestFeatures |= 0x20 },
		"VMM":          func(l *measure.SNPLaunch) { l.VMM = measure.EC2 },
		"reset":        func(l *measure.SNPLaunch) { l.Firmware.Metadata.ResetEIP += 4 },
		"no hashes":    func(l *measure.SNPLaunch) { l.Direct = nil },
	} {
		other := milanLaunch(t, dir)
		change(&other)
		if d, err := measure.SNP(other); err != nil || d == got {
			t.Errorf("%s changed: the same digest, or %v", name, err)
		}
	}
}

// TestRealTDXQuote predicts RTMR1 and RTMR2 of a real quote from the digests of kernel, command line and initrd that its
// event log has. The firmware itself was not published, so MRTD cannot be predicted.
func TestRealTDXQuote(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(vectors.TEE(t), "tdx15-direct-boot")
	quote, err := os.ReadFile(filepath.Join(dir, "quote.bin"))
	if err != nil {
		t.Fatal(err)
	}
	var captured struct {
		EventLog string `json:"event_log"`
	}
	readJSON(t, filepath.Join(dir, "tdx-lite-getquote.json"), &captured)
	var events []struct {
		Register int    `json:"imr"`
		Digest   string `json:"digest"`
	}
	if err := json.Unmarshal([]byte(captured.EventLog), &events); err != nil {
		t.Fatal(err)
	}
	logged := map[int][][]byte{}
	for _, e := range events {
		logged[e.Register] = append(logged[e.Register], unhex(t, e.Digest))
	}
	l, err := boot.DirectDigests{Kernel: logged[1][0], CommandLine: logged[2][0], Initrd: logged[2][1]}.Log(boot.TDX)
	if err != nil {
		t.Fatal(err)
	}
	const rtmr = 48 + 0x148 // the quote's header, and RTMR0 in its body
	for i := 1; i <= 2; i++ {
		got, err := l.RTMR(i)
		wantDigest(t, got, err, hex.EncodeToString(quote[rtmr+48*i:rtmr+48*(i+1)]))
	}
	// Each event, not only their fold: what this package says is measured is what was measured.
	var predicted [3][][]byte
	for _, e := range l.Events() {
		r := 2
		if e.PCR < 8 {
			r = 1
		}
		predicted[r] = append(predicted[r], e.Digest)
	}
	for r := 1; r <= 2; r++ {
		if len(predicted[r]) != len(logged[r]) {
			t.Fatalf("RTMR%d: %d events, the log has %d", r, len(predicted[r]), len(logged[r]))
		}
		for i := range predicted[r] {
			if hex.EncodeToString(predicted[r][i]) != hex.EncodeToString(logged[r][i]) {
				t.Errorf("RTMR%d, event %d: want %x, got %x", r, i, logged[r][i], predicted[r][i])
			}
		}
	}
	if version := binary.LittleEndian.Uint16(quote); version != 4 {
		t.Errorf("want a quote of version 4, got %d", version)
	}
}
