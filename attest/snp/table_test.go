// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/snp/snptest"
)

// TestTableContent holds every value of the shipped table a second time: a change needs two hands. The values are those
// of AMD-SB-3019 (floor), AMD-SB-3020 (strict) and AMD-SB-3027 (siblings).
func TestTableContent(t *testing.T) {
	t.Parallel()
	type row struct {
		floor, strict snp.TCB
		siblings      uint8
	}
	want := map[snp.CPU]row{
		{Family: 0x19, Model: 0x01, Stepping: 1}: {snp.TCB{Bootloader: 4, SNP: 0x18, Microcode: 0xdb}, snp.TCB{Bootloader: 4, SNP: 0x18, Microcode: 0xdb}, 0},
		{Family: 0x19, Model: 0x01, Stepping: 2}: {snp.TCB{Bootloader: 4, SNP: 0x18, Microcode: 0x44}, snp.TCB{Bootloader: 4, SNP: 0x18, Microcode: 0x44}, 0},
		{Family: 0x19, Model: 0x11, Stepping: 1}: {snp.TCB{Bootloader: 10, SNP: 0x17, Microcode: 0x54}, snp.TCB{Bootloader: 10, SNP: 0x1b, Microcode: 0x54}, 0x56},
		{Family: 0x19, Model: 0x11, Stepping: 2}: {snp.TCB{Bootloader: 10, SNP: 0x17, Microcode: 0x4f}, snp.TCB{Bootloader: 10, SNP: 0x1b, Microcode: 0x4f}, 0x51},
		{Family: 0x19, Model: 0xa0, Stepping: 2}: {snp.TCB{Bootloader: 10, SNP: 0x17, Microcode: 0x19}, snp.TCB{Bootloader: 10, SNP: 0x17, Microcode: 0x19}, 0},
		{Family: 0x1a, Model: 0x02, Stepping: 1}: {snp.TCB{FMC: 1, Bootloader: 1, TEE: 1, SNP: 4, Microcode: 0x51}, snp.TCB{FMC: 1, Bootloader: 1, TEE: 1, SNP: 4, Microcode: 0x51}, 0x51},
	}
	table, err := snp.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	if table.Date() != "2026-11-21" {
		t.Errorf("date %s", table.Date())
	}
	if len(table.Processors()) != len(want) {
		t.Errorf("processors %v", table.Processors())
	}
	for _, cpu := range table.Processors() {
		got, ok := table.Row(cpu)
		w := want[cpu]
		if !ok || got.Floor != w.floor || got.Strict != w.strict || got.Siblings != w.siblings || !strings.Contains(got.Source, "AMD-SB-30") {
			t.Errorf("%s: %+v", cpu, got)
		}
	}
	if _, ok := table.Row(snp.CPU{Family: 0x19, Model: 0x01}); ok {
		t.Error("a stepping that nobody listed has a row")
	}
	if !slices.IsSortedFunc(table.Processors(), func(a, b snp.CPU) int { return strings.Compare(a.String(), b.String()) }) {
		t.Errorf("not in order: %v", table.Processors())
	}
}

const oneRow = `{"schema":"kettle.snp-tcb/v1","date":"2027-01-02","processors":[{"name":"Milan B1","family":25,"model":1,"stepping":1,` +
	`"floor":{"fmc":0,"bootloader":4,"tee":1,"snp":20,"microcode":230},"source":"house rule"}]}`

