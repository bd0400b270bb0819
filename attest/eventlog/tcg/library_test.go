// SPDX-License-Identifier: Apache-2.0

package tcg_test

import (
	"bytes"
	"crypto"
	"testing"

	oracle "github.com/google/go-eventlog/ccel"
	"github.com/google/go-eventlog/extract"
	"github.com/google/go-eventlog/register"
	library "github.com/google/go-eventlog/tcg"
	"github.com/google/go-eventlog/testdata"

	"github.com/kettle/attest/attest/eventlog/tcg"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/vectors"
)

// machines are logs of real machines with a TPM, which come with the library. One has SHA-1 only.
func machines() map[string][]byte {
	return map[string][]byte{
		"arch-linux-workstation": testdata.ArchLinuxWorkstationEventLog, "glinux": testdata.GlinuxAlexEventLog,
		"rhel8": testdata.Rhel8EventLog, "ubuntu-1804": testdata.Ubuntu1804AmdSevEventLog,
		"ubuntu-2104-no-dbx": testdata.Ubuntu2104NoDbxEventLog, "ubuntu-2104-no-secure-boot": testdata.Ubuntu2104NoSecureBootEventLog,
		"ubuntu-2404": testdata.Ubuntu2404AmdSevSnpEventLog, "cos-85": testdata.Cos85AmdSevEventLog,
		"cos-93": testdata.Cos93AmdSevEventLog, "cos-101": testdata.Cos101AmdSevEventLog,
	}
}

// bank makes the library's registers out of ours.
func bank(values map[int][]byte, offset int, h crypto.Hash) []register.MR {
	var out []register.MR
	for i, v := range values {
		out = append(out, register.FakeMR{Index: i + offset, Digest: v, DigestAlg: h})
	}
	return out
}

// TestLibraryAgrees replays real logs with both, and has each refuse what the other refuses.
func TestLibraryAgrees(t *testing.T) {
	t.Parallel()
	for name, raw := range machines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := parse(t, tcg.ParseTPM, raw)
			for alg, h := range map[tcg.Algorithm]crypto.Hash{tcg.SHA256: crypto.SHA256, tcg.SHA384: crypto.SHA384} {
				values, err := l.Replay(alg)
				if err != nil {
					continue // two of the machines have no SHA-384 bank
				}
				events, err := library.ParseAndReplay(raw, bank(values, 0, h), library.ParseOpts{})
				if err != nil {
					t.Fatalf("the library refuses what we replayed with %s: %v", alg, err)
				}
				a := match(t, l, alg, values)
				compareEvents(t, events, a.Events())
				for r := range values {
					if _, err := library.ParseAndReplay(raw, bank(flipRegister(values, r, 5, 4), 0, h), library.ParseOpts{}); err == nil {
						t.Errorf("the library accepts another value of register %d", r)
					}
					_, err = l.Match(alg, flipRegister(values, r, 5, 4))
					refused(t, err, refusal.EventLogMismatch)
				}
			}
		})
	}
}

// compareEvents compares what both say of every event; the library lists them register by register.
func compareEvents(t *testing.T, theirs []library.Event, ours []tcg.Proven) {
	t.Helper()
	byNumber := map[uint32]library.Event{}
	for _, e := range theirs {
		byNumber[e.Num()] = e
	}
	if len(byNumber) != len(ours) {
		t.Errorf("the library has %d events, we have %d", len(byNumber), len(ours))
	}
	for _, e := range ours {
		their, ok := byNumber[uint32(e.Number)]
		if !ok || !bytes.Equal(their.Digest, e.Digest) || uint32(their.Type) != uint32(e.Type) || their.Index != e.Register {
			t.Errorf("event %d: %+v, the library has %+v", e.Number, e.Event, their)
		}
		if their.DigestVerified() && e.Proof != tcg.WholeData {
			t.Errorf("event %d: the library recomputed what we have as %s", e.Number, e.Proof)
		}
		if e.Proof == tcg.WholeData && !bytes.Equal(e.Content, their.Data) {
			t.Errorf("event %d: other content", e.Number)
		}
	}
}

