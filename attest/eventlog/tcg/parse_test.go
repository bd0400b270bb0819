// SPDX-License-Identifier: Apache-2.0

package tcg_test

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/eventlog/tcg"
	"github.com/kettle/attest/attest/refusal"
)

func TestParseTPM(t *testing.T) {
	t.Parallel()
	k := machine()
	l := parse(t, tcg.ParseTPM, k.bytes())
	if l.Kind() != tcg.TPM || !slices.Equal(l.Algorithms(), k.algs) {
		t.Errorf("a %s log with %v", l.Kind(), l.Algorithms())
	}
	if got := l.Registers(); !slices.Equal(got, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}) {
		t.Errorf("registers %v", got)
	}
	for _, a := range []tcg.Algorithm{tcg.SHA256, tcg.SHA384} {
		got, err := l.Replay(a)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, k.quoted(a)) {
			t.Errorf("%s: want %x, got %x", a, k.quoted(a), got)
		}
	}
	events := l.Events(tcg.SHA256)
	if len(events) != len(k.ends) || events[0].Number != 1 || events[0].Type != tcg.NoAction || events[0].Extends {
		t.Errorf("%d events, the first %+v", len(events), events[0])
	}
	if got := events[1]; !bytes.Equal(got.Digest, digest(tcg.SHA256, append(utf16le("firmware 1"), 0, 0))) || !got.Extends {
		t.Errorf("the second %+v", got)
	}
	if got := l.Events(tcg.SHA512)[1].Digest; got != nil {
		t.Errorf("a digest of a bank that is none: %x", got)
	}
}

func TestParseCCFill(t *testing.T) {
	t.Parallel()
	k := newCC().firmware(0, 0, 1)
	b := k.bytes()
	for name, fill := range map[string][]byte{
		"none": nil, "one": {0xff}, "eleven": bytes.Repeat([]byte{0xff}, 11), "ones": bytes.Repeat([]byte{0xff}, 5000),
		"zeros": make([]byte, 5000), "one zero": {0},
	} {
		t.Run(name, func(t *testing.T) {
			l := parse(t, tcg.ParseCC, append(bytes.Clone(b), fill...))
			match(t, l, tcg.SHA384, k.quoted(tcg.SHA384))
		})
	}
	for name, fill := range map[string][]byte{
		"mixed":               append(bytes.Repeat([]byte{0xff}, 100), make([]byte, 100)...),
		"an event after fill": append(bytes.Repeat([]byte{0xff}, 100), k.events...),
		"a byte after zeros":  append(make([]byte, 100), 1),
		"another fill":        bytes.Repeat([]byte{0xaa}, 100),
		"short other fill":    {0xff, 0},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tcg.ParseCC(append(bytes.Clone(b), fill...))
			refused(t, err, refusal.Malformed)
		})
	}
	for _, fill := range [][]byte{{0}, {0xff}, make([]byte, 50), bytes.Repeat([]byte{0xff}, 50)} {
		_, err := tcg.ParseTPM(append(machine().bytes(), fill...))
		refused(t, err, refusal.Malformed)
	}
}

