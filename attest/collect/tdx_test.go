// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/collect/fetch"
	"github.com/kettle/attest/attest/collect/tsm"
	"github.com/kettle/attest/attest/tdx"
	"github.com/kettle/attest/attest/tdx/tdxtest"
)

func TestTDX(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{4, 5} {
		p := tdxtest.New(tdxtest.Config{})
		b := newBench(t)
		c := b.tdx(t, p)
		c.out = func(data [64]byte) []byte {
			q := tdxtest.NewQuote()
			q.Version, q.Body.ReportData = version, data
			if version == 5 {
				q.BodyType = 3
			}
			return p.Quote(q)
		}
		b.file(t, ccelTable, []byte("CCEL table"))
		b.file(t, ccelData, []byte("CCEL data"))
		b.file(t, tsm.RegisterDir+"/"+tsm.Register, bytes.Repeat([]byte{3}, 48))
		d := b.opened(t, PlatformTDX)
		q, err := d.Quote(t.Context(), question)
		if err != nil {
			t.Fatal(err)
		}
		roots, err := tdx.ParseRoots(p.PEM(tdxtest.Root))
		if err != nil {
			t.Fatal(err)
		}
		verified, err := tdx.Verify(q.Report, roots, p.Day())
		if err != nil || verified.ReportData() != question {
			t.Fatalf("version %d: %v", version, err)
		}
		if _, err := tdx.ParseCollateral(q.Collateral); err != nil {
			t.Error(err)
		}
		if q.Provider != ProviderTDX || string(q.CCEL) != "CCEL data" || string(q.CCELTable) != "CCEL table" || q.Register.Name != "rtmr3:sha384" ||
			!bytes.Equal(q.Register.Value, bytes.Repeat([]byte{3}, 48)) || len(q.Notes) != 0 || b.asked.Load() != 4 {
			t.Errorf("%d requests, %+v, %v", b.asked.Load(), q.Register, q.Notes)
		}
		// A file does not extend: the failure is seen.
		if err := d.Extend(t.Context(), [32]byte{1}); !errors.Is(err, ErrBroken) {
			t.Errorf("got %v", err)
		}
	}
}

func TestTDXOnAnOldKernel(t *testing.T) {
	t.Parallel()
	p := tdxtest.New(tdxtest.Config{})
	b := newBench(t)
	b.tdx(t, p)
	d := b.opened(t, PlatformTDX)
	q, err := d.Quote(t.Context(), question)
	if err != nil {
		t.Fatal(err)
	}
	if noted(q, "register") != "not available: kernel older than 6.16" || !strings.Contains(noted(q, "ccel"), "CCEL") || q.Register.Name != "" || q.CCELTable != nil {
		t.Errorf("%v", q.Notes)
	}
	if err := d.Extend(t.Context(), [32]byte{1}); !errors.Is(err, ErrUnsupported) || errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "kernel older than 6.16") {
		t.Errorf("got %v", err)
	}
	b.config.Offline = true
	if q, err = b.opened(t, PlatformTDX).Quote(t.Context(), question); err != nil || q.Collateral != nil || noted(q, "collateral") == "" {
		t.Errorf("%v, %v", err, q.Notes)
	}
}

func TestTDXWithoutServices(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.tdx(t, tdxtest.New(tdxtest.Config{}))
	b.handle("/tdx/certification/v4/qe/identity", nil)
	if _, err := b.open(t, PlatformTDX); !errors.Is(err, fetch.ErrUnavailable) || errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "PCCS") {
		t.Errorf("got %v", err)
	}
}

func TestRegisterDigest(t *testing.T) {
	t.Parallel()
	d := [32]byte{1}
	if RegisterDigest(d) != sha512.Sum384(d[:]) {
		t.Error("another digest")
	}
}
