// SPDX-License-Identifier: Apache-2.0

package measure_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/kettle/attest/image/measure"
	"github.com/kettle/attest/image/measure/ovmf"
)

// The firmware of Debian that scripts/fetch-ovmf puts into the cache.
const (
	fileAMDSEV   = "OVMF.amdsev.fd"
	fileTDVF     = "OVMF.inteltdx.ms.fd"
	digestAMDSEV = "3e4fd0b3fe3b2dbe481c3d9e99418a034174f26cbe1f55aa212b0f18c12d2d6f"
	digestTDVF   = "a265075b4147a096109e501e76196df1ec8a18659c26f7401492c597ec88f312"
)

// debian reads one of them. KETTLE_OVMF names their folder; KETTLE_REQUIRE_OVMF=1 makes their absence a failure.
func debian(t testing.TB, name, digest string) *ovmf.Firmware {
	t.Helper()
	dir := os.Getenv("KETTLE_OVMF")
	if dir == "" {
		cache := os.Getenv("KETTLE_CACHE")
		if user, err := os.UserCacheDir(); cache == "" && err == nil {
			cache = filepath.Join(user, "kettle")
		}
		dir = filepath.Join(cache, "ovmf")
	}
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		if os.Getenv("KETTLE_REQUIRE_OVMF") == "1" {
			t.Fatalf("no firmware: %v", err)
		}
		t.Skipf("no firmware, run scripts/fetch-ovmf or set KETTLE_OVMF: %v", err)
	}
	if got := sha256.Sum256(b); hex.EncodeToString(got[:]) != digest {
		t.Fatalf("%s has digest %x, want %s", name, got, digest)
	}
	return parsed(t, b)
}

func parsed(t testing.TB, b []byte) *ovmf.Firmware {
	t.Helper()
	f, err := ovmf.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func snpFirmware(t testing.TB, f *ovmf.Firmware) measure.SNPFirmware {
	t.Helper()
	s, err := measure.NewSNPFirmware(f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func cpu(t testing.TB, name string) measure.CPU {
	t.Helper()
	c, err := measure.ParseCPU(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantDigest(t testing.TB, got measure.Digest, err error, want string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if hex.EncodeToString(got[:]) != want {
		t.Errorf("want %s, got %x", want, got)
	}
}
