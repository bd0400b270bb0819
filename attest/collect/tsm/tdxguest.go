// SPDX-License-Identifier: Apache-2.0

package tsm

import (
	"context"
	"errors"
	"fmt"

	labi "github.com/google/go-tdx-guest/client/linuxabi"
	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/collect/fault"
)

// TDXGuest is the device of TDs.
const TDXGuest = "/dev/tdx_guest"

const tdQuoteHeader = 24 // version, status, in_len, out_len

// GetTDXGuest asks the device for a quote: a TDREPORT, which every kernel with the device makes, and then the quote over
// it, which only vendors' kernels made by this device. Linux never had that second call; there the only way is
// configfs-tsm.
func GetTDXGuest(ctx context.Context, d Guest, sleep Sleep, r Request) (Report, error) {
	report := &labi.TdxReportReq{ReportData: r.ReportData}
	if result, err := d.Ioctl(labi.IocTdxGetReport, report); err != nil || result != labi.TdxAttestSuccess {
		return Report{}, fault.Broken("asking "+TDXGuest+" for a report", fmt.Errorf("result %d: %w", result, orUnknown(err)))
	}
	for n := 1; ; n++ {
		quote, err := tdQuote(d, report.TdReport)
		if err == nil {
			return Report{Provider: TDX, Out: quote, Via: TDXGuest}, nil
		}
		if errors.Is(err, unix.ENOTTY) {
			return Report{}, &fault.UnsupportedError{
				Platform: TDX.platform(),
				Need:     "configfs-tsm (Linux 6.7 or later, configfs mounted): " + TDXGuest + " of this kernel makes reports but no quotes",
			}
		}
		if !errors.Is(err, errInFlight) && !errors.Is(err, unix.EBUSY) || n == busyTries {
			return Report{}, fault.Broken("asking "+TDXGuest+" for a quote", err)
		}
		if err := sleep(ctx, busyPause); err != nil {
			return Report{}, err
		}
	}
}

var (
	errInFlight = errors.New("the host is still at work on it")
	errUnknown  = errors.New("no reason given")
)

func orUnknown(err error) error {
	if err == nil {
		return errUnknown
	}
	return err
}

// tdQuote asks for the quote over a TDREPORT. Status and length are the host's words; neither is believed.
func tdQuote(d Guest, report [labi.TdReportSize]byte) ([]byte, error) {
	buffer := &labi.TdxQuoteHdr{Version: 1, InLen: labi.TdReportSize}
	copy(buffer.Data[:], report[:])
	result, err := d.Ioctl(labi.IocTdxGetQuote, &labi.TdxQuoteReq{Buffer: buffer, Length: labi.ReqBufSize})
	switch {
	case err != nil:
		return nil, err
	case result != labi.TdxAttestSuccess:
		return nil, fmt.Errorf("result %d", result)
	case buffer.Status == labi.GetQuoteInFlight:
		return nil, errInFlight
	case buffer.Status != labi.GetQuoteSuccess:
		return nil, fmt.Errorf("the host answered with status %#x", buffer.Status)
	case buffer.OutLen == 0 || buffer.OutLen > labi.ReqBufSize-tdQuoteHeader:
		return nil, fmt.Errorf("the host answered with a quote of %d bytes", buffer.OutLen)
	}
	return append([]byte(nil), buffer.Data[:buffer.OutLen]...), nil
}
