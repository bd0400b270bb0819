// SPDX-License-Identifier: Apache-2.0

package tdxtest

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"strings"
	"time"
)

// SVN is one component of a level.
type SVN struct {
	SVN uint8 `json:"svn"`
}

// PlatformTCB is what a level of TCB info compares.
type PlatformTCB struct {
	SGX    [16]SVN `json:"sgxtcbcomponents"`
	PCESVN uint16  `json:"pcesvn"`
	TDX    [16]SVN `json:"tdxtcbcomponents"`
}

// EnclaveTCB is what a level of a module or an enclave compares.
type EnclaveTCB struct {
	ISVSVN uint16 `json:"isvsvn"`
}

// Level is a TCB level. TCB is a [PlatformTCB] or an [EnclaveTCB].
type Level struct {
	TCB        any      `json:"tcb"`
	Date       string   `json:"tcbDate"`
	Status     string   `json:"tcbStatus"`
	Advisories []string `json:"advisoryIDs,omitempty"`
}

// Module is the identity of a TDX module.
type Module struct {
	ID         string  `json:"id,omitempty"`
	Signer     string  `json:"mrsigner"`
	Attributes string  `json:"attributes"`
	Mask       string  `json:"attributesMask"`
	Levels     []Level `json:"tcbLevels,omitempty"`
}

// TCBInfo is Intel's TCB info.
type TCBInfo struct {
	ID         string   `json:"id"`
	Version    int      `json:"version"`
	Issued     string   `json:"issueDate"`
	NextUpdate string   `json:"nextUpdate"`
	FMSPC      string   `json:"fmspc"`
	PCEID      string   `json:"pceId"`
	Type       int      `json:"tcbType"`
	Evaluation int      `json:"tcbEvaluationDataNumber"`
	Module     Module   `json:"tdxModule"`
	Modules    []Module `json:"tdxModuleIdentities,omitempty"`
	Levels     []Level  `json:"tcbLevels"`
}

// QEIdentity is the identity of the quoting enclave.
type QEIdentity struct {
	ID         string  `json:"id"`
	Version    int     `json:"version"`
	Issued     string  `json:"issueDate"`
	NextUpdate string  `json:"nextUpdate"`
	Evaluation int     `json:"tcbEvaluationDataNumber"`
	MiscSelect string  `json:"miscselect"`
	MiscMask   string  `json:"miscselectMask"`
	Attributes string  `json:"attributes"`
	Mask       string  `json:"attributesMask"`
	Signer     string  `json:"mrsigner"`
	Product    int     `json:"isvprodid"`
	Levels     []Level `json:"tcbLevels"`
}

// CRL is a revocation list.
type CRL struct {
	Issuer           string // name of the CA
	ThisUpdate, Next time.Time
	Revoked          []string // names of certificates
	Change           func(template *x509.RevocationList)
	SignedBy         string // name of the key, where it is not the issuer's
}

// Collateral describes collateral. The two documents are signed as encoding/json writes them, or as the functions give
// them back.
type Collateral struct {
	TCBInfo        TCBInfo
	QEIdentity     QEIdentity
	RootCRL        CRL
	PCKCRL         CRL
	EditTCBInfo    func(document string) string
	EditQEIdentity func(document string) string
	Signer         string // certificate and key that sign the TCB info
	QESigner       string // certificate and key that sign the QE identity
	Root           string // certificate that ends the issuer chain
}