func TestParseTableRefuses(t *testing.T) {
	t.Parallel()
	if _, err := snp.ParseTable([]byte(oneRow)); err != nil {
		t.Fatal(err)
	}
	change := func(old, by string) string {
		if !strings.Contains(oneRow, old) {
			t.Fatalf("no %s", old)
		}
		return strings.Replace(oneRow, old, by, 1)
	}
	row := oneRow[strings.Index(oneRow, `{"name"`) : len(oneRow)-2]
	for name, text := range map[string]string{
		"empty":               "",
		"not json":            "floor",
		"other schema":        change("/v1", "/v2"),
		"no schema":           change(`"schema":"kettle.snp-tcb/v1",`, ""),
		"no date":             change(`"date":"2027-01-02",`, ""),
		"not a date":          change("2027-01-02", "2027-13-02"),
		"no processors":       change(row, ""),
		"too many":            change(row, strings.TrimSuffix(strings.Repeat(row+",", 257), ",")),
		"twice":               change(row, row+","+row),
		"unknown key":         change(`"source"`, `"any":true,"source"`),
		"key twice":           change(`"source"`, `"source":"","source"`),
		"trailing":            oneRow + "{}",
		"no family":           change(`"family":25,`, ""),
		"family null":         change(`"family":25`, `"family":null`),
		"unknown line":        change(`"family":25`, `"family":23`),
		"model out of range":  change(`"model":1`, `"model":256`),
		"no floor":            change(`"floor":{"fmc":0,"bootloader":4,"tee":1,"snp":20,"microcode":230},`, ""),
		"no microcode":        change(`,"microcode":230`, ""),
		"microcode null":      change(`"microcode":230`, `"microcode":null`),
		"negative microcode":  change(`"microcode":230`, `"microcode":-1`),
		"no name":             change(`"Milan B1"`, `""`),
		"long name":           change(`Milan B1`, strings.Repeat("x", 201)),
		"no source":           change(`"house rule"`, `""`),
		"strict, no source":   change(`"source"`, `"strict":{"fmc":0,"bootloader":4,"tee":1,"snp":20,"microcode":230},"source"`),
		"strict with a gap":   change(`"source"`, `"strict":{"fmc":0},"strictSource":"x","source"`),
		"strict below":        change(`"source"`, `"strict":{"fmc":0,"bootloader":3,"tee":1,"snp":20,"microcode":230},"strictSource":"x","source"`),
		"source, no strict":   change(`"source"`, `"strictSource":"x","source"`),
		"siblings, no source": change(`"source"`, `"siblings":3,"source"`),
		"siblings 0":          change(`"source"`, `"siblings":0,"siblingsSource":"x","source"`),
		"source, no siblings": change(`"source"`, `"siblingsSource":"x","source"`),
		"too long":            oneRow + strings.Repeat(" ", 64<<10),
	} {
		if table, err := snp.ParseTable([]byte(text)); err == nil || table.Date() != "" || len(table.Processors()) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTableRaises(t *testing.T) {
	t.Parallel()
	table, err := snp.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	house, err := snp.ParseTable([]byte(oneRow))
	if err != nil {
		t.Fatal(err)
	}
	milan := snp.CPU{Family: 0x19, Model: 0x01, Stepping: 1}
	for name, raised := range map[string]snp.Table{"by the house": table.Raise(house), "of the house": house.Raise(table)} {
		row, _ := raised.Row(milan)
		if want := (snp.TCB{Bootloader: 4, TEE: 1, SNP: 24, Microcode: 230}); row.Floor != want || row.Strict != want || row.Siblings != 0 {
			t.Errorf("%s: %+v", name, row)
		}
		if raised.Date() != "2027-01-02" || len(raised.Processors()) != len(table.Processors()) {
			t.Errorf("%s: %s %v", name, raised.Date(), raised.Processors())
		}
	}
	if row, _ := table.Row(milan); row.Floor.Microcode != 0xdb {
		t.Error("raising changed the shipped table")
	}
	b := snptest.New("Milan", "VCEK")
	b.Report[0x40] = 0x24
	r, err := b.Verify(t)
	if err != nil {
		t.Fatal(err)
	}
	wantCodes(t, r.Judge(floor.Default, snp.Terms{Table: table.Raise(house)}), codes("tcb"))
	wantCodes(t, r.Judge(floor.Strict, snp.Terms{Table: table.Raise(house)}), codes("tcb", "tcb", "tcb"))
	wantCodes(t, r.Judge(floor.Signature, snp.Terms{Table: table.Raise(house)}), nil)
	wantCodes(t, snptestReport(t, "Genoa").Judge(floor.Default, snp.Terms{Table: house}), codes("tcb"))

	siblings, err := snp.ParseTable([]byte(strings.Replace(oneRow, `"source"`, `"siblings":1,"siblingsSource":"x","source"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if row, _ := table.Raise(siblings).Row(milan); row.Siblings != 0 {
		t.Error("raising let siblings in where none are known to be safe")
	}
}

func snptestReport(t *testing.T, line string) *snp.Report {
	t.Helper()
	r, err := snptest.New(line, "VCEK").Verify(t)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// FuzzParseTable: a table read is a table with a date and at least one row, each of a known line.
func FuzzParseTable(f *testing.F) {
	shipped, err := os.ReadFile("tcb.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(shipped)
	f.Add([]byte(oneRow))
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := snp.ParseTable(data)
		if err != nil {
			return
		}
		if table.Date() == "" || len(table.Processors()) == 0 {
			t.Fatal("an empty table")
		}
		if _, err := table.Raise(table).Row(table.Processors()[0]); !err {
			t.Fatal("raising by itself lost a row")
		}
	})
}

// A floor that nobody chose is judged before anything else.
func TestJudgeWantsAFloor(t *testing.T) {
	t.Parallel()
	r := snptestReport(t, "Turin")
	if err := r.Judge(0, snp.Terms{}); !errors.Is(err, refusal.ErrMissing) {
		t.Error(err)
	}
}
