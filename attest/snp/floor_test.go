// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"slices"
	"testing"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/snp/snptest"
)

func TestFloors(t *testing.T) {
	t.Parallel()
	set := func(off int, v byte) func(*snptest.Machine) { return func(b *snptest.Machine) { b.Report[off] = v } }
	all := func(part, arc int, v byte) func(*snptest.Machine) {
		return func(b *snptest.Machine) { b.SetTCB(part, arc, v) }
	}
	smtOff := func(b *snptest.Machine) { b.Report[0x40] = 0x24 }
	siena := func(b *snptest.Machine) { copy(b.Report[0x188:], []byte{0x19, 0xa0, 2}) }
	tests := map[string]struct {
		line         string
		change       func(b *snptest.Machine)
		normal, hard []refusal.Code
	}{
		"milan at the floor":      {"Milan", smtOff, nil, nil},
		"milan with smt":          {"Milan", func(*snptest.Machine) {}, nil, codes("policy")},
		"genoa at the floor":      {"Genoa", smtOff, nil, codes("tcb", "tcb", "tcb")},
		"genoa, strict":           {"Genoa", func(b *snptest.Machine) { smtOff(b); all(6, 3, 27)(b) }, nil, nil},
		"genoa, strict with smt":  {"Genoa", all(6, 3, 27), nil, codes("policy")},
		"genoa, siblings apart":   {"Genoa", func(b *snptest.Machine) { all(6, 3, 27)(b); all(7, 8, 0x56)(b) }, nil, nil},
		"turin at the floor":      {"Turin", func(*snptest.Machine) {}, nil, nil},
		"milan-x":                 {"Milan", func(b *snptest.Machine) { b.Report[0x18a] = 2; all(7, 8, 0x44)(b); smtOff(b) }, nil, nil},
		"milan-x, one below":      {"Milan", func(b *snptest.Machine) { b.Report[0x18a] = 2; all(7, 8, 0x43)(b); smtOff(b) }, codes("tcb"), codes("tcb", "tcb", "tcb")},
		"genoa-x":                 {"Genoa", func(b *snptest.Machine) { b.Report[0x18a] = 2; all(7, 8, 0x51)(b); all(6, 3, 27)(b) }, nil, nil},
		"genoa-x at the floor":    {"Genoa", func(b *snptest.Machine) { b.Report[0x18a] = 2; all(7, 8, 0x4f)(b); smtOff(b) }, nil, codes("tcb", "tcb", "tcb")},
		"genoa-x, one below":      {"Genoa", func(b *snptest.Machine) { b.Report[0x18a] = 2; all(7, 8, 0x4e)(b); smtOff(b) }, codes("tcb"), codes("tcb", "tcb", "tcb")},
		"siena":                   {"Genoa", func(b *snptest.Machine) { siena(b); all(7, 8, 0x19)(b); smtOff(b) }, nil, nil},
		"siena, one below":        {"Genoa", func(b *snptest.Machine) { siena(b); all(7, 8, 0x18)(b); smtOff(b) }, codes("tcb"), codes("tcb", "tcb", "tcb")},
		"turin dense, not listed": {"Turin", func(b *snptest.Machine) { copy(b.Report[0x188:], []byte{0x1a, 0x11, 0}); smtOff(b) }, codes("tcb"), codes("tcb", "tcb", "tcb")},
		"unknown stepping":        {"Milan", func(b *snptest.Machine) { b.Report[0x18a] = 0; smtOff(b) }, codes("tcb"), codes("tcb", "tcb", "tcb")},
		"bootloader":              {"Milan", func(b *snptest.Machine) { all(0, 1, 3)(b); smtOff(b) }, codes("tcb"), codes("tcb", "tcb", "tcb")},
		"snp firmware":            {"Milan", func(b *snptest.Machine) { all(6, 3, 23)(b); smtOff(b) }, codes("tcb"), codes("tcb", "tcb", "tcb")},
		"microcode":               {"Milan", func(b *snptest.Machine) { all(7, 8, 218)(b); smtOff(b) }, codes("tcb"), codes("tcb", "tcb", "tcb")},
		"turin fmc":               {"Turin", all(0, 9, 0), codes("tcb"), codes("tcb", "tcb", "tcb")},
		"turin tee":               {"Turin", all(2, 2, 0), codes("tcb"), codes("tcb", "tcb", "tcb")},
		"launched below":          {"Milan", func(b *snptest.Machine) { b.Report[0x1f0+6] = 23; smtOff(b) }, nil, codes("tcb")},
		"committed below":         {"Milan", func(b *snptest.Machine) { b.Report[0x1e0+7] = 218; smtOff(b) }, nil, codes("tcb")},
		"debug":                   {"Milan", func(b *snptest.Machine) { b.Report[0x0a] = 1<<1 | 1<<3; smtOff(b) }, codes("debug"), codes("debug")},
		"migration agent":         {"Milan", func(b *snptest.Machine) { b.Report[0x0a] = 1<<1 | 1<<2; smtOff(b) }, codes("policy"), codes("policy")},
		"vmpl 1":                  {"Milan", func(b *snptest.Machine) { b.Report[0x30] = 1; smtOff(b) }, nil, codes("policy")},
		"no alias check":          {"Milan", set(0x40, 0x04), nil, codes("tcb")},
		"version 2":               {"Milan", func(b *snptest.Machine) { b.SetVersion(2); smtOff(b) }, codes("tcb"), codes("tcb", "tcb", "tcb")},
		"debug before the rest": {"Milan", func(b *snptest.Machine) {
			b.Report[0x0a] = 1<<1 | 1<<2 | 1<<3
			b.Report[0x30] = 3
			b.Report[0x40] = 1
			all(7, 8, 1)(b)
		}, codes("debug", "tcb", "policy"), codes("debug", "tcb", "tcb", "tcb", "tcb", "policy", "policy", "policy")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := snptest.New(tt.line, "VCEK")
			tt.change(b)
			r, err := b.Verify(t)
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

// TestMilanTier: Milan is fine under the simulator's root (TestFloors), accepted at default under AMD's, and refused at
// strict unless its chip is written down.
func TestMilanTier(t *testing.T) {
	t.Parallel()
	judge := func(name string) (*snp.Report, vector) {
		v := snpVector(t, name)
		r, err := snp.Verify(v.report, v.leaf, amdRoots(t), v.At)
		if err != nil {
			t.Fatal(err)
		}
		return r, v
	}
	turin, _ := judge("snp-turin-v5")
	wantCodes(t, turin.Meets(floor.Strict), nil)
	milan, _ := judge("snp-milan-v3")
	wantCodes(t, milan.Meets(floor.Default), nil)
	wantCodes(t, milan.Meets(floor.Strict), codes("tcb", "policy")) // Milan, SMT
	chip := milan.ChipID()
	near := chip
	near[63] ^= 1
	for name, tt := range map[string]struct {
		trust snp.Trust
		want  []refusal.Code
	}{
		"nobody":             {snp.Trust{}, codes("tcb", "policy")},
		"this chip":          {snp.Trust{Chips: [][64]byte{near, chip}}, nil},
		"another chip":       {snp.Trust{Chips: [][64]byte{near}}, codes("tcb", "policy")},
		"a chip of zeros":    {snp.Trust{Chips: [][64]byte{{}}}, codes("tcb", "policy")},
		"any provider":       {snp.Trust{Providers: []string{""}}, codes("tcb", "policy")},
		"provider of others": {snp.Trust{Providers: []string{"CN=cc-us-east-2.amazonaws.com"}}, codes("tcb", "policy")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantCodes(t, milan.Judge(floor.Strict, snp.Terms{Trust: tt.trust}), tt.want)
			wantCodes(t, milan.Judge(floor.Default, snp.Terms{Trust: tt.trust}), nil)
		})
	}
	aws, _ := judge("snp-milan-v3-vlek-aws")
	wantCodes(t, aws.Meets(floor.Default), codes("tcb"))
	wantCodes(t, aws.Meets(floor.Strict), codes("tcb", "tcb", "policy", "policy")) // reported, Milan, SMT, VMPL 1
	provider := snp.Terms{Trust: snp.Trust{Providers: []string{"CN=cc-us-east-2.amazonaws.com"}}}
	wantCodes(t, aws.Judge(floor.Strict, provider), codes("tcb", "policy"))
	nearly := snp.Terms{Trust: snp.Trust{Providers: []string{"CN=cc-us-east-2.amazonaws.co", "cn=cc-us-east-2.amazonaws.com"}}}
	wantCodes(t, aws.Judge(floor.Strict, nearly), codes("tcb", "tcb", "policy", "policy"))
	masked := snp.Terms{Trust: snp.Trust{Chips: [][64]byte{{}}}}
	wantCodes(t, aws.Judge(floor.Strict, masked), codes("tcb", "tcb", "policy", "policy"))
}

func TestAtVMPL(t *testing.T) {
	t.Parallel()
	b := snptest.New("Turin", "VCEK")
	b.Report[0x30] = 2
	r, err := b.Verify(t)
	if err != nil {
		t.Fatal(err)
	}
	wantCodes(t, r.AtVMPL(0, 2), nil)
	wantCodes(t, r.AtVMPL(0, 1), codes("policy"))
	wantCodes(t, r.AtVMPL(), codes("policy"))
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
	if !new(snp.Report).EndorsementExpires().IsZero() {
		t.Error("an unverified report names an endorsement")
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