// TestHeader changes one thing of the Spec ID event at a time.
func TestHeader(t *testing.T) {
	t.Parallel()
	k := machine()
	good := spec(k.algs, "")
	set := func(at int, v ...byte) []byte {
		return append(append(bytes.Clone(good[:at]), v...), good[at+len(v):]...)
	}
	two := []tcg.Algorithm{tcg.SHA256, tcg.SHA256}
	for name, body := range map[string][]byte{
		"nothing":               {},
		"short":                 good[:20],
		"signature":             set(0, 's'),
		"older":                 set(14, '2'),
		"no NUL":                set(15, ' '),
		"class":                 set(16, 2),
		"major version":         set(21, 1),
		"width zero":            set(23, 0),
		"width three":           set(23, 3),
		"no algorithms":         set(24, 0),
		"too many":              set(24, 9),
		"very many":             set(24, 0xff, 0xff, 0xff, 0xff),
		"one more than listed":  set(24, 4),
		"one less than listed":  set(24, 2),
		"unknown algorithm":     set(28, 0xff),
		"size of SHA-1":         set(30, 19),
		"size zero":             set(30, 0),
		"large size":            set(30, 0xff, 0xff),
		"twice":                 spec(two, ""),
		"only SHA-1":            spec([]tcg.Algorithm{tcg.SHA1}, ""),
		"only SM3":              spec([]tcg.Algorithm{tcg.SM3}, ""),
		"vendor too long":       set(40, 1),
		"vendor too short":      append(bytes.Clone(good), 1),
		"no vendor information": good[:40],
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tcg.ParseTPM(append(oldEvent(0, tcg.NoAction, body), k.events...))
			refused(t, err, refusal.Malformed)
			if want := refusal.All(err)[0].Want; !strings.HasPrefix(want, "event 0: ") {
				t.Errorf("another event is blamed: want %s", want)
			}
		})
	}
	t.Run("vendor information", func(t *testing.T) {
		parse(t, tcg.ParseTPM, append(oldEvent(0, tcg.NoAction, spec(k.algs, "vendor")), k.events...))
	})
}

func TestFirstEvent(t *testing.T) {
	t.Parallel()
	k := machine()
	good := k.bytes()
	set := func(at int, v byte) []byte { b := bytes.Clone(good); b[at] = v; return b }
	for name, c := range map[string]struct {
		b    []byte
		code refusal.Code
	}{
		"nothing":     {nil, refusal.Missing},
		"too long":    {make([]byte, tcg.MaxSize+1), refusal.Malformed},
		"one byte":    {good[:1], refusal.Malformed},
		"register":    {set(0, 1), refusal.Malformed},
		"legacy":      {append(oldEvent(0, tcg.SCRTMVersion, []byte("v1")), oldEvent(0, tcg.Separator, noError)...), refusal.Malformed},
		"digest":      {set(27, 1), refusal.Malformed},
		"length":      {set(29, 0xff), refusal.Malformed},
		"only header": {good[:len(good)-len(k.events)], refusal.Missing},
		"no actions":  {newTPM().startup(0).bytes(), refusal.Missing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := tcg.ParseTPM(c.b)
			refused(t, err, c.code)
		})
	}
	_, err := tcg.ParseCC(append(oldEvent(2, tcg.NoAction, spec([]tcg.Algorithm{tcg.SHA384}, "")), newCC().firmware(0).events...))
	refused(t, err, refusal.Malformed)
}

