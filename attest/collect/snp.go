// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/kettle/attest/attest/collect/endorse"
	"github.com/kettle/attest/attest/collect/fault"
	"github.com/kettle/attest/attest/collect/tsm"
	"github.com/kettle/attest/attest/snp"
)

// guidLaunch is the entry under which Google's hosts put a launch endorsement (gce-tcb-verifier, sev.GCEFwCertGUID).
const guidLaunch = "9f4116cd-c503-4f5a-8f6f-fb68882f4ce2"

const measurementOffset = 0x90

// kernel asks this machine's kernel for reports, by configfs-tsm or, where the kernel has none, by a vendor's device.
type kernel struct {
	settings
	provider tsm.Provider
	client   tsm.Files // nil where there is none
	guest    tsm.Guest // nil where there is a client
}

// openKernel finds the interface. Only its absence leads to the older one: an interface that fails is a failure.
func openKernel(s settings, p tsm.Provider, device string) (*kernel, error) {
	client, err := s.tsm(p)
	if err == nil {
		return &kernel{settings: s, provider: p, client: client}, nil
	}
	if !errors.Is(err, ErrUnsupported) {
		return nil, err
	}
	guest, err := s.guest(p, s.path(device))
	if err != nil {
		return nil, err
	}
	return &kernel{settings: s, provider: p, guest: guest}, nil
}

// report asks for one report.
func (k *kernel) report(ctx context.Context, data [64]byte) (tsm.Report, error) {
	r := tsm.Request{Provider: k.provider, ReportData: data, Level: k.Level, Service: k.Service}
	switch {
	case k.client != nil:
		return tsm.Get(k.client, r)
	case k.provider == tsm.SNP:
		return tsm.GetSEVGuest(ctx, k.guest, k.sleep, r)
	}
	return tsm.GetTDXGuest(ctx, k.guest, k.sleep, r)
}

func (k *kernel) close() error {
	if k.guest == nil {
		return nil
	}
	return k.guest.Close()
}

// snpSource is SEV-SNP with the guest's own access to the secure processor.
type snpSource struct {
	*kernel
	amd amdEndorsements
}

// openSNP opens the platform and asks for a first report, which is how it finds out whether this is one. The same
// report says which endorsements to gather.
func openSNP(ctx context.Context, s settings) (source, error) {
	k, err := openKernel(s, tsm.SNP, tsm.SEVGuest)
	if err != nil {
		return nil, err
	}
	p := &snpSource{kernel: k, amd: amdEndorsements{settings: s}}
	if _, err := p.quote(ctx, [64]byte{}); err != nil {
		return nil, errors.Join(err, k.close())
	}
	return p, nil
}

func (p *snpSource) platform() string { return PlatformSNP }

func (p *snpSource) quote(ctx context.Context, data [64]byte) (Quote, error) {
	r, err := p.report(ctx, data)
	if err != nil {
		return Quote{}, err
	}
	if err := checkSNP(r.Out, data); err != nil {
		return Quote{}, err
	}
	q := Quote{Provider: ProviderSNP, Via: r.Via, Report: r.Out, AuxBlob: r.Aux, Manifest: r.Manifest}
	table, err := snp.ParseCertTable(r.Aux)
	if err != nil {
		q.note("certificate table", fmt.Sprintf("the host's is unusable: %v", err))
		table = &snp.CertTable{}
	}
	if err := p.amd.add(ctx, &q, table); err != nil {
		return Quote{}, err
	}
	if err := p.launch(ctx, &q, table); err != nil {
		return Quote{}, err
	}
	q.note("register", noSNPRegister)
	return q, nil
}

const noSNPRegister = "SEV-SNP has no run-time register"

// checkSNP demands that a report is an answer to this question. The signature is the verifier's to check.
func checkSNP(report []byte, data [64]byte) error {
	if len(report) != reportSize {
		return fault.Broken("asking for a report", fmt.Errorf("a report of %d bytes, want %d", len(report), reportSize))
	}
	if [64]byte(report[reportDataOffset:][:64]) != data {
		return fault.Broken("asking for a report", errors.New("a report over other report data"))
	}
	return nil
}

// launch adds Google's endorsement of the firmware: from the host's table, or from Google's bucket on a machine that
// says it is Google's.
func (p *snpSource) launch(ctx context.Context, q *Quote, table *snp.CertTable) error {
	for _, e := range table.Others {
		if e.GUID.String() == guidLaunch {
			q.Launch = e.Data
			return nil
		}
	}
	return p.fetchLaunch(ctx, q, endorse.SEVSNP, q.Report[measurementOffset:][:48])
}

func (p *snpSource) extend(context.Context, [32]byte) error {
	return &UnsupportedError{Platform: PlatformSNP, Need: "a register: not available: " + noSNPRegister}
}

func (p *snpSource) activate(context.Context, []byte, []byte) ([]byte, error) {
	return nil, noActivation(PlatformSNP)
}

func noActivation(platform string) error {
	return &UnsupportedError{Platform: platform, Need: "no activation: only a TPM alone (platform vtpm) has a key that needs it"}
}

// pemOf writes a certificate in PEM.
func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
