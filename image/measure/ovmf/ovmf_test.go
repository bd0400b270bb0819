// SPDX-License-Identifier: Apache-2.0

package ovmf_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/kettle/attest/image/measure/measuretest"
	"github.com/kettle/attest/image/measure/ovmf"
)

func parse(t testing.TB, b []byte) *ovmf.Firmware {
	t.Helper()
	f, err := ovmf.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestSEV(t *testing.T) {
	t.Parallel()
	spec := measuretest.AMDSEV()
	f := parse(t, spec.Bytes())
	s, err := f.SEV()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Sections, spec.SEV) || s.ResetEIP != spec.ResetEIP || s.HashTable != spec.HashTable || !s.KernelHashes() {
		t.Errorf("got %+v", s)
	}
	if f.GPA() != 1<<32-8*ovmf.PageSize || !bytes.Equal(f.Data(), spec.Bytes()) {
		t.Errorf("GPA %#x", f.GPA())
	}
	if s, err := parse(t, measuretest.Plain().Bytes()).SEV(); err != nil || s.KernelHashes() {
		t.Errorf("plain firmware: %v", err)
	}
}

// TestEmptySections: a build without an SVSM has an empty section for it.
func TestEmptySections(t *testing.T) {
	t.Parallel()
	spec := measuretest.Plain()
	want := slices.Clone(spec.SEV)
	spec.SEV = append(spec.SEV, ovmf.Section{Type: ovmf.SectionSecureMemory})
	if s, err := parse(t, spec.Bytes()).SEV(); err != nil || !slices.Equal(s.Sections, want) {
		t.Errorf("got %v, %v", s, err)
	}
}

func TestSEVRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*measuretest.Firmware)
		want   string
	}{
		"no metadata":         {func(f *measuretest.Firmware) { f.SEV = nil }, "cannot start an SNP guest"},
		"no reset block":      {func(f *measuretest.Firmware) { f.ResetEIP = 0 }, "no reset block"},
		"unknown type":        {func(f *measuretest.Firmware) { f.SEV[0].Type = 7 }, "unknown type 0x7"},
		"part of a page":      {func(f *measuretest.Firmware) { f.SEV[0].Size = 0x100 }, "whole pages"},
		"not aligned":         {func(f *measuretest.Firmware) { f.SEV[0].GPA += 0x10 }, "whole pages"},
		"overlap":             {func(f *measuretest.Firmware) { f.SEV[0].Size = 0xb000 }, "overlap"},
		"past 4 GiB":          {func(f *measuretest.Firmware) { f.SEV[0].GPA, f.SEV[0].Size = 0xfffff000, 0x2000 }, "address space"},
		"over the firmware":   {func(f *measuretest.Firmware) { f.SEV[0].GPA, f.SEV[0].Size = 0xffff8000, 0x1000 }, "inside the firmware"},
		"empty secrets":       {func(f *measuretest.Firmware) { f.SEV[2].Size = 0 }, "want one page"},
		"two pages of CPUID":  {func(f *measuretest.Firmware) { f.SEV[3].Size = 0x2000 }, "want one page"},
		"secrets twice":       {func(f *measuretest.Firmware) { f.SEV[3].Type = ovmf.SectionSecrets }, "both secrets"},
		"no table of hashes":  {func(f *measuretest.Firmware) { f.HashTable = 0 }, "not inside its section"},
		"a table elsewhere":   {func(f *measuretest.Firmware) { f.HashTable = 0x80fc00 }, "not inside its section"},
		"a table that is cut": {func(f *measuretest.Firmware) { f.HashTable = 0x810fff }, "not inside its section"},
		"a small table":       {func(f *measuretest.Firmware) { f.HashTableSize = 175 }, "has room for 175"},
		"too many sections":   {func(f *measuretest.Firmware) { f.SEV = make([]ovmf.Section, 65) }, "at most 64"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := measuretest.AMDSEV()
			test.change(&spec)
			s, err := parse(t, spec.Bytes()).SEV()
			if err == nil || !strings.Contains(err.Error(), test.want) || s.Sections != nil {
				t.Errorf("want an error with %q, got %v", test.want, err)
			}
		})
	}
}

