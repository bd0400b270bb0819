// SPDX-License-Identifier: Apache-2.0

package tcg_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/eventlog/tcg"
	"github.com/kettle/attest/attest/refusal"
)

func TestMatch(t *testing.T) {
	t.Parallel()
	k := machine()
	l := parse(t, tcg.ParseTPM, k.bytes())
	for _, alg := range []tcg.Algorithm{tcg.SHA256, tcg.SHA384} {
		a := match(t, l, alg, k.quoted(alg))
		if len(a.Events()) != len(k.ends)-1 {
			t.Errorf("%d events", len(a.Events()))
		}
		for _, e := range a.Events() {
			if e.Proof != tcg.DigestOnly && e.Content == nil || e.Proof == tcg.DigestOnly && e.Content != nil || !e.Extends {
				t.Errorf("event %+v", e)
			}
		}
	}
	some := match(t, l, tcg.SHA256, map[int][]byte{7: k.quoted(tcg.SHA256)[7], 11: make([]byte, 32)})
	if got := some.Covered(); !slices.Equal(got, []int{7, 11}) {
		t.Errorf("covered %v", got)
	}
	for _, e := range some.Events() {
		if e.Register != 7 {
			t.Errorf("an event of a register that was not compared: %+v", e)
		}
	}
}

func TestMatchRefuses(t *testing.T) {
	t.Parallel()
	k := machine()
	good := k.quoted(tcg.SHA256)
	l := parse(t, tcg.ParseTPM, k.bytes())
	with := func(r int, v []byte) map[int][]byte {
		out := k.quoted(tcg.SHA256)
		out[r] = v
		return out
	}
	ones := bytes.Repeat([]byte{0xff}, 32)
	for name, c := range map[string]struct {
		alg       tcg.Algorithm
		registers map[int][]byte
		code      refusal.Code
	}{
		"no registers":           {tcg.SHA256, nil, refusal.Missing},
		"empty registers":        {tcg.SHA256, map[int][]byte{}, refusal.Missing},
		"a bank that is none":    {tcg.SHA512, good, refusal.Missing},
		"SHA-1":                  {tcg.SHA1, k.quoted(tcg.SHA1), refusal.Missing},
		"no algorithm":           {0, good, refusal.Missing},
		"values of another bank": {tcg.SHA256, k.quoted(tcg.SHA384), refusal.Malformed},
		"nil":                    {tcg.SHA256, with(0, nil), refusal.Malformed},
		"prefix":                 {tcg.SHA256, with(0, good[0][:31]), refusal.Malformed},
		"longer":                 {tcg.SHA256, with(0, append(bytes.Clone(good[0]), 0)), refusal.Malformed},
		"register 24":            {tcg.SHA256, with(24, make([]byte, 32)), refusal.Malformed},
		"register -1":            {tcg.SHA256, with(-1, make([]byte, 32)), refusal.Malformed},
		"zeros":                  {tcg.SHA256, with(7, make([]byte, 32)), refusal.EventLogMismatch},
		"swapped":                {tcg.SHA256, with(7, good[0]), refusal.EventLogMismatch},
		"extended later":         {tcg.SHA256, with(9, digest(tcg.SHA256, append(bytes.Clone(good[9]), good[0]...))), refusal.EventLogMismatch},
		"not in the log":         {tcg.SHA256, with(10, ones), refusal.EventLogMismatch},
		"ones where zeros begin": {tcg.SHA256, with(16, ones), refusal.EventLogMismatch},
		"zeros where ones begin": {tcg.SHA256, with(17, make([]byte, 32)), refusal.EventLogMismatch},
		"only others":            {tcg.SHA256, map[int][]byte{11: make([]byte, 32), 18: ones}, refusal.EventLogMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := l.Match(c.alg, c.registers)
			refused(t, err, c.code)
			if a != nil {
				t.Error("an account besides the refusal")
			}
		})
	}
	for r := 16; r < 24; r++ {
		v := make([]byte, 32)
		if r >= 17 && r <= 22 {
			v = ones
		}
		match(t, l, tcg.SHA256, with(r, v))
	}
}

