// SPDX-License-Identifier: Apache-2.0

package tsm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sevclient "github.com/google/go-sev-guest/client"
	sevabi "github.com/google/go-sev-guest/client/linuxabi"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	tdxclient "github.com/google/go-tdx-guest/client"
	tdxabi "github.com/google/go-tdx-guest/client/linuxabi"
	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/collect/fault"
)

// sevDevice is /dev/sev-guest of a host with a certificate table.
type sevDevice struct {
	table  []byte
	status uint32
	size   uint32
	claims uint32 // length that the host announces instead of the true one
	faults []fail // before anything works
	late   []fail // once the table's length is known
	calls  int
}

type fail struct {
	errno unix.Errno
	code  uint64
}

func (d *sevDevice) Close() error { return nil }

func (d *sevDevice) Ioctl(command uintptr, request any) (uintptr, error) {
	d.calls++
	m, ok := request.(*sevabi.SnpUserGuestRequest)
	if !ok || command != sevabi.IocSnpGetExtendedReport && command != sevabi.IocSnpGetReport {
		return 0, unix.ENOTTY
	}
	if len(d.faults) > 0 {
		f := d.faults[0]
		d.faults = d.faults[1:]
		m.FwErr = f.code
		return 0, f.errno
	}
	ask, extended := m.ReqData.(*sevabi.SnpExtendedReportReq)
	if extended && len(ask.Certs) < len(d.table) {
		ask.CertsLength = uint32(len(d.table))
		if d.claims != 0 {
			ask.CertsLength = d.claims
		}
		m.FwErr = vmmInvalidLength
		return 0, unix.EIO
	}
	if extended && len(d.table) != 0 && len(d.late) > 0 {
		f := d.late[0]
		d.late = d.late[1:]
		m.FwErr = f.code
		return 0, f.errno
	}
	answer := m.RespData.(*sevabi.SnpReportRespABI)
	answer.Status, answer.ReportSize = d.status, d.size
	answer.Data[0] = 3
	if extended {
		copy(ask.Certs, d.table)
		copy(answer.Data[0x50:], ask.Data.ReportData[:])
		answer.Data[0x30] = byte(ask.Data.Vmpl)
	}
	return 0, nil
}

func noSleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func TestSEVGuest(t *testing.T) {
	t.Parallel()
	page := append([]byte("table"), make([]byte, 4091)...)
	for name, d := range map[string]*sevDevice{
		"with a table":     {table: page, size: 1184},
		"without":          {size: 1184},
		"busy once":        {table: page, size: 1184, faults: []fail{{unix.EIO, vmmBusy}, {unix.EAGAIN, 0}}},
		"busy in between":  {table: page, size: 1184, late: []fail{{unix.EBUSY, 0}}},
		"a table of zeros": {table: make([]byte, 4096), size: 1184},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := GetSEVGuest(t.Context(), d, noSleep, Request{Provider: SNP, ReportData: data, Level: level(2)})
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Out) != 1184 || [64]byte(r.Out[0x50:]) != data || r.Out[0x30] != 2 || *r.Level != 2 || r.Via != SEVGuest {
				t.Errorf("%+v", r)
			}
			if allZero(d.table) != (len(r.Aux) == 0) || len(r.Aux) != 0 && !bytes.Equal(r.Aux, d.table) {
				t.Errorf("a table of %d bytes", len(r.Aux))
			}
		})
	}
}

