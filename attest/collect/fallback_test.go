// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"errors"
	"testing"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	sevabi "github.com/google/go-sev-guest/client/linuxabi"
	tdxabi "github.com/google/go-tdx-guest/client/linuxabi"
	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/collect/tsm"
	"github.com/kettle/attest/attest/snp/snptest"
	"github.com/kettle/attest/attest/tdx/tdxtest"
)

// device is a vendor's device that signs with a synthetic chip.
type guestDevice struct {
	out    func([64]byte) []byte
	closed bool
}

func (g *guestDevice) Close() error { g.closed = true; return nil }

func (g *guestDevice) Ioctl(command uintptr, request any) (uintptr, error) {
	switch r := request.(type) {
	case *sevabi.SnpUserGuestRequest:
		if command != sevabi.IocSnpGetExtendedReport {
			return 0, unix.ENOTTY
		}
		answer := r.RespData.(*sevabi.SnpReportRespABI)
		answer.ReportSize = 1184
		copy(answer.Data[:], g.out(r.ReqData.(*sevabi.SnpExtendedReportReq).Data.ReportData))
	case *tdxabi.TdxReportReq:
		copy(r.TdReport[128:], r.ReportData[:])
	case *tdxabi.TdxQuoteReq:
		h := r.Buffer.(*tdxabi.TdxQuoteHdr)
		h.OutLen = uint32(copy(h.Data[:], g.out([64]byte(h.Data[128:]))))
	}
	return 0, nil
}

// The older devices are asked where there is no configfs-tsm, and only there.
func TestFallBack(t *testing.T) {
	t.Parallel()
	m, p := snptest.New("Milan", "VCEK"), tdxtest.New(tdxtest.Config{})
	for platform, via := range map[string]string{PlatformSNP: "/dev/sev-guest", PlatformTDX: "/dev/tdx_guest"} {
		b := newBench(t)
		signs := b.snp(t, m).out
		b.kds(t, m)
		if platform == PlatformTDX {
			signs = b.tdx(t, p).out
		}
		device := &guestDevice{out: signs}
		var opened string
		b.guest = func(_ tsm.Provider, path string) (tsm.Guest, error) { opened = path; return device, nil }
		configfs := b.tsm
		b.tsm = newBench(t).tsm
		d, err := b.config.open(t.Context(), platform, b.machine)
		if err != nil {
			t.Fatalf("%s: %v", platform, err)
		}
		if q, err := d.Quote(t.Context(), question); err != nil || q.Via != via || opened != b.path(via) {
			t.Errorf("%s: via %q, opened %q: %v", platform, q.Via, opened, err)
		}
		if err := d.Close(); err != nil || !device.closed {
			t.Errorf("%s: not closed: %v", platform, err)
		}
		if _, err := d.Quote(t.Context(), question); err == nil {
			t.Error("a closed device answered")
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		opened, b.tsm = "", configfs
		b.opened(t, platform)
		if opened != "" {
			t.Errorf("%s: the older device was opened", platform)
		}
	}
}

// TestAttackBrokenInterfaceIsNotAnOlderOne: whoever makes configfs-tsm fail does not get to choose the interface, and
// whoever makes a platform fail does not make the machine one without it.
func TestAttackBrokenInterfaceIsNotAnOlderOne(t *testing.T) {
	t.Parallel()
	for _, platform := range []string{PlatformSNP, PlatformTDX} {
		b := newBench(t)
		b.tsm = func(tsm.Provider) (configfsi.Client, error) { return nil, broken() }
		b.guest = func(tsm.Provider, string) (tsm.Guest, error) {
			t.Error("the older device was opened")
			return nil, broken()
		}
		if _, err := b.open(t, platform); !errors.Is(err, ErrBroken) || errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", platform, err)
		}
		b = newBench(t)
		b.guest = func(tsm.Provider, string) (tsm.Guest, error) { return nil, broken() }
		if _, err := b.open(t, platform); !errors.Is(err, ErrBroken) || errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", platform, err)
		}
		b = newBench(t) // of the other maker
		b.snp(t, snptest.New("Milan", "VCEK"))
		if platform == PlatformSNP {
			b.tdx(t, tdxtest.New(tdxtest.Config{}))
		}
		var u *UnsupportedError
		if _, err := b.open(t, platform); !errors.As(err, &u) || errors.Is(err, ErrBroken) || u.Platform != platform {
			t.Errorf("%s: %v", platform, err)
		}
	}
}