// TestMatchNamesEveryRegister demands each register that differs, the lowest first.
func TestMatchNamesEveryRegister(t *testing.T) {
	t.Parallel()
	k := machine()
	registers := k.quoted(tcg.SHA256)
	registers[8], registers[2], registers[13] = registers[2], registers[8], registers[0]
	_, err := parse(t, tcg.ParseTPM, k.bytes()).Match(tcg.SHA256, registers)
	refused(t, err, refusal.EventLogMismatch)
	var names []string
	for _, r := range refusal.All(err) {
		names = append(names, strings.Join(strings.Fields(r.Want)[:2], " "))
	}
	if got := strings.Join(names, ", "); got != "PCR 2, PCR 8, PCR 13" {
		t.Errorf("named %s in %v", got, err)
	}
	// A quote from before the machine had started.
	early := k.quoted(tcg.SHA256)
	early[4] = digest(tcg.SHA256, append(make([]byte, 32), digest(tcg.SHA256, noError)...))
	_, earlyErr := parse(t, tcg.ParseTPM, k.bytes()).Match(tcg.SHA256, early)
	refused(t, earlyErr, refusal.EventLogMismatch)
	if !strings.Contains(earlyErr.Error(), "the quoted value is the one before event 18") {
		t.Errorf("where log and quote part: %v", earlyErr)
	}
	if all := refusal.All(err); all[2].Got != "no event of it in the log" {
		t.Errorf("a register without events: %v", all[2])
	}
}

// TestDynamicLaunch extends a PCR that a dynamic launch set to zeros first.
func TestDynamicLaunch(t *testing.T) {
	t.Parallel()
	k := newTPM().same(17, tcg.EventTag, []byte("launch"))
	match(t, parse(t, tcg.ParseTPM, k.bytes()), tcg.SHA256, k.quoted(tcg.SHA256))
}

func TestErrorSeparator(t *testing.T) {
	t.Parallel()
	wrong := []byte{1, 0, 0, 0}
	for name, data := range map[string][]byte{"its value": wrong, "a description": []byte("no TPM2_Hash"), "a lie": noError} {
		k := newTPM().same(0, tcg.Separator, noError).event(4, tcg.Separator, wrong, data)
		l := parse(t, tcg.ParseTPM, k.bytes())
		_, err := l.Match(tcg.SHA256, k.quoted(tcg.SHA256))
		refused(t, err, refusal.Measurement)
		if err != nil && !strings.Contains(err.Error(), "PCR 4") {
			t.Errorf("%s: %v", name, err)
		}
		// Of a register that is not compared nothing is known, the error neither.
		match(t, l, tcg.SHA256, map[int][]byte{0: k.quoted(tcg.SHA256)[0]})
	}
	// The same four bytes as a variable's value are no error: BootOrder 1, 0.
	k := newTPM().event(1, tcg.VariableBoot, wrong, variable(global, "BootOrder", wrong))
	match(t, parse(t, tcg.ParseTPM, k.bytes()), tcg.SHA256, k.quoted(tcg.SHA256))
}

// TestAccountIsItsOwn changes what an account gives out.
func TestAccountIsItsOwn(t *testing.T) {
	t.Parallel()
	k := machine()
	a := match(t, parse(t, tcg.ParseTPM, k.bytes()), tcg.SHA256, k.quoted(tcg.SHA256))
	a.Events()[0].Digest[0] ^= 1
	a.Events()[0].Content[0] ^= 1
	a.Covered()[0] = 23
	if e := a.Events()[0]; !bytes.Equal(e.Digest, digest(tcg.SHA256, e.Content)) || a.Covered()[0] != 0 {
		t.Error("an account changed from outside")
	}
}