// NewCollateral gives the description of collateral by which a platform of the zero [Config] and the quote of [NewQuote]
// are up to date.
func (p *PKI) NewCollateral() Collateral {
	issued, next := stamp(p.At), stamp(p.At.AddDate(0, 0, 30))
	zeros := strings.Repeat("00", 48)
	module := Module{Signer: zeros, Attributes: "0000000000000000", Mask: "FFFFFFFFFFFFFFFF"}
	listed := module
	listed.ID = "TDX_01"
	listed.Levels = []Level{EnclaveLevel(4, "UpToDate"), EnclaveLevel(2, "OutOfDate", "INTEL-SA-01036")}
	return Collateral{
		TCBInfo: TCBInfo{
			ID: "TDX", Version: 3, Issued: issued, NextUpdate: next, FMSPC: hex.EncodeToString(p.FMSPC[:]),
			PCEID: hex.EncodeToString(p.PCEID[:]), Evaluation: 20, Module: module, Modules: []Module{listed},
			Levels: []Level{
				PlatformLevel(SVNs(), 11, [16]byte{5, 0, 2}, "UpToDate"),
				PlatformLevel(SVNs(), 5, [16]byte{3, 0, 2}, "OutOfDate", "INTEL-SA-00837"),
				PlatformLevel([16]byte{1}, 5, [16]byte{3, 0, 2}, "OutOfDate", "INTEL-SA-00837", "INTEL-SA-00960"),
			},
		},
		QEIdentity: QEIdentity{
			ID: "TD_QE", Version: 2, Issued: issued, NextUpdate: next, Evaluation: 20, MiscSelect: "00000000", MiscMask: "FFFFFFFF",
			Attributes: "11000000000000000000000000000000", Mask: "FBFFFFFFFFFFFFFF0000000000000000",
			Signer: "DC9E2A7C6F948F17474E34A7FC43ED030F7C1563F1BABDDF6340C82E0E54A8C5", Product: 2,
			Levels: []Level{EnclaveLevel(4, "UpToDate"), EnclaveLevel(2, "OutOfDate", "INTEL-SA-00477")},
		},
		RootCRL: CRL{Issuer: Root, ThisUpdate: p.At, Next: p.At.AddDate(1, 0, 0)},
		PCKCRL:  CRL{Issuer: PCKCA, ThisUpdate: p.At, Next: p.At.AddDate(0, 0, 30)},
		Signer:  TCBSigning, QESigner: TCBSigning, Root: Root,
	}
}

// PlatformLevel makes a level of TCB info.
func PlatformLevel(sgx [16]byte, pcesvn uint16, tdx [16]byte, status string, advisories ...string) Level {
	var t PlatformTCB
	for i := range sgx {
		t.SGX[i].SVN, t.TDX[i].SVN = sgx[i], tdx[i]
	}
	t.PCESVN = pcesvn
	return Level{TCB: t, Date: "2025-08-13T00:00:00Z", Status: status, Advisories: advisories}
}

// EnclaveLevel makes a level of a module or of the quoting enclave.
func EnclaveLevel(svn uint16, status string, advisories ...string) Level {
	return Level{TCB: EnclaveTCB{svn}, Date: "2025-08-13T00:00:00Z", Status: status, Advisories: advisories}
}

// Files is signed collateral, by the keys of the JSON form (tcb_info, root_ca_crl and so on).
type Files map[string]string

// Collateral signs collateral.
func (p *PKI) Collateral(c Collateral) Files {
	info, identity := string(must(json.Marshal(c.TCBInfo))), string(must(json.Marshal(c.QEIdentity)))
	if c.EditTCBInfo != nil {
		info = c.EditTCBInfo(info)
	}
	if c.EditQEIdentity != nil {
		identity = c.EditQEIdentity(identity)
	}
	return Files{
		"tcb_info": info, "tcb_info_signature": hex.EncodeToString(p.Sign(c.Signer, []byte(info))), "tcb_info_issuer_chain": string(p.PEM(c.Signer, c.Root)),
		"qe_identity": identity, "qe_identity_signature": hex.EncodeToString(p.Sign(c.QESigner, []byte(identity))), "qe_identity_issuer_chain": string(p.PEM(c.QESigner, c.Root)),
		"root_ca_crl": hex.EncodeToString(p.CRL(c.RootCRL)), "pck_crl": hex.EncodeToString(p.CRL(c.PCKCRL)),
		"pck_crl_issuer_chain": string(p.PEM(PCKCA, Root)),
	}
}

// JSON writes the collateral file.
func (f Files) JSON() []byte { return must(json.Marshal(f)) }

// CRL signs a revocation list, in DER.
func (p *PKI) CRL(c CRL) []byte {
	t := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: c.ThisUpdate, NextUpdate: c.Next, SignatureAlgorithm: x509.ECDSAWithSHA256}
	for _, name := range c.Revoked {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: p.Certs[name].SerialNumber, RevocationTime: c.ThisUpdate, ReasonCode: 1,
		})
	}
	if c.Change != nil {
		c.Change(t)
	}
	der := must(x509.CreateRevocationList(nil, t, p.Certs[c.Issuer], signerOf{p.Key(c.Issuer)}))
	if c.SignedBy != "" {
		der = p.resign(der, c.SignedBy)
	}
	return der
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