// TestTruncated cuts a log at every byte. Cut between two events it is another log, anywhere else it is none.
func TestTruncated(t *testing.T) {
	t.Parallel()
	k := machine()
	b := k.bytes()
	head := len(b) - len(k.events)
	for n := range b {
		l, err := tcg.ParseTPM(b[:n])
		if slices.Contains(k.ends, n-head) {
			if n-head > k.ends[0] && err != nil {
				t.Fatalf("cut at %d: %v", n, err)
			}
			if l != nil {
				_, err = l.Match(tcg.SHA256, k.quoted(tcg.SHA256))
				refused(t, err, refusal.EventLogMismatch)
			}
			continue
		}
		if err == nil {
			t.Fatalf("accepted when cut at %d", n)
		}
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	one := func() *book { return newTPM().same(7, tcg.Separator, noError) }
	set := func(at int, v ...byte) []byte {
		b := one().bytes()
		begin := len(b) - len(one().events)
		copy(b[begin+at:], v)
		return b
	}
	const sha256At, sha384At, sizeAt = 12 + 22, 12 + 22 + 34, 12 + 22 + 34 + 50
	for name, b := range map[string][]byte{
		"register 24":            set(0, 24),
		"register of all ones":   set(0, 0xff, 0xff, 0xff, 0xff),
		"no digests":             set(8, 0),
		"one digest less":        set(8, 2),
		"one digest more":        set(8, 4),
		"very many digests":      set(8, 0xff, 0xff, 0xff, 0xff),
		"an algorithm twice":     set(sha256At, 0x04),
		"undeclared algorithm":   set(sha384At, 0x0d),
		"unknown algorithm":      set(sha384At, 0xee, 0xee),
		"data one byte too long": set(sizeAt, 5),
		"very long data":         set(sizeAt, 0xff, 0xff, 0xff, 0xff),
		"data too short":         set(sizeAt, 3),
		"second Spec ID":         append(one().bytes(), newTPM().event(0, tcg.NoAction, nil, spec(one().algs, "")).events...),
		"older Spec ID":          append(one().bytes(), newTPM().event(0, tcg.NoAction, nil, []byte("Spec ID Event00\x00")).events...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := tcg.ParseTPM(b)
			refused(t, err, refusal.Malformed)
		})
	}
	// Events of the right form and length, with other digests than declared.
	pair := &book{algs: []tcg.Algorithm{tcg.SHA256, tcg.SM3}, registers: map[tcg.Algorithm]map[int][]byte{}}
	twice := pair.same(7, tcg.Separator, noError).bytes()
	copy(twice[len(twice)-8-34:], "\x0b\x00")
	single := &book{algs: []tcg.Algorithm{tcg.SHA256}, registers: map[tcg.Algorithm]map[int][]byte{}}
	fewer := append(oldEvent(0, tcg.NoAction, spec(pair.algs, "")), single.same(7, tcg.Separator, noError).events...)
	more := append(oldEvent(0, tcg.NoAction, spec(single.algs, "")), pair.events...)
	for name, b := range map[string][]byte{"one algorithm twice": twice, "fewer": fewer, "more": more} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := tcg.ParseTPM(b)
			refused(t, err, refusal.Malformed)
		})
	}
	match(t, parse(t, tcg.ParseTPM, pair.bytes()), tcg.SHA256, pair.quoted(tcg.SHA256))
	t.Run("digests in another order", func(t *testing.T) {
		t.Parallel()
		b := bytes.Clone(one().bytes())
		begin := len(b) - len(one().events)
		sha1, rest := bytes.Clone(b[begin+12:begin+sha256At]), bytes.Clone(b[begin+sha256At:begin+sizeAt])
		copy(b[begin+12:], append(rest, sha1...))
		match(t, parse(t, tcg.ParseTPM, b), tcg.SHA256, one().quoted(tcg.SHA256))
	})
}

func TestRegistersOfRTMR(t *testing.T) {
	t.Parallel()
	for register, good := range map[int]bool{-1: false, 0: true, 3: true, 4: false} {
		_, err := tcg.ParseCC(newCC().same(register, tcg.Separator, noError).bytes())
		if good && err != nil {
			t.Errorf("register %d: %v", register, err)
		}
		if !good {
			refused(t, err, refusal.Malformed)
		}
	}
	// The MRTD can be named by an event that extends nothing.
	l := parse(t, tcg.ParseCC, newCC().event(-1, tcg.NoAction, nil, []byte("x")).same(0, tcg.Separator, noError).bytes())
	if got := l.Events(tcg.SHA384)[0].Register; got != -1 {
		t.Errorf("register %d", got)
	}
	if got := l.Registers(); !slices.Equal(got, []int{0}) {
		t.Errorf("registers %v", got)
	}
}

