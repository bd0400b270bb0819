// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/kettle/attest/attest/collect/azure"
	"github.com/kettle/attest/attest/collect/fault"
	"github.com/kettle/attest/attest/collect/tpm"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/vtpm"
)

// tpmRegister is the register of a TPM that nothing in a boot uses and no program can reset (TCG "PC Client Platform
// TPM Profile", table of PCR attributes; systemd measures file systems there only if asked to).
const tpmRegister = 15

const tpmRegisterName = "pcr15:sha256"

// azureSource is a confidential VM under Azure's paravisor, which keeps the TPM and is alone in asking the hardware.
type azureSource struct {
	settings
	name  string
	want  vtpm.Hardware
	tpm   *tpm.TPM
	ak    tpm.Key
	cert  []byte // of the key, where Azure gave one
	amd   amdEndorsements
	intel intelEndorsements
}

func openAzure(ctx context.Context, s settings, platform string) (source, error) {
	t, err := s.tpm(platform, s.path(tpm.Device))
	if err != nil {
		return nil, err
	}
	p := &azureSource{settings: s, name: platform, want: vtpm.SNP, tpm: t, amd: amdEndorsements{settings: s}, intel: intelEndorsements{settings: s}}
	if platform == PlatformAzTDX {
		p.want = vtpm.TDX
	}
	if err := p.open(ctx); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return p, nil
}

// open finds out whether this is such a machine, and gathers what does not change.
func (p *azureSource) open(ctx context.Context) error {
	r, err := azure.ReadReport(ctx, p.tpm, p.name, p.want)
	if err != nil {
		return err
	}
	if p.ak, err = p.tpm.Key(ctx, azure.AKHandle); errors.Is(err, tpm.ErrAbsent) {
		return fault.Broken("opening "+p.name, fmt.Errorf("there is a paravisor's report and no attestation key: %w", err))
	} else if err != nil {
		return err
	}
	if p.cert, err = p.tpm.ReadNV(ctx, azure.AKCertificateIndex); err != nil && !errors.Is(err, tpm.ErrAbsent) {
		return err
	}
	var q Quote
	return p.hardware(ctx, &q, r)
}

func (p *azureSource) platform() string { return p.name }

// quote has the paravisor bind the report data in its own report, and the TPM quote over them too: the first is under
// the hardware's signature, the second holds the registers.
func (p *azureSource) quote(ctx context.Context, data [64]byte) (Quote, error) {
	r, err := azure.BindUserData(ctx, p.tpm, p.sleep, data)
	if err != nil {
		return Quote{}, err
	}
	q := Quote{Via: "tpm", HCLReport: r.Raw}
	if err := p.hardware(ctx, &q, r); err != nil {
		return Quote{}, err
	}
	return q, addTPM(ctx, p.settings, &q, tpmSigner{tpm: p.tpm, ak: p.ak, vouch: TPMQuote{AKCertificate: p.cert}}, data)
}

// hardware adds the hardware's report and its endorsements.
func (p *azureSource) hardware(ctx context.Context, q *Quote, r azure.Report) error {
	if got := r.Hardware(); got != p.want {
		return fault.Broken("reading the paravisor's report", fmt.Errorf("it is around a report of %s, was of %s", got, p.want))
	}
	if p.want == vtpm.TDX {
		quote, err := p.host.Quote(ctx, r.HardwareReport())
		if err != nil {
			return fmt.Errorf("asking Azure's host for a TD quote: %w", err)
		}
		q.Provider, q.Report = ProviderTDX, quote
		return p.intel.add(ctx, q)
	}
	q.Provider, q.Report = ProviderSNP, r.HardwareReport()
	table := &snp.CertTable{}
	if p.amd.held == nil { // Azure's host serves what elsewhere comes with the report
		certs, err := p.host.Certificates(ctx)
		if err != nil {
			if err := optional(ctx, q, "certificates of Azure's host", err); err != nil {
				return err
			}
		}
		table = azureTable(certs)
	}
	return p.amd.add(ctx, q, table)
}

// azureTable puts the host's certificates where those of other hosts are.
func azureTable(c azure.Certificates) *snp.CertTable {
	t := &snp.CertTable{VCEK: c.VCEK}
	if block, rest := pem.Decode(c.Chain); block != nil {
		t.ASK = block.Bytes
		if block, _ = pem.Decode(rest); block != nil {
			t.ARK = block.Bytes
		}
	}
	return t
}

func (p *azureSource) extend(ctx context.Context, digest [32]byte) error {
	_, err := p.tpm.Extend(ctx, tpmRegister, digest)
	return err
}

func (p *azureSource) activate(context.Context, []byte, []byte) ([]byte, error) {
	return nil, noActivation(p.name)
}

func (p *azureSource) close() error { return p.tpm.Close() }

// tpmSigner is an attestation key and what vouches for it.
type tpmSigner struct {
	tpm   *tpm.TPM
	ak    tpm.Key
	vouch TPMQuote
}

// addTPM adds the TPM's quote over the SHA-256 of the report data (a TPM need not take 64 bytes), its event log and its
// register.
func addTPM(ctx context.Context, s settings, q *Quote, signer tpmSigner, data [64]byte) error {
	extra := sha256.Sum256(data[:])
	quote, err := signer.tpm.Quote(ctx, signer.ak, extra[:], s.PCRs)
	if err != nil {
		return err
	}
	vouched := signer.vouch
	vouched.Quote = quote
	q.TPM = &vouched
	values, err := signer.tpm.PCRs(ctx, []int{tpmRegister})
	if err != nil {
		return err
	}
	q.Register = Register{tpmRegisterName, values[0][:]}
	return s.addTPMLog(q)
}