func TestTDX(t *testing.T) {
	t.Parallel()
	spec := measuretest.TDVF()
	data := spec.Bytes()
	sections, err := parse(t, data).TDX()
	if err != nil || len(sections) != len(spec.TDX) {
		t.Fatalf("got %d sections, %v", len(sections), err)
	}
	for i, r := range spec.TDX {
		s := sections[i]
		if s.GPA != r.GPA || s.Size != r.Size || uint32(s.Type) != r.Type || s.Extend != (r.Attributes == 1) ||
			!bytes.Equal(s.Data, data[r.Offset:r.Offset+r.RawSize]) {
			t.Errorf("section %d: got %#x %#x %d %v", i, s.GPA, s.Size, s.Type, s.Extend)
		}
	}
}

func TestTDXRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*measuretest.Firmware)
		want   string
	}{
		"no metadata":              {func(f *measuretest.Firmware) { f.TDX = nil }, "cannot start a trust domain"},
		"no sections":              {func(f *measuretest.Firmware) { f.TDX = []measuretest.Record{} }, "cannot start a trust domain"},
		"unknown type":             {func(f *measuretest.Firmware) { f.TDX[2].Type = 4 }, "type 4"},
		"pages of later":           {func(f *measuretest.Firmware) { f.TDX[2].Attributes = 2 }, "at run time"},
		"unknown attributes":       {func(f *measuretest.Firmware) { f.TDX[0].Attributes = 5 }, "unknown attributes"},
		"content past the end":     {func(f *measuretest.Firmware) { f.TDX[0].Offset = 0x8000 }, "outside the file"},
		"content nowhere":          {func(f *measuretest.Firmware) { f.TDX[0].Offset = 0xffffffff }, "outside the file"},
		"more memory than content": {func(f *measuretest.Firmware) { f.TDX[1].Size = 0x4000 }, "fill"},
		"content of the hand-off":  {func(f *measuretest.Firmware) { f.TDX[4].RawSize = 0x1000 }, "has content"},
		"measured zeros":           {func(f *measuretest.Firmware) { f.TDX[2].Attributes = 1 }, "has content"},
		"overlap":                  {func(f *measuretest.Firmware) { f.TDX[3].GPA = 0x810000 }, "overlap"},
		"not aligned":              {func(f *measuretest.Firmware) { f.TDX[3].GPA = 0x80b001 }, "whole pages"},
		"past the end of memory":   {func(f *measuretest.Firmware) { f.TDX[3].GPA = 1<<52 - 0x1000 }, "address space"},
		"wrapping":                 {func(f *measuretest.Firmware) { f.TDX[3].GPA, f.TDX[3].Size = 0xfffffffffffff000, 0x2000 }, "address space"},
		"too much memory":          {func(f *measuretest.Firmware) { f.TDX[3].GPA, f.TDX[3].Size = 1<<40, 1<<40 }, "at most"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := measuretest.TDVF()
			test.change(&spec)
			s, err := parse(t, spec.Bytes()).TDX()
			if err == nil || !strings.Contains(err.Error(), test.want) || s != nil {
				t.Errorf("want an error with %q, got %v", test.want, err)
			}
		})
	}
}

