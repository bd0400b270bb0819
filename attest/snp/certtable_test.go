// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-sev-guest/abi"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/snp/snptest"
)

func TestParseCertTable(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"VCEK", "VLEK"} {
		b := snptest.New("Genoa", key)
		endorsement := snptest.Entry{GUID: snptest.GUIDOther, Data: []byte("launch endorsement")}
		raw := b.CertTable(t, snptest.Entry{GUID: snptest.GUIDCRL, Data: b.CRL(t)}, endorsement,
			snptest.Entry{GUID: "00000000-0000-0000-0000-000000000001"}) // one that the host does not have
		table, err := snp.ParseCertTable(raw)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := table.Leaf(b.Signed(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := snp.Verify(b.Signed(t), leaf, b.Roots(t), b.At); err != nil {
			t.Error(err)
		}
		if (table.VCEK == nil) == (table.VLEK == nil) || table.ASK == nil || table.ARK == nil || table.CRL == nil {
			t.Errorf("%s: %+v", key, table)
		}
		if len(table.Others) != 1 || table.Others[0].GUID.String() != endorsement.GUID || !bytes.Equal(table.Others[0].Data, endorsement.Data) {
			t.Errorf("others: %+v", table.Others)
		}
		clear(raw)
		if len(leaf) == 0 || leaf[0] != 0x30 {
			t.Error("the table's values are the caller's bytes")
		}
		theirs := new(abi.CertTable)
		if err := theirs.Unmarshal(b.CertTable(t, endorsement)); err != nil || len(theirs.Entries) != 4 {
			t.Errorf("go-sev-guest reads %d entries: %v", len(theirs.Entries), err)
		}
	}
}

func TestCertTableEmpty(t *testing.T) {
	t.Parallel()
	report := snptest.New("Genoa", "VCEK").Signed(t)
	var none *snp.CertTable
	_, err := none.Leaf(report)
	wantFirst(t, err, refusal.EndorsementsMissing)
	for name, raw := range map[string][]byte{"no bytes": nil, "an end": make([]byte, 24), "a page of zeros": make([]byte, 4096)} {
		table, err := snp.ParseCertTable(raw)
		if err != nil || len(table.Others) != 0 || table.VCEK != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, err = table.Leaf(report)
		wantFirst(t, err, refusal.EndorsementsMissing)
	}
}

func TestParseCertTableRefuses(t *testing.T) {
	t.Parallel()
	le := binary.LittleEndian
	a, b := snptest.Entry{GUID: snptest.GUIDVCEK, Data: []byte("first")}, snptest.Entry{GUID: snptest.GUIDASK, Data: []byte("second")}
	good := snptest.EncodeCertTable(t, a, b)
	put := func(at int, v uint32) []byte {
		c := slices.Clone(good)
		le.PutUint32(c[at:], v)
		return c
	}
	many := make([]snptest.Entry, 33)
	for i := range many {
		many[i] = snptest.Entry{GUID: "00000000-0000-0000-0000-0000000001" + string("0123456789abcdef"[i/16]) + string("0123456789abcdef"[i%16])}
	}
	noEnd := bytes.Repeat(append(bytes.Repeat([]byte{1}, 16), 72, 0, 0, 0, 0, 0, 0, 0), 3)
	for name, raw := range map[string][]byte{
		"one byte":               {0},
		"less than an entry":     make([]byte, 23),
		"no end":                 noEnd,
		"too many":               snptest.EncodeCertTable(t, many...),
		"a guid twice":           snptest.EncodeCertTable(t, a, a),
		"no guid":                append(append(make([]byte, 16), 48, 0, 0, 0, 1, 0, 0, 0), make([]byte, 40)...),
		"offset in the header":   put(16, 71),
		"offset 0":               put(16, 0),
		"offset past the end":    put(16, 1<<20),
		"length past the end":    put(20, 4096),
		"length of 4 gigabytes":  put(20, 0xffffffff),
		"offset of 4 gigabytes":  put(16, 0xffffffff),
		"overlap":                put(24+16, 72),
		"overlap by one byte":    put(20, 6),
		"longer than a megabyte": make([]byte, 1<<20+1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table, err := snp.ParseCertTable(raw)
			wantFirst(t, err, refusal.Malformed)
			if table != nil {
				t.Error("a table besides the refusal")
			}
		})
	}
}

