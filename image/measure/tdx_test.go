// SPDX-License-Identifier: Apache-2.0

package measure_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/kettle/attest/image/measure"
	"github.com/kettle/attest/image/measure/measuretest"
	"github.com/kettle/attest/image/measure/ovmf"
)

// TestMRTDGolden must never be edited but to add some: the values were made with another program; those of Debian's firmware
// equal those of Google's and of dstack's tools.
func TestMRTDGolden(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		firmware        func(testing.TB) *ovmf.Firmware
		single, twoPass string
	}{
		"synthetic": {
			func(t testing.TB) *ovmf.Firmware { t.Helper(); return parsed(t, measuretest.TDVF().Bytes()) },
			"dd2fcf6772f36f9eacf172f129bb31f3d9b3f4a0d86c3733e62539151e798027cac93ea1820142b879992fa503866f33",
			"70bbfe09ba0a29eb314387ffb5ee8895ebf76249b9f4b2db8102bd366d860046dd5247ccd87bdadbbaffe16a091176ec",
		},
		"Debian's ovmf-inteltdx": {
			func(t testing.TB) *ovmf.Firmware { t.Helper(); return debian(t, fileTDVF, digestTDVF) },
			"a7a1f751abc454f9cbab198ca8d2edb2821935df525c74182b5e776cb0929e8c59aefecce725b0d08a5e9d3d3183bd08",
			"b90b236113eb4c0d4df4ef590568c14e6028a3a31d7e8ac63dee9845df5008d3ebf82d4f5974e933798f65d7a279b9a9",
		},
		"Debian's ovmf-amdsev": {
			func(t testing.TB) *ovmf.Firmware { t.Helper(); return debian(t, fileAMDSEV, digestAMDSEV) },
			"5f77220a7135b2be2087c3555b897a1c56ca84516fafc622a33fa498a46305a12597a18bb57bc50f714ffab9fe6f004d",
			"85ed058ce01afaac31effa3fcf2cdf65bd0e4e3bcf61adabb3ece33fdf300b569785d7d6c0c3d29fe11bbbc09da1cd43",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := test.firmware(t)
			got, err := measure.MRTD(f, measure.SinglePass)
			wantDigest(t, got, err, test.single)
			got, err = measure.MRTD(f, measure.TwoPass)
			wantDigest(t, got, err, test.twoPass)
		})
	}
}

// TestMRTDByHand writes the module's records out for the smallest domain.
func TestMRTDByHand(t *testing.T) {
	t.Parallel()
	spec := measuretest.Firmware{Pages: 2, TDX: []measuretest.Record{
		{Offset: 0, RawSize: 0x1000, GPA: 0xffffe000, Size: 0x1000, Type: 0, Attributes: 1},
		{GPA: 0x800000, Size: 0x1000, Type: 2},
	}}
	data := spec.Bytes()
	var want bytes.Buffer
	record := func(name string, gpa uint64) {
		b := make([]byte, 128)
		copy(b, name)
		binary.LittleEndian.PutUint64(b[16:], gpa)
		want.Write(b)
	}
	record("MEM.PAGE.ADD", 0xffffe000)
	for i := range 16 {
		record("MR.EXTEND", 0xffffe000+uint64(256*i))
		want.Write(data[256*i : 256*i+256])
	}
	record("MEM.PAGE.ADD", 0x800000)
	for _, order := range measure.PageOrders() { // one page has one order
		got, err := measure.MRTD(parsed(t, data), order)
		wantDigest(t, got, err, fmt.Sprintf("%x", sha512.Sum384(want.Bytes())))
	}
}

func TestMRTDRefuses(t *testing.T) {
	t.Parallel()
	var unsupported *ovmf.UnsupportedError
	if _, err := measure.MRTD(parsed(t, measuretest.Plain().Bytes()), measure.SinglePass); !errors.As(err, &unsupported) {
		t.Errorf("firmware without TDX: %v", err)
	}
	for _, order := range []measure.PageOrder{"", "three-pass"} {
		if _, err := measure.MRTD(parsed(t, measuretest.TDVF().Bytes()), order); err == nil {
			t.Errorf("page order %q: no error", order)
		}
	}
}

// TestAttackFirmwareChanged: one bit anywhere in the code volume gives another MRTD; the variables are not part of it.
func TestAttackFirmwareChanged(t *testing.T) {
	t.Parallel()
	good, err := measure.MRTD(parsed(t, measuretest.TDVF().Bytes()), measure.SinglePass)
	if err != nil {
		t.Fatal(err)
	}
	for offset := 0x2000; offset < 0x7000; offset += 251 {
		b := measuretest.TDVF().Bytes()
		b[offset] ^= 1
		if got, err := measure.MRTD(parsed(t, b), measure.SinglePass); err != nil || got == good {
			t.Fatalf("a bit at %#x does not matter, or %v", offset, err)
		}
	}
}
