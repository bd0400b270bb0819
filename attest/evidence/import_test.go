// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/veraison/cmw"

	"github.com/kettle/attest/attest/refusal"
)

// report is 1184 bytes that begin as a report does; quote is 100 bytes that begin as a TDX quote does.
func report() []byte {
	b := bytes.Repeat([]byte{7}, reportSize)
	binary.LittleEndian.PutUint32(b, 3)
	return b
}

func quote() []byte {
	b := bytes.Repeat([]byte{9}, 100)
	copy(b, []byte{4, 0, 2, 0, teeTDX, 0, 0, 0})
	return b
}

func url64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func azureJSON(kind Kind) string {
	part := `"vcek":"` + base64.URLEncoding.EncodeToString([]byte("leaf!")) + `"`
	if kind == AzureTDX {
		part = `"td_quote":"` + base64.URLEncoding.EncodeToString(quote()) + `"`
	}
	return fmt.Sprintf(`{"version":1,"tpm_quote":{"signature":"0a0b","message":"ff54","pcrs":[%q,%q]},"hcl_report":%q,%s}`,
		strings.Repeat("01", 32), strings.Repeat("02", 32), base64.URLEncoding.EncodeToString([]byte("HCLA?")), part)
}

func TestImport(t *testing.T) {
	t.Parallel()
	azure := func(kind Kind) Evidence {
		e := Evidence{Kind: kind, HCLReport: []byte("HCLA?"), TPMQuote: []byte{0xff, 0x54}, TPMSignature: []byte{10, 11}, PCRs: pcrs(2)}
		if kind == AzureTDX {
			e.Report, e.Leaf = quote(), []byte{}
		} else {
			e.Leaf, e.Report = []byte("leaf!"), []byte{}
		}
		return e
	}
	snp, tdx := Evidence{Kind: SNP, Report: report()}, Evidence{Kind: TDX, Report: quote()}
	extended := Evidence{Kind: SNP, Report: report(), Endorsements: Endorsements{CertTable: []byte("table")}}
	record := func(media string, b []byte) string { return fmt.Sprintf(`[%q,%q]`, media, url64(b)) }
	for name, tc := range map[string]struct {
		file   []byte
		layout Layout
		want   Evidence
	}{
		"report":              {report(), LayoutReport, snp},
		"extended report":     {append(report(), "table"...), LayoutReport, extended},
		"quote":               {quote(), LayoutQuote, tdx},
		"nitro":               {[]byte("\x84\x44\xa1\x01\x38\x22rest"), LayoutNitro, Evidence{Kind: Nitro, Report: []byte("\x84\x44\xa1\x01\x38\x22rest")}},
		"nitro, tagged":       {[]byte("\xd2\x84\x44\xa1\x01\x38\x22rest"), LayoutNitro, Evidence{Kind: Nitro, Report: []byte("\xd2\x84\x44\xa1\x01\x38\x22rest")}},
		"padded quote":        {append(quote(), make([]byte, 2000)...), LayoutQuote, Evidence{Kind: TDX, Report: append(quote(), make([]byte, 2000)...)}},
		"azure, bare":         {[]byte(azureJSON(AzureSNP)), LayoutAzureJSON, azure(AzureSNP)},
		"azure, version 2":    {[]byte(strings.Replace(azureJSON(AzureSNP), `"version":1`, `"version":2`, 1)), LayoutAzureJSON, azure(AzureSNP)},
		"azure, wrapped":      {[]byte(`{"platform":"az-snp","evidence":` + azureJSON(AzureSNP) + "}\n"), LayoutAzureJSON, azure(AzureSNP)},
		"azure TDX":           {[]byte(`{"platform":"az-tdx","evidence":` + azureJSON(AzureTDX) + "}"), LayoutAzureJSON, azure(AzureTDX)},
		"triple SNP":          {fmt.Appendf(nil, `{"provider":"sev_guest\n","outblob":%q,"auxblob":%q}`, url64(report()), url64([]byte("table"))), LayoutTSM, extended},
		"triple TDX":          {fmt.Appendf(nil, `{"provider":"tdx_guest","outblob":%q}`, base64.StdEncoding.EncodeToString(quote())), LayoutTSM, tdx},
		"record":              {[]byte(record(mediaSNP, report())), LayoutCMW, snp},
		"record, indicator":   {[]byte(strings.Replace(record(mediaIntelTDX, quote()), "]", ",4]", 1)), LayoutCMW, tdx},
		"collection":          {[]byte(`{"__cmwc_t":"tag:example.com,2026:x","a":` + record(mediaTable, []byte("table")) + `,"b":` + record(mediaSNP, report()) + `,"c":["text/plain","aGk"]}`), LayoutCMW, extended},
		"collection, triple":  {[]byte(`{"__cmwc_t":"tag:example.com,2026:x","tsm":` + record(mediaTSM, fmt.Appendf(nil, `{"provider":"tdx_guest\n","outblob":%q}`, url64(quote()))) + `}`), LayoutCMW, tdx},
		"registered name":     {[]byte(record(mediaTSMOther, fmt.Appendf(nil, `{"provider":"tdx_guest\n","outblob":%q}`, url64(quote())))), LayoutCMW, tdx},
		"collection, no type": {[]byte(`{"__cmwc_t":"","b":` + record(mediaSNP, report()) + `}`), LayoutCMW, snp},
	} {
		got, err := Import(tc.file)
		if err != nil || len(got) != 1 || got[0].Layout != tc.layout {
			t.Errorf("%s: %+v, %v", name, got, err)
			continue
		}
		empty := cmp.Transformer("empty", func(b []byte) string { return string(b) })
		if diff := cmp.Diff(tc.want, got[0].Evidence, empty); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestImportOtherWriter reads a collection that the library of the format's authors wrote.
func TestImportOtherWriter(t *testing.T) {
	t.Parallel()
	c, err := cmw.NewCollection("tag:example.com,2026:host")
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]struct {
		media string
		value []byte
	}{"report": {mediaSNP, report()}, "certs": {mediaTable, []byte("table")}} {
		monad, err := cmw.NewMonad(m.media, m.value)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddCollectionItem(name, monad); err != nil {
			t.Fatal(err)
		}
	}
	b, err := c.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Import(b)
	if err != nil || len(got) != 1 || !bytes.Equal(got[0].Report, report()) || string(got[0].CertTable) != "table" {
		t.Errorf("%s: %+v, %v", b, got, err)
	}
}

func TestImportLines(t *testing.T) {
	t.Parallel()
	c := collection()
	line, err := c.Line()
	if err != nil {
		t.Fatal(err)
	}
	file := bytes.Join([][]byte{[]byte(`{"mediaType":"other"}`), line, line, []byte("")}, []byte("\r\n"))
	got, err := Import(file)
	if err != nil || len(got) != 1 || got[0].Layout != LayoutKettle || got[0].Digest != "sha256:"+Digest(line).String() {
		t.Fatalf("%+v, %v", got, err)
	}
	if diff := cmp.Diff(c, got[0].Collection); diff != "" {
		t.Error(diff)
	}
	if got, err := Import(bytes.Replace(line, []byte("e30"), []byte("e3"), 1)); !errors.Is(err, refusal.ErrMalformed) || got != nil {
		t.Errorf("a broken line: %v, %v", got, err)
	}
}

func TestImportRefuses(t *testing.T) {
	t.Parallel()
	az := azureJSON(AzureSNP)
	change := func(old, with string) string {
		if !strings.Contains(az, old) {
			t.Fatalf("no %s", old)
		}
		return strings.Replace(az, old, with, 1)
	}
	twice := fmt.Sprintf(`[%q,%q]`, mediaSNP, url64(report()))
	for name, file := range map[string]string{
		"nothing":                "",
		"text":                   "hello",
		"short report":           string(report()[1:]),
		"huge version":           "\x00\x00\x01\x00" + string(report()[4:]),
		"version 0":              "\x00\x00\x00\x00" + string(report()[4:]),
		"SGX quote":              "\x03\x00\x02\x00\x00\x00\x00\x00" + string(quote()[8:]),
		"other object":           `{"a":1}`,
		"cut object":             `{"a":1`,
		"key twice":              `{"outblob":"","outblob":""}`,
		"too large":              strings.Repeat(" ", MaxInput+1),
		"azure version":          change(`"version":1`, `"version":3`),
		"azure more":             change(`"version":1`, `"version":1,"more":1`),
		"azure twice":            change(`"version":1`, `"version":1,"Version":1`),
		"azure no HCL":           change(`"hcl_report":"SENMQT8="`, `"hcl_report":""`),
		"azure bad hex":          change(`"0a0b"`, `"0a0"`),
		"azure bad base64":       change(`"SENMQT8="`, `"SENM\nQT8="`),
		"azure bad PCR":          change(strings.Repeat("01", 32), strings.Repeat("01", 31)),
		"azure odd PCR":          change(strings.Repeat("01", 32), "x"),
		"azure both":             change(`"version":1`, `"version":1,"td_quote":"AAAA"`),
		"azure other platform":   `{"platform":"az-tdx","evidence":` + az + `}`,
		"azure unknown platform": `{"platform":"az","evidence":` + az + `}`,
		"azure empty platform":   `{"platform":"","evidence":` + az + `}`,
		"azure wrapped more":     `{"platform":"az-snp","x":1,"evidence":` + az + `}`,
		"azure evidence null":    `{"platform":"az-snp","evidence":null}`,
		"triple provider":        fmt.Sprintf(`{"provider":"arm_cca_guest","outblob":%q}`, url64(report())),
		"triple short":           fmt.Sprintf(`{"provider":"sev_guest","outblob":%q}`, url64(report()[1:])),
		"triple TDX aux":         fmt.Sprintf(`{"provider":"tdx_guest","outblob":%q,"auxblob":"AAAA"}`, url64(quote())),
		"triple SVSM":            fmt.Sprintf(`{"provider":"sev_guest","outblob":%q,"manifestblob":"AAAA"}`, url64(report())),
		"triple bad base64":      `{"provider":"sev_guest","outblob":"+_"}`,
		"triple bad aux":         fmt.Sprintf(`{"provider":"sev_guest","outblob":%q,"auxblob":"="}`, url64(report())) + "x",
		"record of text":         `["text/plain","aGk"]`,
		"record of one":          `["text/plain"]`,
		"record twice":           `["` + mediaSNP + `","` + url64(report()) + `",4,4]`,
		"collection of nothing":  `{"__cmwc_t":"x"}`,
		"collection of two":      `{"__cmwc_t":"x","a":` + twice + `,"b":` + twice + `}`,
		"collection of a table":  `{"__cmwc_t":"x","a":["` + mediaTable + `","AAAA"]}`,
		"collection, two tables": `{"__cmwc_t":"x","a":["` + mediaTable + `","AAAA"],"b":["` + mediaTable + `","AAAA"],"c":` + twice + `}`,
	} {
		if got, err := Import([]byte(file)); !errors.Is(err, refusal.ErrNotVerified) || got != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// FuzzImport seeds from the real files where they are, and demands that what was read is whole.
func FuzzImport(f *testing.F) {
	f.Add(report())
	f.Add(quote())
	f.Add([]byte(azureJSON(AzureSNP)))
	f.Add([]byte(azureJSON(AzureTDX)))
	f.Add([]byte(golden))
	f.Add([]byte(`{"provider":"sev_guest\n","outblob":"AAAA","auxblob":""}`))
	dir := os.Getenv("KETTLE_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	files, err := filepath.Glob(filepath.Join(dir, "tee", "*", "evidence.json"))
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Import(b)
		if (err == nil) != (len(got) > 0) {
			t.Fatalf("%d pieces, %v", len(got), err)
		}
		for _, e := range got {
			if err := e.Check(); err != nil {
				t.Fatalf("not whole: %v", err)
			}
		}
	})
}