func TestCertTableLeaf(t *testing.T) {
	t.Parallel()
	b := snptest.New("Milan", "VCEK")
	leaf, report := b.LeafDER(t), b.Signed(t)
	for name, tt := range map[string]struct {
		cert, report []byte
		want         refusal.Code
	}{
		"der":                    {leaf, report, ""},
		"pem":                    {snptest.PEM(leaf), report, ""},
		"pem with zeros after":   {append(snptest.PEM(leaf), 0, 0), report, ""},
		"an extended report":     {leaf, append(slices.Clone(report), 1, 2, 3), ""},
		"pem of two":             {append(snptest.PEM(leaf), snptest.PEM(leaf)...), report, refusal.Malformed},
		"pem of something else":  {bytes.ReplaceAll(snptest.PEM(leaf), []byte("CERTIFICATE"), []byte("PUBLIC KEY")), report, refusal.Malformed},
		"a short report":         {leaf, report[:100], refusal.Malformed},
		"a vlek's report":        {leaf, snptest.New("Milan", "VLEK").Signed(t), refusal.EndorsementsMissing},
		"a report nobody signed": {leaf, append(append(slices.Clone(report[:0x48]), 7<<2), report[0x49:]...), refusal.Signature},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table, err := snp.ParseCertTable(snptest.EncodeCertTable(t, snptest.Entry{GUID: snptest.GUIDVCEK, Data: tt.cert}))
			if err != nil {
				t.Fatal(err)
			}
			got, err := table.Leaf(tt.report)
			if tt.want == "" {
				if err != nil || !bytes.Equal(got, leaf) {
					t.Error(err)
				}
				return
			}
			wantFirst(t, err, tt.want)
		})
	}
}

// FuzzParseCertTable: what is read was in the bytes, once, and no more than there was.
func FuzzParseCertTable(f *testing.F) {
	f.Add(snptest.EncodeCertTable(f, snptest.Entry{GUID: snptest.GUIDVCEK, Data: []byte{0x30, 0}},
		snptest.Entry{GUID: snptest.GUIDOther, Data: []byte("x")}), uint16(0))
	f.Add(snptest.EncodeCertTable(f, snptest.Entry{GUID: snptest.GUIDVCEK, Data: snptest.PEM([]byte{0x30, 0})}), uint16(17))
	f.Add([]byte{}, uint16(0))
	report := make([]byte, snp.ReportSize)
	report[0], report[0x0a], report[0x34] = 3, 2, 1
	f.Fuzz(func(t *testing.T, raw []byte, flip uint16) {
		if len(raw) > 0 {
			raw[int(flip)%len(raw)] ^= 1
		}
		table, err := snp.ParseCertTable(raw)
		if err != nil {
			if table != nil || len(refusal.All(err)) == 0 {
				t.Fatal("no plain refusal")
			}
			return
		}
		total := 0
		all := append([]snp.CertTableEntry{{Data: table.VCEK}, {Data: table.VLEK}, {Data: table.ASK}, {Data: table.ARK}, {Data: table.CRL}}, table.Others...)
		for _, e := range all {
			if total += len(e.Data); !bytes.Contains(raw, e.Data) {
				t.Fatal("data out of nowhere")
			}
		}
		if total > len(raw) {
			t.Fatal("more data than bytes")
		}
		if leaf, err := table.Leaf(report); err != nil && (leaf != nil || len(refusal.All(err)) == 0) {
			t.Fatal("no plain refusal")
		}
	})
}
