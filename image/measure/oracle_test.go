// SPDX-License-Identifier: Apache-2.0

package measure_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	gcesev "github.com/google/gce-tcb-verifier/sev"
	gcetdx "github.com/google/gce-tcb-verifier/tdx"
	"github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/virtee/sev-snp-measure-go/cpuid"
	virtee "github.com/virtee/sev-snp-measure-go/guest"
	virteeovmf "github.com/virtee/sev-snp-measure-go/ovmf"
	"github.com/virtee/sev-snp-measure-go/vmmtypes"

	"github.com/kettle/attest/image/measure"
	"github.com/kettle/attest/image/measure/measuretest"
	"github.com/kettle/attest/image/measure/ovmf"
)

// plainFirmwares are those that the libraries can read, which know no kernel hashes: a small one, and Debian's where it is
// there.
func plainFirmwares(t testing.TB) map[string]*ovmf.Firmware {
	t.Helper()
	all := map[string]*ovmf.Firmware{"synthetic": parsed(t, measuretest.Plain().Bytes())}
	const bookworm = "/usr/share/OVMF/OVMF_CODE.fd"
	if b, err := os.ReadFile(bookworm); err == nil {
		if f, err := ovmf.Parse(b); err == nil {
			if _, err := f.SEV(); err == nil {
				all["the machine's"] = f
			}
		}
	}
	return all
}

// virteeFirmware reads firmware with virtee's library, which wants a file.
func virteeFirmware(t testing.TB, f *ovmf.Firmware) virteeovmf.OVMF {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ovmf.fd")
	if err := os.WriteFile(path, f.Data(), 0o600); err != nil {
		t.Fatal(err)
	}
	theirs, err := virteeovmf.New(path)
	if err != nil {
		t.Fatal(err)
	}
	return theirs
}

// TestSignaturesAgree compares the signatures of the models that virtee's library knows.
func TestSignaturesAgree(t *testing.T) {
	t.Parallel()
	for name, want := range cpuid.CpuSigs {
		if got := cpu(t, name).Signature; uint64(got) != uint64(want) {
			t.Errorf("%s: want %#x, got %#x", name, want, got)
		}
	}
}

// TestAgreesWithSEVSNPMeasure compares launch digests with those of virtee's library.
func TestAgreesWithSEVSNPMeasure(t *testing.T) {
	t.Parallel()
	for name, f := range plainFirmwares(t) {
		theirs := virteeFirmware(t, f)
		pages, err := virtee.OVMFHash(theirs)
		if err != nil {
			t.Fatal(err)
		}
		firmware := snpFirmware(t, f)
		for vmm, theirVMM := range map[measure.VMM]vmmtypes.VMMType{
			measure.QEMU: vmmtypes.QEMU, measure.EC2V1: vmmtypes.EC2, measure.GCE: vmmtypes.GCE,
		} {
			for _, vcpus := range []int{1, 2, 17} {
				for _, kind := range []string{"EPYC-v4", "EPYC-Rome", "EPYC-Milan", "EPYC-Genoa"} {
					for _, features := range []uint64{1, 0x21} {
						if vmm == measure.GCE && kind == "EPYC-Genoa" {
							continue // there Google's own library is followed
						}
						want, err := virtee.LaunchDigestFromOVMF(theirs, features, vcpus, pages, theirVMM, kind)
						if err != nil {
							t.Fatal(err)
						}
						got, err := measure.SNP(measure.SNPLaunch{
							Firmware: firmware, VMM: vmm, VCPUs: vcpus, CPU: cpu(t, kind), GuestFeatures: features,
						})
						if err != nil || string(got[:]) != string(want) {
							t.Errorf("%s, %s, %d %s, features %#x: want %x, got %x, %v", name, vmm, vcpus, kind, features, want, got, err)
						}
					}
				}
			}
		}
	}
}

// TestAgreesWithGCETCBVerifier compares launch digests with those that Google signs for its own guests.
func TestAgreesWithGCETCBVerifier(t *testing.T) {
	t.Parallel()
	for name, f := range plainFirmwares(t) {
		for _, vcpus := range []int{1, 2, 48} {
			options := gcesev.LaunchOptionsDefault() // Milan
			options.Vcpus = vcpus
			for kind, product := range map[string]sevsnp.SevProduct_SevProductName{
				"EPYC-Milan": sevsnp.SevProduct_SEV_PRODUCT_MILAN, "EPYC-Genoa": sevsnp.SevProduct_SEV_PRODUCT_GENOA,
			} {
				options.Product = product
				want, err := gcesev.LaunchDigest(options, f.Data())
				if err != nil {
					t.Fatal(err)
				}
				got, err := measure.SNP(measure.SNPLaunch{
					Firmware: snpFirmware(t, f), VMM: measure.GCE, VCPUs: vcpus, CPU: cpu(t, kind), GuestFeatures: 1,
				})
				if err != nil || string(got[:]) != string(want) {
					t.Errorf("%s, %d %s: want %x, got %x, %v", name, vcpus, kind, want, got, err)
				}
			}
		}
	}
}

// TestMRTDAgreesWithGCETCBVerifier compares MRTD of a single pass with Google's.
func TestMRTDAgreesWithGCETCBVerifier(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func() *ovmf.Firmware{
		"synthetic": func() *ovmf.Firmware { return parsed(t, measuretest.TDVF().Bytes()) },
		"Debian":    func() *ovmf.Firmware { return debian(t, fileTDVF, digestTDVF) },
		"AmdSev":    func() *ovmf.Firmware { return debian(t, fileAMDSEV, digestAMDSEV) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			firmware := f()
			want, err := gcetdx.MRTD(gcetdx.LaunchOptionsDefault(""), firmware.Data())
			if err != nil {
				t.Fatal(err)
			}
			got, err := measure.MRTD(firmware, measure.SinglePass)
			wantDigest(t, got, err, fmt.Sprintf("%x", want))
		})
	}
}