// TestDescriptor: what the metadata says of itself has to be true.
func TestDescriptor(t *testing.T) {
	t.Parallel()
	le := binary.LittleEndian
	good := measuretest.TDVF().Bytes()
	at := bytes.LastIndex(good, []byte("TDVF"))
	for name, change := range map[string]func(b []byte){
		"another mark":    func(b []byte) { b[at] = 'X' },
		"another version": func(b []byte) { le.PutUint32(b[at+8:], 2) },
		"another length":  func(b []byte) { le.PutUint32(b[at+4:], 16) },
		"another count":   func(b []byte) { le.PutUint32(b[at+12:], 5) },
		"a huge count":    func(b []byte) { le.PutUint32(b[at+12:], 0xffffffff); le.PutUint32(b[at+4:], 0xfffffff0) },
	} {
		b := bytes.Clone(good)
		change(b)
		if s, err := parse(t, b).TDX(); err == nil || s != nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, data := range map[string][]byte{
		"nowhere":   le.AppendUint32(nil, 0xffffffff),
		"at no end": le.AppendUint32(nil, 4),
		"no number": {1, 2, 3},
	} {
		spec := measuretest.Firmware{Pages: 2, Entries: []measuretest.Entry{{GUID: [16]byte([]byte(measuretest.GUIDTDX)), Data: data}}}
		if s, err := parse(t, spec.Bytes()).TDX(); err == nil || s != nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTableRefuses(t *testing.T) {
	t.Parallel()
	le := binary.LittleEndian
	size := 8 * ovmf.PageSize
	end := size - 32 - 18 // the last entry's length
	entry := measuretest.Entry{GUID: [16]byte{1}, Data: []byte{1}}
	tests := map[string]struct {
		data        []byte
		want        string
		unsupported bool
	}{
		"nothing":        {nil, "whole pages", false},
		"part of a page": {make([]byte, 4097), "whole pages", false},
		"too large":      {make([]byte, ovmf.MaxSize+ovmf.PageSize), "at most", false},
		"no table":       {make([]byte, ovmf.PageSize), "no table", true},
		"a table of nothing": {
			func() []byte { b := measuretest.AMDSEV().Bytes(); le.PutUint16(b[end:], 0); return b }(), "no table", true,
		},
		"a table larger than the file": {
			func() []byte { b := measuretest.AMDSEV().Bytes(); le.PutUint16(b[end:], 0xffff); return b }(), "no table", true,
		},
		"bytes of no entry": {
			func() []byte { b := measuretest.AMDSEV().Bytes(); le.PutUint16(b[end:], 25); return b }(), "belong to no entry", false,
		},
		"a long entry": {
			func() []byte { b := measuretest.AMDSEV().Bytes(); le.PutUint16(b[end-18:], 0xffff); return b }(), "an entry of", false,
		},
		"an entry of nothing": {
			func() []byte { b := measuretest.AMDSEV().Bytes(); le.PutUint16(b[end-18:], 3); return b }(), "an entry of", false,
		},
		"an entry twice": {measuretest.Firmware{Pages: 2, Entries: []measuretest.Entry{entry, entry}}.Bytes(), "twice", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := ovmf.Parse(test.data)
			var unsupported *ovmf.UnsupportedError
			if err == nil || f != nil || !strings.Contains(err.Error(), test.want) || errors.As(err, &unsupported) != test.unsupported {
				t.Errorf("want an error with %q, got %v", test.want, err)
			}
		})
	}
}

// FuzzParse: metadata that is consistent, or an error.
func FuzzParse(f *testing.F) {
	f.Add(measuretest.AMDSEV().Bytes())
	f.Add(measuretest.TDVF().Bytes())
	f.Add(measuretest.Firmware{Pages: 1}.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		firmware, err := ovmf.Parse(b)
		if (err == nil) != (firmware != nil) {
			t.Fatalf("a firmware %v and an error %v", firmware != nil, err)
		}
		if err != nil {
			return
		}
		if s, err := firmware.SEV(); err == nil {
			if err := s.Validate(); err != nil {
				t.Fatalf("metadata that is not valid: %v", err)
			}
		}
		if sections, err := firmware.TDX(); err == nil {
			for _, s := range sections {
				if s.Size == 0 || s.Extend && uint64(len(s.Data)) != s.Size {
					t.Fatalf("a section of %d bytes with %d bytes of content", s.Size, len(s.Data))
				}
			}
		}
	})
}
