// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"encoding/pem"
	"errors"

	"github.com/kettle/attest/attest/collect/tpm"
	"github.com/kettle/attest/attest/eventlog/tcg"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/snp"
)

// Quote is what a platform answers, and everything that goes with it. All fields are bytes as the platform gave them;
// which ones there are depends on the platform, and Notes says why another is not there.
type Quote struct {
	Provider string // the format of Report
	Via      string // the interface that answered, for people: "configfs-tsm", "/dev/sev-guest", "tpm", "" for the simulator
	Report   []byte // outblob: SEV-SNP report of 1184 bytes, or TDX quote; empty for a TPM alone
	AuxBlob  []byte // auxblob: the host's certificate table, empty where the platform has none
	Manifest []byte // manifestblob of an SVSM's service, if one was asked for

	// Endorsements is PEM: the endorsement key certificate, then its intermediates. Empty for TDX, whose quote carries
	// its certificates, and for a TPM alone.
	Endorsements []byte
	Revocations  [][]byte // DER revocation lists of AMD's keys
	Collateral   []byte   // JSON: Intel's TDX collateral
	Launch       []byte   // serialized VMLaunchEndorsement, on Google's machines

	HCLReport []byte    // NV index 0x01400001 of Azure's paravisor
	TPM       *TPMQuote // nil where there is no TPM that counts

	CCELTable []byte // /sys/firmware/acpi/tables/CCEL, which says what CCEL is
	CCEL      []byte // event log of a TD's registers, the whole area with its padding
	TPMLog    []byte // event log of the TPM's registers

	Register Register // the run-time register, as it stands after the quote
	Notes    []Note
}

// TPMQuote is a TPM's quote and what vouches for its key.
type TPMQuote struct {
	tpm.Quote
	AKCertificate []byte // DER, where the provider certifies the key
	// EKCertificate is the DER of the certificate of the endorsement key and EKPublic its TPMT_PUBLIC, for a verifier
	// that wants the attestation key activated; EKChain is the certificates that the TPM holds beside it, DER one after
	// the other.
	EKCertificate, EKPublic, EKChain []byte
}

// Register is a run-time register that only grows: what extended it, no later program can take back.
type Register struct {
	Name  string // "rtmr3:sha384", "pcr15:sha256", or "" where there is none to read
	Value []byte
}

// Note says what is not in a quote, and why.
type Note struct {
	Item   string // such as "register", "revocations", "ccel", "launch"
	Reason string // such as "not available: kernel older than 6.16"
}

// Evidence gives the quote as evidence of the kind that its parts make it, with its endorsements and the log of its boot.
func (q *Quote) Evidence() (evidence.Evidence, error) {
	e := evidence.Evidence{BootLog: withoutFill(q.CCEL)}
	if q.TPM != nil {
		e.TPMQuote, e.TPMSignature, e.BootLog = q.TPM.Attest, q.TPM.Signature, q.TPMLog
		for _, v := range q.TPM.PCRs {
			e.PCRs = append(e.PCRs, v[:])
		}
	}
	switch azure := len(q.HCLReport) > 0; {
	case q.Provider == ProviderSNP && azure: // the report stands inside
		e.Kind, e.HCLReport = evidence.AzureSNP, q.HCLReport
	case q.Provider == ProviderSNP:
		e.Kind, e.Report = evidence.SNP, q.Report
	case q.Provider == ProviderTDX && azure:
		e.Kind, e.HCLReport, e.Report, e.Collateral = evidence.AzureTDX, q.HCLReport, q.Report, q.Collateral
	case q.Provider == ProviderTDX:
		e.Kind, e.Report, e.Collateral = evidence.TDX, q.Report, q.Collateral
	case q.Provider == ProviderTPM && q.TPM != nil:
		e.Kind = evidence.VTPM
		if len(q.TPM.AKCertificate) > 0 {
			e.AKCertificates = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: q.TPM.AKCertificate})
		}
	default:
		return evidence.Evidence{}, errors.New("making evidence: the quote is of no kind that is known")
	}
	if q.Provider == ProviderSNP {
		leaf, err := snp.EndorsementKey(q.Endorsements)
		if err != nil {
			return evidence.Evidence{}, err
		}
		e.Leaf = leaf
		if len(q.Revocations) > 0 {
			e.CRL = q.Revocations[0]
		}
	}
	return e, e.Check()
}

// withoutFill cuts the fill behind a log off: the area is larger than all other evidence together. A log that cannot be
// read stays as it is, for the verifier to refuse.
func withoutFill(area []byte) []byte {
	l, err := tcg.ParseCC(area)
	if err != nil {
		return area
	}
	return area[:l.Size()]
}

func (q *Quote) note(item, reason string) {
	q.Notes = append(q.Notes, Note{item, "not available: " + reason})
}
