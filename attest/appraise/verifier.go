// SPDX-License-Identifier: Apache-2.0

package appraise

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/tdx"
	"github.com/kettle/attest/attest/vtpm"
)

// verifier is one call of [Verify].
type verifier struct {
	evidence *evidence.Evidence
	others   []evidence.Endorsements
	roots    Roots
}

// snp tries the endorsement keys in order: the evidence's own, that of the certificate table which came with it, those
// beside it. Where the evidence brings one, the others do not count.
func (v *verifier) snp(report []byte, at time.Time) (*snp.Report, error) {
	candidates, err := v.leaves(report)
	if err != nil {
		return nil, err
	}
	var first error
	for _, leaf := range candidates {
		r, err := snp.Verify(report, leaf, v.roots.AMD, at)
		if err == nil {
			return r, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

func (v *verifier) leaves(report []byte) ([][]byte, error) {
	table, err := snp.ParseCertTable(v.evidence.CertTable) // always: what stands behind a report is a table or malformed
	if err != nil {
		return nil, err
	}
	if len(v.evidence.Leaf) > 0 {
		return [][]byte{v.evidence.Leaf}, nil
	}
	if len(v.evidence.CertTable) > 0 {
		if leaf, err := table.Leaf(report); err == nil {
			return [][]byte{leaf}, nil
		}
	}
	var out [][]byte
	for _, o := range v.others {
		if len(o.Leaf) > 0 {
			out = append(out, o.Leaf)
		}
	}
	if len(out) == 0 {
		out = append(out, nil) // the platform's package says what is missing
	}
	return out, nil
}

// azure verifies the hardware's report, what it binds, and the TPM that this vouches for.
func (v *verifier) azure(q *Quote) error {
	e := v.evidence
	hcl, err := vtpm.ParseHCL(e.HCLReport)
	if err != nil {
		return err
	}
	var data [64]byte
	if e.Kind == evidence.AzureSNP {
		if hcl.Hardware() != vtpm.SNP {
			return mixed("an SEV-SNP report", hcl.Hardware())
		}
		if q.report, err = v.snp(hcl.HardwareReport(), q.at); err != nil {
			return err
		}
		if err := paravisors(q.report); err != nil {
			return err
		}
		data = q.report.ReportData()
	} else {
		if hcl.Hardware() != vtpm.TDX {
			return mixed("a TDX report", hcl.Hardware())
		}
		if q.td, err = tdx.Verify(e.Report, v.roots.Intel, q.at); err != nil {
			return err
		}
		data = q.td.ReportData()
	}
	if q.guest, err = hcl.Bind(data); err != nil {
		return err
	}
	q.tpm, err = verifyTPM(q.guest.AK(), e)
	return err
}

// paravisors demands that the highest privilege level asked for the report. A paravisor runs there; the guest above it
// runs at a lower one with the same launch measurement, and could name any attestation key in a report of its own.
func paravisors(r *snp.Report) error {
	const highest = 0
	if r.VMPL() == highest {
		return nil
	}
	return &refusal.Refusal{
		Link: "hcl-report", Code: refusal.Chain, Want: "a report that the paravisor asked for, at VMPL 0",
		Got: fmt.Sprintf("one asked for at VMPL %d", r.VMPL()), Next: "take the evidence again as the paravisor wrote it",
	}
}

func mixed(want string, got vtpm.Hardware) error {
	return &refusal.Refusal{
		Link: "evidence", Code: refusal.Malformed, Want: "a paravisor's report that carries " + want, Got: "one of kind " + got.String(),
		Next: "take the evidence again as the machine wrote it",
	}
}

// tpm verifies a TPM quote whose key a provider certified, or the caller activated.
func (v *verifier) tpm(q *Quote) error {
	for _, ak := range v.roots.Activated {
		if tpm, err := verifyTPM(ak, v.evidence); err == nil {
			q.tpm = tpm
			return nil
		}
	}
	chain := v.evidence.AKCertificates
	for _, o := range v.others {
		if len(chain) == 0 {
			chain = o.AKCertificates
		}
	}
	ders, err := certificates(chain)
	if err != nil {
		return err
	}
	if len(ders) == 0 {
		return &refusal.Refusal{
			Link: "endorsements", Code: refusal.Chain, Want: "an attestation key that a provider certified or that was activated",
			Got: "a key that nobody vouches for", Next: "add the provider's certificate of the key to the evidence",
		}
	}
	ak, err := vtpm.CertifiedAK(ders, v.roots.TPM, q.at)
	if err != nil {
		return err
	}
	q.tpm, err = verifyTPM(ak, v.evidence)
	return err
}

// bareRSASSA is the length of a signature that stands without its structure, in imported documents.
const bareRSASSA = 256

func verifyTPM(ak *vtpm.AK, e *evidence.Evidence) (*vtpm.Quote, error) {
	if len(e.TPMSignature) == bareRSASSA {
		return vtpm.VerifyBare(ak, e.TPMQuote, e.TPMSignature, e.PCRs)
	}
	return vtpm.Verify(ak, e.TPMQuote, e.TPMSignature, e.PCRs)
}

// lists gives AMD's revocation lists, the evidence's own first.
func (v *verifier) lists() [][]byte {
	out := present(v.evidence.CRL)
	if table, err := snp.ParseCertTable(v.evidence.CertTable); err == nil && len(out) == 0 {
		out = present(table.CRL)
	}
	for _, o := range v.others {
		out = append(out, present(o.CRL)...)
	}
	return out
}

// collaterals gives Intel's documents, the evidence's own alone where it brings one.
func (v *verifier) collaterals() [][]byte {
	out := present(v.evidence.Collateral)
	if len(out) > 0 {
		return out
	}
	for _, o := range v.others {
		out = append(out, present(o.Collateral)...)
	}
	return out
}

func present(b []byte) [][]byte {
	if len(b) == 0 {
		return nil
	}
	return [][]byte{b}
}

// certificates reads PEM certificates, and nothing but certificates and white space.
func certificates(text []byte) ([][]byte, error) {
	var out [][]byte
	for rest := bytes.TrimSpace(text); len(rest) > 0; {
		block, after := pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) > 0 || !bytes.HasPrefix(rest, []byte("-----BEGIN ")) {
			return nil, &refusal.Refusal{
				Link: "endorsements", Code: refusal.Malformed, Want: "PEM certificates", Got: "something else",
				Next: "take the certificates again from the provider",
			}
		}
		out, rest = append(out, block.Bytes), bytes.TrimSpace(after)
	}
	return out, nil
}
