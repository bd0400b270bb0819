// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"slices"
	"testing"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
)

func TestFloors(t *testing.T) {
	t.Parallel()
	set := func(off int, v byte) func(*bench) { return func(b *bench) { b.report[off] = v } }
	all := func(off int, arc int, v byte) func(*bench) { // one part of all four TCBs and of the certificate
		return func(b *bench) {
			for _, base := range []int{0x38, 0x180, 0x1e0, 0x1f0} {
				b.report[base+off] = v
			}
			b.spl[arc] = int(v)
		}
	}
	tests := map[string]struct {
		line         string
		change       func(b *bench)
		normal, hard []refusal.Code
	}{
		"milan at the floor":    {"Milan", func(*bench) {}, nil, nil},
		"genoa at the floor":    {"Genoa", func(*bench) {}, nil, nil},
		"turin at the floor":    {"Turin", func(*bench) {}, nil, nil},
		"milan-x":               {"Milan", func(b *bench) { b.report[0x18a] = 2; all(7, 8, 0x44)(b) }, nil, nil},
		"milan-x, one below":    {"Milan", func(b *bench) { b.report[0x18a] = 2; all(7, 8, 0x43)(b) }, codes("tcb"), codes("tcb", "tcb", "tcb")},
		"genoa-x":               {"Genoa", func(b *bench) { b.report[0x18a] = 2; all(7, 8, 0x4f)(b) }, nil, nil},
		"siena":                 {"Genoa", func(b *bench) { copy(b.report[0x188:], []byte{0x19, 0xa0, 2}); all(7, 8, 0x19)(b) }, nil, nil},
		"siena, one below":      {"Genoa", func(b *bench) { copy(b.report[0x188:], []byte{0x19, 0xa0, 2}); all(7, 8, 0x18)(b) }, codes("tcb"), codes("tcb", "tcb", "tcb")},
		"unknown stepping":      {"Milan", set(0x18a, 0), codes("tcb"), codes("tcb", "tcb", "tcb")},
		"bootloader":            {"Milan", all(0, 1, 3), codes("tcb"), codes("tcb", "tcb", "tcb")},
		"snp firmware":          {"Milan", all(6, 3, 23), codes("tcb"), codes("tcb", "tcb", "tcb")},
		"microcode":             {"Milan", all(7, 8, 218), codes("tcb"), codes("tcb", "tcb", "tcb")},
		"one part above":        {"Milan", func(b *bench) { all(7, 8, 255)(b); all(6, 3, 23)(b) }, codes("tcb"), codes("tcb", "tcb", "tcb")},
		"turin fmc":             {"Turin", all(0, 9, 0), codes("tcb"), codes("tcb", "tcb", "tcb")},
		"turin tee":             {"Turin", all(2, 2, 0), codes("tcb"), codes("tcb", "tcb", "tcb")},
		"launched below":        {"Milan", set(0x1f0+6, 23), nil, codes("tcb")},
		"committed below":       {"Milan", set(0x1e0+7, 218), nil, codes("tcb")},
		"debug":                 {"Milan", set(0x08+2, 1<<1|1<<3), codes("debug"), codes("debug")},
		"migration agent":       {"Milan", set(0x08+2, 1<<1|1<<2), codes("policy"), codes("policy")},
		"vmpl 1":                {"Milan", set(0x30, 1), codes("policy"), codes("policy")},
		"no alias check":        {"Milan", set(0x40, 0x05), codes("tcb"), codes("tcb")},
		"version 2":             {"Milan", func(b *bench) { b.report[0] = 2; clear(b.report[0x188:0x18b]) }, codes("tcb"), codes("tcb", "tcb", "tcb")},
		"debug before the rest": {"Milan", func(b *bench) { b.report[0x0a] = 1<<1 | 1<<2 | 1<<3; b.report[0x30] = 3; b.report[0x40] = 0 }, codes("debug", "tcb", "policy", "policy"), codes("debug", "tcb", "policy", "policy")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(tt.line, "VCEK")
			tt.change(b)
			r, err := b.verify(t)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Meets(floor.Signature); err != nil {
				t.Errorf("signature: %v", err)
			}
			wantCodes(t, r.Meets(floor.Default), tt.normal)
			wantCodes(t, r.Meets(floor.Strict), tt.hard)
			wantCodes(t, r.Meets(0), codes("missing"))
			wantCodes(t, r.Meets(99), codes("missing"))
		})
	}
}

func codes(c ...refusal.Code) []refusal.Code { return c }

func wantCodes(t *testing.T, err error, want []refusal.Code) {
	t.Helper()
	var got []refusal.Code
	for _, r := range refusal.All(err) {
		got = append(got, r.Code)
	}
	if !slices.Equal(got, want) {
		t.Errorf("want %v, got %v: %v", want, got, err)
	}
}

// TestStrictRefusesGenuineMilan: Milan is fine under the simulator's root (TestFloors) and refused under AMD's.
func TestStrictRefusesGenuineMilan(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]refusal.Code{"snp-milan-v3": codes("tcb"), "snp-turin-v5": nil} {
		v := snpVector(t, name)
		r, err := snp.Verify(v.report, v.leaf, amdRoots(t), v.At)
		if err != nil {
			t.Fatal(err)
		}
		wantCodes(t, r.Meets(floor.Default), nil)
		wantCodes(t, r.Meets(floor.Strict), want)
	}
}

func TestUnverifiedReportMeetsNothing(t *testing.T) {
	t.Parallel()
	var none *snp.Report
	for _, f := range []floor.Floor{0, floor.Signature, floor.Default, floor.Strict} {
		wantCodes(t, none.Meets(f), codes("missing"))
		wantCodes(t, new(snp.Report).Meets(f), codes("missing"))
	}
	if new(snp.Report).Platform() != "" {
		t.Error("an unverified report names a platform")
	}
}

// A report of version 2 is told so, and is not blamed for an unknown processor.
func TestVersion2IsNamed(t *testing.T) {
	t.Parallel()
	v := snpVector(t, "az-snp-v2-old-tcb")
	r, err := snp.Verify(v.report, v.leaf, amdRoots(t), v.At)
	if err != nil {
		t.Fatal(err)
	}
	if all := refusal.All(r.Meets(floor.Default)); len(all) == 0 || all[0].Got != "version 2" {
		t.Errorf("%v", all)
	}
}

func TestParseFloor(t *testing.T) {
	t.Parallel()
	for _, f := range []floor.Floor{floor.Signature, floor.Default, floor.Strict} {
		if got, err := floor.Parse(f.String()); err != nil || got != f {
			t.Errorf("%s: %v %v", f, got, err)
		}
	}
	for _, s := range []string{"", "none", "Strict", "any"} {
		if got, err := floor.Parse(s); err == nil || got != 0 {
			t.Errorf("%q: %v %v", s, got, err)
		}
	}
}
