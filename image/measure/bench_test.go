// SPDX-License-Identifier: Apache-2.0

package measure_test

import (
	"testing"

	gcetdx "github.com/google/gce-tcb-verifier/tdx"
	virtee "github.com/virtee/sev-snp-measure-go/guest"
	"github.com/virtee/sev-snp-measure-go/vmmtypes"

	"github.com/kettle/attest/image/measure"
	"github.com/kettle/attest/image/measure/measuretest"
	"github.com/kettle/attest/image/measure/ovmf"
)

// big is a firmware of 4 MiB, the size of Debian's, in which no two pages that follow each other are equal: the most work
// there can be.
func big(spec measuretest.Firmware) []byte {
	spec.Pages = 1024
	if spec.TDX != nil {
		spec.TDX[0] = measuretest.Record{Offset: 0x84000, RawSize: 0x37c000, GPA: 0xffc84000, Size: 0x37c000, Attributes: 1}
		spec.TDX[1] = measuretest.Record{RawSize: 0x84000, GPA: 0xffc00000, Size: 0x84000, Type: 1}
	}
	return spec.Bytes()
}

func BenchmarkSNP(b *testing.B) { benchmarkSNP(b, big(measuretest.AMDSEV())) }

func BenchmarkSNPDebian(b *testing.B) { benchmarkSNP(b, debian(b, fileAMDSEV, digestAMDSEV).Data()) }

func benchmarkSNP(b *testing.B, data []byte) {
	b.Helper()
	hashes, kind := direct(), cpu(b, "EPYC-Milan")
	b.ReportAllocs()
	for b.Loop() {
		f, err := ovmf.Parse(data)
		if err != nil {
			b.Fatal(err)
		}
		firmware, err := measure.NewSNPFirmware(f)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := measure.SNP(measure.SNPLaunch{Firmware: firmware, Direct: hashes, VMM: measure.QEMU, VCPUs: 4, CPU: kind, GuestFeatures: 1}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSNPTable(b *testing.B) {
	l := measure.SNPLaunch{Firmware: snpFirmware(b, parsed(b, big(measuretest.AMDSEV()))), Direct: direct(), VMM: measure.QEMU, GuestFeatures: 1}
	cpus := []measure.CPU{cpu(b, "EPYC-Milan"), cpu(b, "EPYC-Genoa"), cpu(b, "EPYC-Turin")}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := measure.SNPTable(l, []int{1, 2, 4, 8, 16, 32, 64, 128}, cpus); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSNPVirtee(b *testing.B) {
	theirs := virteeFirmware(b, parsed(b, big(measuretest.Plain())))
	b.ReportAllocs()
	for b.Loop() {
		pages, err := virtee.OVMFHash(theirs)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := virtee.LaunchDigestFromOVMF(theirs, 1, 4, pages, vmmtypes.QEMU, "EPYC-Milan"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMRTD(b *testing.B) {
	data := big(measuretest.TDVF())
	b.ReportAllocs()
	for b.Loop() {
		f, err := ovmf.Parse(data)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := measure.MRTD(f, measure.SinglePass); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMRTDGoogle(b *testing.B) {
	data := big(measuretest.TDVF())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := gcetdx.MRTD(gcetdx.LaunchOptionsDefault(""), data); err != nil {
			b.Fatal(err)
		}
	}
}
