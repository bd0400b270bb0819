// SPDX-License-Identifier: Apache-2.0

// Package azure gets what an Azure confidential VM's paravisor and host give: the paravisor's report in the virtual
// TPM, the chip's certificate and the TD quote from services of the host.
//
// It guarantees that a paravisor's report that it returns is whole (its hardware report binds its runtime data) and,
// where user data was written, that the report shows them. The services are asked without any proxy and without
// following redirects, because their address belongs to this machine's host and to nobody else. It trusts neither
// paravisor nor host: the verifier finds out what their answers are worth.
//
// Sources: Microsoft "Guest attestation for confidential VMs" and "Trusted Hardware Identity Management"; OpenHCL,
// vm/devices/tpm (the report in NV index 0x01400001 is made anew on reading, at most every two seconds).
package azure

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/kettle/attest/attest/collect/fault"
	"github.com/kettle/attest/attest/collect/fetch"
	"github.com/kettle/attest/attest/collect/tpm"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/vtpm"
)

// What the paravisor keeps in the TPM.
const (
	ReportIndex        tpm.Index  = 0x01400001
	UserDataIndex      tpm.Index  = 0x01400002
	AKHandle           tpm.Handle = 0x81000003
	AKCertificateIndex tpm.Index  = 0x01c101d0
)

// DefaultHost is the address of the host's services.
const DefaultHost = "http://169.254.169.254"

const (
	reportTries = 20
	reportPause = 500 * time.Millisecond

	snpReportData = 0x50
	tdReportData  = 128 // REPORTMACSTRUCT.REPORTDATA (Intel "TDX Module Base Architecture", TDREPORT_STRUCT)

	maxAnswer = 256 << 10
)

// Report is a paravisor's report.
type Report struct {
	Raw []byte // the bytes of the NV index
	*vtpm.HCL
}

// ReadReport reads the paravisor's report. A TPM without it is a [fault.UnsupportedError] of the platform named: the
// machine is no Azure confidential VM. So is a report around hardware of another kind.
func ReadReport(ctx context.Context, t *tpm.TPM, platform string, want vtpm.Hardware) (Report, error) {
	r, _, err := read(ctx, t)
	if errors.Is(err, tpm.ErrAbsent) {
		return Report{}, &fault.UnsupportedError{Platform: platform, Need: fmt.Sprintf("a paravisor's report in the TPM (NV index %#x)", uint32(ReportIndex))}
	}
	switch {
	case errors.Is(err, refusal.ErrChain): // a report without hardware behind it
		return Report{}, &fault.UnsupportedError{Platform: platform, Need: fmt.Sprintf("a paravisor's report around a report of %s, here it is of none", want)}
	case err != nil && ctx.Err() != nil, errors.Is(err, fault.ErrBroken):
		return Report{}, err
	case err != nil:
		return Report{}, fault.Broken("reading the paravisor's report", err)
	}
	if got := r.Hardware(); got != want {
		return Report{}, &fault.UnsupportedError{Platform: platform, Need: fmt.Sprintf("a paravisor's report around a report of %s, here it is of %s", want, got)}
	}
	return r, nil
}

func read(ctx context.Context, t *tpm.TPM) (Report, *vtpm.Guest, error) {
	raw, err := t.ReadNV(ctx, ReportIndex)
	if err != nil {
		return Report{}, nil, err
	}
	h, err := vtpm.ParseHCL(raw)
	if err != nil {
		return Report{}, nil, err
	}
	at := snpReportData
	if h.Hardware() == vtpm.TDX {
		at = tdReportData
	}
	guest, err := h.Bind([64]byte(h.HardwareReport()[at:]))
	return Report{raw, h}, guest, err
}

// Sleep waits and returns early with the context's error.
type Sleep func(context.Context, time.Duration) error