func TestStartupLocality(t *testing.T) {
	t.Parallel()
	for _, locality := range []byte{0, 3, 4} {
		k := newTPM().startup(locality).same(0, tcg.Separator, noError)
		match(t, parse(t, tcg.ParseTPM, k.bytes()), tcg.SHA256, k.quoted(tcg.SHA256))
	}
	name := "StartupLocality\x00"
	for what, k := range map[string]*book{
		"another number":    newTPM().startup(1).same(0, tcg.Separator, noError),
		"two":               newTPM().startup(3).startup(3).same(0, tcg.Separator, noError),
		"late":              newTPM().same(0, tcg.Separator, noError).startup(3),
		"too short":         newTPM().event(0, tcg.NoAction, nil, []byte(name)).same(0, tcg.Separator, noError),
		"too long":          newTPM().event(0, tcg.NoAction, nil, []byte(name+"\x03\x00")).same(0, tcg.Separator, noError),
		"of another PCR":    newTPM().event(1, tcg.NoAction, nil, []byte(name+"\x03")).same(0, tcg.Separator, noError),
		"after a short one": newTPM().startup(0).startup(4).same(0, tcg.Separator, noError),
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			_, err := tcg.ParseTPM(k.bytes())
			refused(t, err, refusal.Malformed)
		})
	}
	// Not the locality that the machine started with.
	k := newTPM().startup(3).same(0, tcg.Separator, noError)
	other := newTPM().startup(4).same(0, tcg.Separator, noError)
	_, err := parse(t, tcg.ParseTPM, other.bytes()).Match(tcg.SHA256, k.quoted(tcg.SHA256))
	refused(t, err, refusal.EventLogMismatch)
}

func TestTooManyEvents(t *testing.T) {
	t.Parallel()
	k := &book{algs: []tcg.Algorithm{tcg.SHA256}, registers: map[tcg.Algorithm]map[int][]byte{}}
	one := k.same(0, tcg.IPL, nil).events
	head := oldEvent(0, tcg.NoAction, spec(k.algs, ""))
	parse(t, tcg.ParseTPM, append(bytes.Clone(head), bytes.Repeat(one, tcg.MaxEvents)...))
	_, err := tcg.ParseTPM(append(head, bytes.Repeat(one, tcg.MaxEvents+1)...))
	refused(t, err, refusal.Malformed)
}

func TestNames(t *testing.T) {
	t.Parallel()
	for typ, want := range map[tcg.Type]string{
		tcg.PrebootCert: "EV_PREBOOT_CERT", 2: "event type 0x00000002", tcg.Separator: "EV_SEPARATOR", tcg.IPL: "EV_IPL",
		tcg.PostCode2: "EV_POST_CODE2", 0x14: "event type 0x00000014", tcg.VariableAuthority: "EV_EFI_VARIABLE_AUTHORITY",
		tcg.DstackRuntime: "dstack runtime event", 0xffffffff: "event type 0xffffffff", tcg.HCRTMEvent: "EV_EFI_HCRTM_EVENT",
	} {
		if got := typ.String(); got != want {
			t.Errorf("%#x: want %s, got %s", uint32(typ), want, got)
		}
	}
	seen := map[string]bool{}
	for _, first := range []tcg.Type{0, 0x80000000} {
		for typ := first; typ < first+0x100; typ++ {
			if name := typ.String(); strings.HasPrefix(name, "EV_") {
				if seen[name] {
					t.Errorf("%s twice", name)
				}
				seen[name] = true
			}
		}
	}
	if len(seen) != 19+19 {
		t.Errorf("%d names", len(seen))
	}
	for value, want := range map[fmt.Stringer]string{
		tcg.SecureBootUnknown: "unknown", tcg.SecureBootAbsent: "absent", tcg.SecureBootOff: "off", tcg.SecureBootOn: "on",
		tcg.SecureBoot(9): "unknown", tcg.TPM: "tpm", tcg.CC: "ccel", tcg.Dstack: "dstack", tcg.Kind(0): "unknown",
		tcg.DigestOnly: "digest only", tcg.RuntimeEvent: "runtime event", tcg.Proof(99): "unknown",
	} {
		if got := value.String(); got != want {
			t.Errorf("want %s, got %s", want, got)
		}
	}
	for a, want := range map[tcg.Algorithm]string{tcg.SHA1: "SHA1", tcg.SHA3x384: "SHA3_384", 7: "algorithm 0x0007"} {
		if got := a.String(); got != want {
			t.Errorf("want %s, got %s", want, got)
		}
	}
	if got := tcg.TPM.Register(7) + ", " + tcg.CC.Register(0) + ", " + tcg.Dstack.Register(3); got != "PCR 7, RTMR 0, RTMR 3" {
		t.Error(got)
	}
}
