// SPDX-License-Identifier: Apache-2.0

package tcg_test

import (
	"bytes"
	"crypto"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	library "github.com/google/go-eventlog/tcg"

	"github.com/kettle/attest/attest/eventlog/tcg"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/vectors"
)

// sound demands of any log what the package promises of every log, and gives its registers.
func sound(t *testing.T, l *tcg.Log, err error, a tcg.Algorithm) map[int][]byte {
	t.Helper()
	if err != nil {
		if l != nil || len(refusal.All(err)) == 0 {
			t.Fatalf("a log besides the error, or no refusal: %v", err)
		}
		return nil
	}
	values, err := l.Replay(a)
	if err != nil {
		return nil
	}
	account, err := l.Match(a, values)
	if err != nil {
		if all := refusal.All(err); len(all) != 1 || all[0].Code != refusal.Measurement {
			t.Fatalf("a log does not match its own replay: %v", err)
		}
		return values
	}
	for _, e := range account.Events() {
		if e.Content != nil && e.Proof == tcg.DigestOnly || e.Content != nil && !bytes.Equal(digest(a, e.Content), e.Digest) {
			t.Fatalf("event %d shows what its digest does not cover", e.Number)
		}
	}
	for _, v := range account.Facts().Keys {
		_, _ = v.Signatures()
	}
	for r := range values {
		changed := flipRegister(values, r, 0, 1)
		if _, err := l.Match(a, changed); err == nil {
			t.Fatalf("another value of register %d matches", r)
		}
	}
	return values
}

// nearlyLocality is what the library takes for a StartupLocality although the NUL that ends its name is another byte.
var nearlyLocality = regexp.MustCompile(`StartupLocality[^\x00]`)

// agree demands that the library comes to the same registers.
func agree(t *testing.T, b []byte, values map[int][]byte, offset int, a tcg.Algorithm, padded bool) {
	t.Helper()
	if nearlyLocality.Match(b) {
		return
	}
	h := map[tcg.Algorithm]crypto.Hash{tcg.SHA256: crypto.SHA256, tcg.SHA384: crypto.SHA384}[a]
	_, err := library.ParseAndReplay(b, bank(values, offset, h), library.ParseOpts{AllowPadding: padded})
	if err != nil && strings.Contains(err.Error(), "replay") {
		t.Fatalf("the library has other registers: %v", err)
	}
}

// beginning gives the first events of a log, at most limit bytes: large seeds make a fuzzer slow, not clever.
func beginning(f *testing.F, read func([]byte) (*tcg.Log, error), b []byte, limit int) []byte {
	f.Helper()
	for n := min(limit, len(b)); n > 0; n-- {
		if _, err := read(b[:n]); err == nil {
			return b[:n]
		}
	}
	f.Fatalf("no events in the first %d bytes", limit)
	return nil
}

// few gives a log of dstack with some of its events.
func few(f *testing.F, b []byte) []byte {
	f.Helper()
	var report struct {
		Log string `json:"event_log"`
	}
	var events []json.RawMessage
	if err := json.Unmarshal(b, &report); err != nil {
		f.Fatal(err)
	}
	if err := json.Unmarshal([]byte(report.Log), &events); err != nil {
		f.Fatal(err)
	}
	out, err := json.Marshal([]json.RawMessage{events[2], events[7], events[8], events[len(events)-2]})
	if err != nil {
		f.Fatal(err)
	}
	return out
}

func FuzzTPM(f *testing.F) {
	f.Add(machine().bytes())
	f.Add(newTPM().startup(4).same(0, tcg.Separator, noError).bytes())
	for _, b := range machines() {
		f.Add(beginning(f, tcg.ParseTPM, b, 3000))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := tcg.ParseTPM(b)
		if values := sound(t, l, err, tcg.SHA256); values != nil {
			agree(t, b, values, 0, tcg.SHA256, false)
		}
	})
}

func FuzzCC(f *testing.F) {
	f.Add(newCC().firmware(0, 0, 1).bytes())
	f.Add(append(newCC().firmware(0, 0, 1).bytes(), 0xff, 0xff))
	ccel := beginning(f, tcg.ParseCC, realLog(f, "tdx15-gcp-cos-ccel").log, 3000)
	f.Add(append(bytes.Clone(ccel), bytes.Repeat([]byte{0xff}, 64)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := tcg.ParseCC(b)
		if values := sound(t, l, err, tcg.SHA384); values != nil {
			agree(t, b, values, 1, tcg.SHA384, true)
		}
	})
}

func FuzzDstack(f *testing.F) {
	one, _ := joined("app-id", []byte{1})
	f.Add([]byte("[" + one + "]"))
	f.Add([]byte(`[{"imr":3,"event_type":134217729,"event":"a","event_payload":"","version":2}]`))
	for _, name := range []string{"tdx15-rtmr3-events", "tdx15-direct-boot"} {
		f.Add(few(f, realLog(f, name).log))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := tcg.ParseDstack(b)
		sound(t, l, err, tcg.SHA384)
	})
}

func FuzzArea(f *testing.F) {
	f.Add(readVector(f, vectors.TEE(f), "tdx15-gcp-cos-ccel", "ccel_table.dat"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := tcg.ParseArea(b); err != nil {
			refused(t, err, refusal.Malformed)
		}
	})
}