// BindUserData has the paravisor put 64 bytes into its report, and waits until the report shows them, at most about ten
// seconds.
func BindUserData(ctx context.Context, t *tpm.TPM, sleep Sleep, data [64]byte) (Report, error) {
	const doing = "having the paravisor bind user data"
	if err := t.WriteNV(ctx, UserDataIndex, data[:]); err != nil {
		return Report{}, err
	}
	var last error
	for range reportTries {
		r, guest, err := read(ctx, t)
		switch {
		case err == nil && bytes.Equal(guest.UserData(), data[:]):
			return r, nil
		case err == nil:
			last = errors.New("its report still shows other user data")
		case ctx.Err() != nil || errors.Is(err, fault.ErrBroken):
			return Report{}, err
		default: // read while it was written
			last = err
		}
		if err := sleep(ctx, reportPause); err != nil {
			return Report{}, fmt.Errorf("%s: %w", doing, err)
		}
	}
	return Report{}, fault.Broken(doing, fmt.Errorf("after %d tries: %w", reportTries, last))
}

// Fetcher gets documents; a [fetch.Client] over [fetch.Direct] is one.
type Fetcher interface {
	Get(context.Context, fetch.Request) (fetch.Document, error)
}

// Host is the services of the machine's host.
type Host struct {
	fetch Fetcher
	base  string
}

// NewHost makes a client of the services below base, [DefaultHost] outside of tests.
func NewHost(f Fetcher, base string) *Host { return &Host{f, base} }

// Certificates is what the host keeps of AMD's certificates for its chip.
type Certificates struct {
	VCEK  []byte // PEM
	Chain []byte // PEM: ASK, then ARK
}

// Certificates asks for the certificates of the host's AMD chip.
func (h *Host) Certificates(ctx context.Context) (Certificates, error) {
	var c Certificates
	_, err := h.fetch.Get(ctx, fetch.Request{
		What: "VCEK certificate from Azure's host", URL: h.base + "/metadata/THIM/amd/certification",
		Header: map[string]string{"Metadata": "true"}, Limit: maxAnswer,
		Accept: func(d fetch.Document) (time.Time, error) {
			var err error
			c, err = readCertificates(d.Body)
			return time.Time{}, err // asked once a boot, and the chip may be another after a move
		},
		Next: "let this program reach " + DefaultHost + ", which no firewall of Azure closes by itself",
	})
	return c, err
}

func readCertificates(body []byte) (Certificates, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(body, &m); err != nil {
		return Certificates{}, fmt.Errorf("no JSON object: %w", err)
	}
	var vcek, chain string
	if json.Unmarshal(m["vcekCert"], &vcek) != nil || json.Unmarshal(m["certificateChain"], &chain) != nil || vcek == "" {
		return Certificates{}, errors.New("no vcekCert and certificateChain")
	}
	return Certificates{VCEK: []byte(vcek), Chain: []byte(chain)}, nil
}

// Quote has the host's quoting enclave make a TD quote of a TDREPORT.
func (h *Host) Quote(ctx context.Context, tdReport []byte) ([]byte, error) {
	body, err := json.Marshal(map[string]string{"report": base64.RawURLEncoding.EncodeToString(tdReport)})
	if err != nil {
		return nil, fmt.Errorf("writing the request for a TD quote: %w", err)
	}
	var quote []byte
	_, err = h.fetch.Get(ctx, fetch.Request{
		What: "TD quote from Azure's host", URL: h.base + "/acc/tdquote", Body: body,
		Header: map[string]string{"Metadata": "true", "Content-Type": "application/json"}, Limit: maxAnswer,
		Accept: func(d fetch.Document) (time.Time, error) {
			var err error
			quote, err = readQuote(d.Body, tdReport)
			return time.Time{}, err
		},
		Next: "let this program reach " + DefaultHost + ", which no firewall of Azure closes by itself",
	})
	return quote, err
}

func readQuote(body, tdReport []byte) ([]byte, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("no JSON object: %w", err)
	}
	var text string
	if err := json.Unmarshal(m["quote"], &text); err != nil || text == "" {
		return nil, errors.New("no quote")
	}
	quote, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		if quote, err = base64.URLEncoding.DecodeString(text); err != nil {
			return nil, fmt.Errorf("the quote is not base64url: %w", err)
		}
	}
	if !bytes.Contains(quote, tdReport[tdReportData:][:64]) {
		return nil, errors.New("a quote over other report data")
	}
	return quote, nil
}
