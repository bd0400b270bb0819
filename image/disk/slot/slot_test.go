// SPDX-License-Identifier: Apache-2.0

package slot_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/image/disk/slot"
)

func encode(t testing.TB, bundle []byte) []byte {
	t.Helper()
	b, err := slot.Encode(bundle)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGolden must never be edited: disks out there have this format.
func TestGolden(t *testing.T) {
	t.Parallel()
	b := encode(t, []byte("{}\n"))
	if got := hex.EncodeToString(b[:20]); got != "4b4554544c45423100000000000000037b7d0a00" || len(b) != 4194304 {
		t.Errorf("got %s, %d bytes", got, len(b))
	}
	sum := sha256.Sum256(b)
	if got := hex.EncodeToString(sum[:8]); got != "05dc3dc49bb60915" {
		t.Errorf("the partition's digest begins with %s", got)
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, bundle := range map[string][]byte{
		"one line": []byte("{}\n"), "one byte": []byte("x"), "full": bytes.Repeat([]byte("y"), slot.Capacity),
	} {
		got, err := slot.Read(bytes.NewReader(encode(t, bundle)))
		if err != nil || !bytes.Equal(got, bundle) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	// A device may be larger than the partition has to be; nothing behind it is read.
	got, err := slot.Read(io.MultiReader(bytes.NewReader(encode(t, []byte("{}\n"))), iotest.ErrReader(errors.New("read too far"))))
	if err != nil || string(got) != "{}\n" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	if _, err := slot.Encode(make([]byte, slot.Capacity+1)); err == nil {
		t.Error("no error")
	}
}

func TestReadError(t *testing.T) {
	t.Parallel()
	broken := errors.New("the disk is broken")
	r := io.MultiReader(bytes.NewReader(encode(t, []byte("{}\n"))[:100]), iotest.ErrReader(broken))
	if _, err := slot.Read(r); !errors.Is(err, broken) || errors.Is(err, refusal.ErrNotVerified) {
		t.Errorf("got %v", err)
	}
}

// TestAttackBundlePartition gives the reader what a host may make of the partition. Each is refused with its code.
func TestAttackBundlePartition(t *testing.T) {
	t.Parallel()
	change := func(f func([]byte)) []byte {
		b := encode(t, []byte("{\"a\":1}\n"))
		f(b)
		return b
	}
	for name, test := range map[string]struct {
		partition []byte
		code      refusal.Code
		want      string
	}{
		"nothing":          {nil, refusal.Malformed, "16 bytes"},
		"half a header":    {encode(t, nil)[:15], refusal.Malformed, "16 bytes"},
		"zeros":            {make([]byte, slot.Size), refusal.Malformed, "magic"},
		"another version":  {change(func(b []byte) { b[7] = '2' }), refusal.Malformed, "magic"},
		"no bundle":        {encode(t, nil), refusal.Missing, "a bundle"},
		"huge":             {change(func(b []byte) { b[8] = 0xff }), refusal.Malformed, "at most"},
		"one too many":     {change(func(b []byte) { copy(b[12:], "\x00\x3f\xff\xf1") }), refusal.Malformed, "at most"},
		"little-endian":    {change(func(b []byte) { copy(b[8:], "\x08\x00\x00\x00\x00\x00\x00\x00") }), refusal.Malformed, "at most"},
		"cut off":          {encode(t, []byte("{}\n"))[:18], refusal.Malformed, "a partition of"},
		"a byte too short": {encode(t, []byte("{}\n"))[:slot.Size-1], refusal.Malformed, "a partition of"},
		"length shortened": {change(func(b []byte) { b[15]-- }), refusal.Malformed, "zeros"},
		"hidden bytes":     {change(func(b []byte) { b[slot.Size-1] = 1 }), refusal.Malformed, "zeros"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := slot.Read(bytes.NewReader(test.partition))
			var r *refusal.Refusal
			if !errors.As(err, &r) || r.Code != test.code || !strings.Contains(r.Want, test.want) || r.Next == "" || got != nil {
				t.Errorf("want %s with %q, got %v, %d bytes", test.code, test.want, err, len(got))
			}
		})
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	if err := slot.Check(bytes.NewReader(encode(t, nil))); err != nil {
		t.Error(err)
	}
	for name, b := range map[string][]byte{"nothing": nil, "zeros": make([]byte, slot.Size)} {
		if err := slot.Check(bytes.NewReader(b)); !errors.Is(err, refusal.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzRead: what is read is what would be written, or a refusal.
func FuzzRead(f *testing.F) {
	small := encode(f, []byte("{}\n"))
	f.Add(small[:64])
	f.Add(encode(f, nil)[:32])
	f.Add([]byte("KETTLEB1\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, head []byte) {
		// The rest of the partition is zeros.
		partition := io.MultiReader(bytes.NewReader(head), bytes.NewReader(make([]byte, max(0, slot.Size-len(head)))))
		bundle, err := slot.Read(partition)
		if err != nil {
			if !errors.Is(err, refusal.ErrNotVerified) || bundle != nil {
				t.Errorf("no refusal: %v", err)
			}
			return
		}
		if again := encode(t, bundle); !bytes.HasPrefix(again, head[:min(len(head), slot.Size)]) {
			t.Error("two partitions with the same bundle")
		}
	})
}