func TestSEVGuestFails(t *testing.T) {
	t.Parallel()
	page := make([]byte, 4096)
	for name, tt := range map[string]struct {
		d    *sevDevice
		says string
	}{
		"the firmware fails":       {&sevDevice{faults: []fail{{unix.EIO, 0x16}}}, "firmware error 0x16"},
		"the channel is closed":    {&sevDevice{faults: []fail{{unix.ENOTTY, 0}}}, "inappropriate ioctl"},
		"busy for ever":            {&sevDevice{faults: bytesOfBusy(100)}, "0x200000000"},
		"status":                   {&sevDevice{status: 0x16, size: 1184}, "status 0x16"},
		"a short report":           {&sevDevice{size: 1183}, "1183 bytes"},
		"a long report":            {&sevDevice{size: 4000}, "4000 bytes"},
		"a table of 2 GiB":         {&sevDevice{table: page, claims: 1 << 31, size: 1184}, "2147483648"},
		"a table that grew":        {&sevDevice{table: page, claims: 1, size: 1184}, "firmware error 0x100000000"},
		"fails with the table":     {&sevDevice{table: page, size: 1184, late: []fail{{unix.EIO, 7}}}, "firmware error 0x7"},
		"another program's answer": {&sevDevice{faults: []fail{{unix.EINTR, 0}}}, "interrupted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := GetSEVGuest(t.Context(), tt.d, noSleep, Request{Provider: SNP, ReportData: data})
			if !errors.Is(err, fault.ErrBroken) || errors.Is(err, fault.ErrUnsupported) || !strings.Contains(err.Error(), tt.says) || r.Out != nil {
				t.Errorf("got %v", err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := GetSEVGuest(ctx, &sevDevice{size: 1184}, noSleep, Request{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := GetSEVGuest(t.Context(), &sevDevice{size: 1184}, noSleep, Request{Service: &Service{}}); !errors.Is(err, fault.ErrUnsupported) {
		t.Error(err)
	}
}

func bytesOfBusy(n int) []fail {
	f := make([]fail, n)
	for i := range f {
		f[i] = fail{unix.EIO, vmmBusy}
	}
	return f
}

// oracleSEV makes the device one of go-sev-guest's.
type oracleSEV struct{ *sevDevice }

func (oracleSEV) Open(string) error        { return nil }
func (oracleSEV) Product() *spb.SevProduct { return nil }

// TestSEVGuestLikeTheLibrary holds the calls against go-sev-guest's client, and shows why that client is not used: a host
// that fails to tell its table's length becomes a host without certificates there.
func TestSEVGuestLikeTheLibrary(t *testing.T) {
	t.Parallel()
	page := append([]byte("table"), make([]byte, 4091)...)
	report, certs, err := sevclient.GetRawExtendedReport(oracleSEV{&sevDevice{table: page, size: 1184}}, data) //nolint:staticcheck // The call behind its newer names.
	if err != nil {
		t.Fatal(err)
	}
	r, err := GetSEVGuest(t.Context(), &sevDevice{table: page, size: 1184}, noSleep, Request{ReportData: data})
	if err != nil || !bytes.Equal(r.Out, report) || !bytes.Equal(r.Aux, certs) {
		t.Errorf("the library has another answer: %v", err)
	}
}

// tdDevice is /dev/tdx_guest.
type tdDevice struct {
	report error
	quote  []error
	status uint64
	length uint32
	result uintptr
}

func (d *tdDevice) Close() error      { return nil }
func (d *tdDevice) Open(string) error { return nil }

func (d *tdDevice) Ioctl(command uintptr, request any) (uintptr, error) {
	switch r := request.(type) {
	case *tdxabi.TdxReportReq:
		if command != tdxabi.IocTdxGetReport {
			return 0, unix.ENOTTY
		}
		copy(r.TdReport[128:], r.ReportData[:])
		return d.result, d.report
	case *tdxabi.TdxQuoteReq:
		if command != tdxabi.IocTdxGetQuote {
			return 0, unix.ENOTTY
		}
		if len(d.quote) > 0 {
			err := d.quote[0]
			d.quote = d.quote[1:]
			return 0, err
		}
		b := r.Buffer.(*tdxabi.TdxQuoteHdr)
		report := b.Data[:b.InLen]
		quote := append([]byte("quote over "), report[128:192]...)
		copy(b.Data[:], quote)
		b.Status, b.OutLen = d.status, uint32(len(quote))
		if d.length != 0 {
			b.OutLen = d.length
		}
		return 0, nil
	}
	return 0, unix.ENOTTY
}

func TestTDXGuest(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]*tdDevice{"at once": {}, "busy": {quote: []error{unix.EBUSY, unix.EBUSY}}} {
		r, err := GetTDXGuest(t.Context(), d, noSleep, Request{Provider: TDX, ReportData: data})
		if err != nil || !bytes.Equal(r.Out, append([]byte("quote over "), data[:]...)) || r.Via != TDXGuest || r.Level != nil {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	want, err := tdxclient.GetRawQuote(&tdDevice{}, data)
	if err != nil || !bytes.Equal(want, append([]byte("quote over "), data[:]...)) {
		t.Errorf("the library has another answer: %q, %v", want, err)
	}
}

func TestTDXGuestFails(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		d           *tdDevice
		unsupported bool
		says        string
	}{
		"no quotes in this kernel": {&tdDevice{quote: []error{unix.ENOTTY}}, true, "reports but no quotes"},
		"no report":                {&tdDevice{report: unix.EIO}, false, "input/output"},
		"report refused":           {&tdDevice{result: 8}, false, "result 8"},
		"in flight for ever":       {&tdDevice{status: tdxabi.GetQuoteInFlight}, false, "still at work"},
		"the host refuses":         {&tdDevice{status: tdxabi.GetQuoteServiceUnavailable}, false, "0x8000000000000001"},
		"no enclave":               {&tdDevice{quote: []error{unix.EIO}}, false, "input/output"},
		"an empty quote":           {&tdDevice{length: 1 << 31}, false, "2147483648 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := GetTDXGuest(t.Context(), tt.d, noSleep, Request{Provider: TDX, ReportData: data})
			if errors.Is(err, fault.ErrUnsupported) != tt.unsupported || errors.Is(err, fault.ErrBroken) == tt.unsupported ||
				err == nil || !strings.Contains(err.Error(), tt.says) || r.Out != nil {
				t.Errorf("got %v", err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := GetTDXGuest(ctx, &tdDevice{quote: []error{unix.EBUSY}}, noSleep, Request{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestAttackQuoteLongerThanItsBuffer: the length of a TD quote is the host's word. go-tdx-guest's client cuts its buffer
// by it and panics, which ends the supervisor of a job; ours is refused.
func TestAttackQuoteLongerThanItsBuffer(t *testing.T) {
	t.Parallel()
	for _, length := range []uint32{tdxabi.ReqBufSize - tdQuoteHeader + 1, tdxabi.ReqBufSize + 1, 1<<32 - 1} {
		r, err := GetTDXGuest(t.Context(), &tdDevice{length: length}, noSleep, Request{Provider: TDX, ReportData: data})
		if !errors.Is(err, fault.ErrBroken) || r.Out != nil {
			t.Errorf("%d: got %v", length, err)
		}
	}
	panicked := func() (p bool) {
		defer func() { p = recover() != nil }()
		_, _ = tdxclient.GetRawQuote(&tdDevice{length: 1<<32 - 1}, data)
		return
	}()
	if !panicked {
		t.Error("the library is right now: think again about using it")
	}
}

func TestOpenGuest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := OpenGuest(TDX, filepath.Join(dir, "tdx_guest"))
	var u *fault.UnsupportedError
	if !errors.As(err, &u) || u.Platform != "tdx" {
		t.Errorf("got %v", err)
	}
	if _, err := OpenGuest(SNP, dir); !errors.Is(err, fault.ErrBroken) { // a folder cannot be opened for writing
		t.Errorf("got %v", err)
	}
	// A device of another driver answers no request of ours.
	g, err := OpenGuest(SNP, os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := GetSEVGuest(t.Context(), g, noSleep, Request{}); !errors.Is(err, fault.ErrBroken) || !errors.Is(err, unix.ENOTTY) {
		t.Errorf("got %v", err)
	}
	if _, err := GetTDXGuest(t.Context(), g, noSleep, Request{}); !errors.Is(err, fault.ErrBroken) || !errors.Is(err, unix.ENOTTY) {
		t.Errorf("got %v", err)
	}
	if _, err := tdQuote(g, [tdxabi.TdReportSize]byte{}); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("got %v", err)
	}
	if _, err := g.Ioctl(0, nil); err == nil {
		t.Error("an unknown request was sent")
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if _, err := g.Ioctl(tdxabi.IocTdxGetReport, &tdxabi.TdxReportReq{}); !errors.Is(err, unix.EBADF) {
		t.Errorf("got %v", err)
	}
}

func TestEmptyReport(t *testing.T) {
	t.Parallel()
	if _, _, err := reportOf(&sevabi.SnpReportRespABI{ReportSize: 1184}); err == nil {
		t.Error("an empty report was taken")
	}
	a := &sevabi.SnpReportRespABI{ReportSize: 1184}
	binary.LittleEndian.PutUint32(a.Data[:], 2)
	if _, _, err := reportOf(a); err != nil {
		t.Error(err)
	}
}