// TestLibraryAgreesOnStates compares Secure Boot and the kernel's command line.
func TestLibraryAgreesOnStates(t *testing.T) {
	t.Parallel()
	lines := map[string]string{
		"cos-85": testdata.Cos85AmdSevCmdline, "cos-93": testdata.Cos93AmdSevCmdline, "cos-101": testdata.Cos101AmdSevCmdline,
		"ubuntu-2404": testdata.Ubuntu2404AmdSevSnpCmdline,
		// The library has none for these: an old GRUB, and a systemd-boot that logs a byte less than it measures.
		"rhel8": "(hd0,gpt2)/boot/vmlinuz-4.18.0-240.22.1.el8_3.x86_64 root=UUID=f3948fb4-cce7-4193-940a-c50052e93bf3 ro " +
			"net.ifnames=0 biosdevname=0 scsi_mod.use_blk_mq=Y crashkernel=auto console=ttyS0,38400n8\x00",
		"arch-linux-workstation": "initrd=\\intel-ucode.img initrd=\\initramfs-linux-lts.img " +
			"cryptdevice=UUID=5465369a-996d-42ca-9ad4-91d0082e0b34:cryptroot root=/dev/mapper/cryptroot rw intel_iommu=on iommu=pt l1tf=off\x00",
	}
	on := 0
	for name, raw := range machines() {
		l := parse(t, tcg.ParseTPM, raw)
		values, err := l.Replay(tcg.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		f := match(t, l, tcg.SHA256, values).Facts()
		events, err := library.ParseAndReplay(raw, bank(values, 0, crypto.SHA256), library.ParseOpts{})
		if err != nil {
			t.Fatal(err)
		}
		if state, err := extract.SecureBootState(events, extract.TPMRegisterConfig); err == nil && state.GetEnabled() != (f.SecureBoot == tcg.SecureBootOn) {
			t.Errorf("%s: the library says %v, we say %s", name, state.GetEnabled(), f.SecureBoot)
		}
		if f.SecureBoot == tcg.SecureBootOn {
			on++
		}
		if f.SecureBoot == tcg.SecureBootUnknown || len(f.Separators) != 8 {
			t.Errorf("%s: Secure Boot %s, separators %v", name, f.SecureBoot, f.Separators)
		}
		for _, k := range f.Keys {
			if _, err := k.Signatures(); err != nil {
				t.Errorf("%s: %s: %v", name, k.Name, err)
			}
		}
		want, known := lines[name]
		if !known {
			continue
		}
		if len(f.CommandLines) != 1 || f.CommandLines[0].Text+"\x00" != want {
			t.Errorf("%s: command lines %+v", name, f.CommandLines)
		}
	}
	if on == 0 {
		t.Error("no machine with Secure Boot on")
	}
}

// TestLibraryTakesLegacy has a log with SHA-1 digests only, which the library replays and we refuse.
func TestLibraryTakesLegacy(t *testing.T) {
	t.Parallel()
	_, err := tcg.ParseTPM(testdata.Debian10EventLog)
	refused(t, err, refusal.Malformed)
}

// TestLibraryTakesEmptyLogs has logs without events, to which the library says nothing and we say no.
func TestLibraryTakesEmptyLogs(t *testing.T) {
	t.Parallel()
	values := map[int][]byte{0: bytes.Repeat([]byte{1}, 32)}
	for _, b := range [][]byte{nil, newTPM().bytes()} {
		if _, err := library.ParseAndReplay(b, bank(values, 0, crypto.SHA256), library.ParseOpts{}); err != nil {
			t.Fatalf("the library refuses it now: %v", err)
		}
		_, err := tcg.ParseTPM(b)
		refused(t, err, refusal.Missing)
	}
}

// BenchmarkCCEL parses, replays and reads the facts of a real log, as the library does.
func BenchmarkCCEL(b *testing.B) {
	r := realLog(b, "tdx15-gcp-cos-ccel")
	b.Run("kettle", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l, err := tcg.ParseCC(r.log)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := l.Match(tcg.SHA384, r.quoted); err != nil {
				b.Fatal(err)
			}
		}
	})
	table := readVector(b, vectors.TEE(b), "tdx15-gcp-cos-ccel", "ccel_table.dat")
	var rtmrs []register.RTMR
	for i := range 4 {
		rtmrs = append(rtmrs, register.RTMR{Index: i, Digest: r.quoted[i]})
	}
	b.Run("go-eventlog", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := oracle.ReplayAndExtract(table, r.log, register.RTMRBank{RTMRs: rtmrs}, extract.Opts{Loader: extract.GRUB}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkTPM parses and replays the log of a machine with a TPM.
func BenchmarkTPM(b *testing.B) {
	raw := testdata.Ubuntu2404AmdSevSnpEventLog
	values, err := parse(b, tcg.ParseTPM, raw).Replay(tcg.SHA256)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("kettle", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l, err := tcg.ParseTPM(raw)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := l.Match(tcg.SHA256, values); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("go-eventlog", func(b *testing.B) {
		mrs := bank(values, 0, crypto.SHA256)
		b.ReportAllocs()
		for b.Loop() {
			events, err := library.ParseAndReplay(raw, mrs, library.ParseOpts{})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := extract.FirmwareLogState(events, crypto.SHA256, extract.TPMRegisterConfig, extract.Opts{Loader: extract.GRUB}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
