// SPDX-License-Identifier: Apache-2.0

package tsm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	labi "github.com/google/go-sev-guest/client/linuxabi"
	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/collect/fault"
)

// SEVGuest is the device of SEV-SNP guests before configfs-tsm.
const SEVGuest = "/dev/sev-guest"

const (
	snpReportSize = 1184
	maxCerts      = 1 << 20 // Linux stops at 16 KiB
	busyTries     = 10
	busyPause     = time.Second

	// Firmware error codes of the device (include/uapi/linux/sev-guest.h: the host's code is in the upper half).
	vmmInvalidLength = 1 << 32
	vmmBusy          = 2 << 32
)

// Guest is a vendor's device.
type Guest interface {
	// Ioctl sends a request of the vendor's linuxabi package: *labi.SnpUserGuestRequest, *labi.TdxReportReq or
	// *labi.TdxQuoteReq. A failed call is a syscall.Errno.
	Ioctl(command uintptr, request any) (uintptr, error)
	Close() error
}

// Sleep waits and returns early with the context's error.
type Sleep func(context.Context, time.Duration) error

// GetSEVGuest asks the device for an extended report: the report and the host's certificate table, empty if the host
// gave none. The device answers nothing more after some failures; Linux says so with ENOTTY.
func GetSEVGuest(ctx context.Context, d Guest, sleep Sleep, r Request) (Report, error) {
	var level uint
	if r.Level != nil {
		level = *r.Level
	}
	if r.Service != nil {
		return Report{}, &fault.UnsupportedError{Platform: SNP.platform(), Need: "configfs-tsm of Linux 6.11 or later for service attributes; " + SEVGuest + " has none"}
	}
	s := sevGuest{d, sleep, labi.SnpReportReqABI{ReportData: r.ReportData, Vmpl: uint32(min(level, 1<<31))}}
	report, certs, err := s.extended(ctx)
	if err != nil {
		return Report{}, fault.Broken("asking "+SEVGuest+" for a report", err)
	}
	return Report{Provider: SNP, Out: report, Aux: certs, Level: &level, Via: SEVGuest}, nil
}

type sevGuest struct {
	device  Guest
	sleep   Sleep
	request labi.SnpReportReqABI
}

// extended asks how long the table is, then for both. A host that fails to say is an error: taking it for a host
// without certificates would let the failure choose what the evidence holds.
func (s sevGuest) extended(ctx context.Context) ([]byte, []byte, error) {
	ask := &labi.SnpExtendedReportReq{Data: s.request}
	report, code, err := s.send(ctx, labi.IocSnpGetExtendedReport, ask)
	if err == nil { // no table: the first answer is the report
		return report, nil, nil
	}
	if code != vmmInvalidLength {
		return nil, nil, err
	}
	if ask.CertsLength == 0 || ask.CertsLength > maxCerts {
		return nil, nil, fmt.Errorf("the host announces a certificate table of %d bytes", ask.CertsLength)
	}
	ask = &labi.SnpExtendedReportReq{Data: s.request, Certs: make([]byte, ask.CertsLength), CertsLength: ask.CertsLength}
	report, _, err = s.send(ctx, labi.IocSnpGetExtendedReport, ask)
	if err != nil {
		return nil, nil, err
	}
	if allZero(ask.Certs) {
		return report, nil, nil
	}
	return report, ask.Certs, nil
}

// send sends one message, again while the host is busy. The second value is the firmware's error code.
func (s sevGuest) send(ctx context.Context, command uintptr, ask *labi.SnpExtendedReportReq) ([]byte, uint64, error) {
	for n := 1; ; n++ {
		if err := ctx.Err(); err != nil {
			return nil, 0, context.Cause(ctx)
		}
		var answer labi.SnpReportRespABI
		message := &labi.SnpUserGuestRequest{ReqData: ask, RespData: &answer}
		_, err := s.device.Ioctl(command, message)
		busy := errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EBUSY) || err != nil && message.FwErr == vmmBusy
		switch {
		case err == nil:
			return reportOf(&answer)
		case !busy || n == busyTries:
			return nil, message.FwErr, fmt.Errorf("the device failed with firmware error %#x: %w", message.FwErr, err)
		}
		if err := s.sleep(ctx, busyPause); err != nil {
			return nil, 0, err
		}
	}
}

// reportOf reads MSG_REPORT_RSP (AMD 56860, table "MSG_REPORT_RSP Message Structure").
func reportOf(answer *labi.SnpReportRespABI) ([]byte, uint64, error) {
	if answer.Status != 0 {
		return nil, 0, fmt.Errorf("the firmware answered with status %#x", answer.Status)
	}
	if answer.ReportSize != snpReportSize {
		return nil, 0, fmt.Errorf("the firmware answered with a report of %d bytes, want %d", answer.ReportSize, snpReportSize)
	}
	report := append([]byte(nil), answer.Data[:snpReportSize]...)
	if binary.LittleEndian.Uint32(report) == 0 {
		return nil, 0, errors.New("the firmware answered with an empty report")
	}
	return report, 0, nil
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
