// SPDX-License-Identifier: Apache-2.0

package measure_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"testing"

	"github.com/kettle/attest/image/measure"
)

func ukiLaunch() measure.UKILaunch {
	return measure.UKILaunch{
		Firmware: sha256.Sum256([]byte("firmware")), Variables: sha256.Sum256([]byte("variables")), UKI: sha256.Sum256([]byte("uki")),
	}
}

// TestSimUKIGolden must never be edited: a change of the encoding is a v2.
func TestSimUKIGolden(t *testing.T) {
	t.Parallel()
	const want = "783eaaf79e539e0ab70b97ed81b8a5aecc2e1bf947581ddf88f994847a1ff6b3d5acf9ba4418a21feded00428073e11c"
	digest := measure.SimUKI(ukiLaunch())
	if got := hex.EncodeToString(digest[:]); got != want {
		t.Errorf("want %s, got %s", want, got)
	}
}

// TestSimUKIEncoding writes the documented bytes out by hand.
func TestSimUKIEncoding(t *testing.T) {
	t.Parallel()
	l := ukiLaunch()
	var b bytes.Buffer
	b.WriteString("\x00\x00\x00\x18kettle.sim.launch.uki/v1")
	b.WriteString("\x00\x00\x00\x08firmware\x00\x00\x00\x20")
	b.Write(l.Firmware[:])
	b.WriteString("\x00\x00\x00\x09variables\x00\x00\x00\x20")
	b.Write(l.Variables[:])
	b.WriteString("\x00\x00\x00\x03uki\x00\x00\x00\x20")
	b.Write(l.UKI[:])
	if want, got := sha512.Sum384(b.Bytes()), measure.SimUKI(l); got != want {
		t.Errorf("want %x, got %x", want, got)
	}
}

// TestAttackSimUKI: another part is another digest, and no direct boot has the digest of a unified kernel image.
func TestAttackSimUKI(t *testing.T) {
	t.Parallel()
	l := ukiLaunch()
	seen := map[[48]byte]string{
		measure.SimUKI(l): "the image",
		measure.Sim(measure.Launch{Firmware: l.Firmware, Kernel: l.Variables, Initrd: l.UKI}): "a direct boot of the same files",
		measure.Sim(measure.Launch{}): "a direct boot of nothing",
	}
	if len(seen) != 3 {
		t.Error("a direct boot has the digest of a unified kernel image")
	}
	for name, change := range map[string]func(*measure.UKILaunch){
		"firmware":      func(l *measure.UKILaunch) { l.Firmware[31] ^= 1 },
		"variables":     func(l *measure.UKILaunch) { l.Variables[0] ^= 1 },
		"uki":           func(l *measure.UKILaunch) { l.UKI[7] ^= 1 },
		"two exchanged": func(l *measure.UKILaunch) { l.UKI, l.Variables = l.Variables, l.UKI },
	} {
		other := ukiLaunch()
		change(&other)
		if same, ok := seen[measure.SimUKI(other)]; ok {
			t.Errorf("%s: the digest of %s", name, same)
		}
		seen[measure.SimUKI(other)] = name
	}
}
