// SPDX-License-Identifier: Apache-2.0

package tdxtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// AttestationKey is the name of the quoting enclave's key, see [PKI.Key].
const AttestationKey = "attestation key"

// Body is a TD report, in the order of its bytes. The last two fields are those of TDX 1.5.
type Body struct {
	TEETCBSVN                                [16]byte
	MRSEAM, MRSignerSEAM                     [48]byte
	SEAMAttributes                           [8]byte
	Attributes, XFAM                         uint64
	MRTD, MRConfigID, MROwner, MROwnerConfig [48]byte
	RTMR                                     [4][48]byte
	ReportData                               [64]byte
	TEETCBSVN2                               [16]byte
	MRServiceTD                              [48]byte
}

// Enclave is what a test may want of the quoting enclave's report.
type Enclave struct {
	MiscSelect uint32
	Attributes [16]byte
	MRSigner   [32]byte
	Product    uint16
	SVN        uint16
}

// Quote describes a quote. [NewQuote] gives a good one.
type Quote struct {
	Version   uint16
	KeyType   uint16
	TEE       uint32
	Reserved  uint32
	Vendor    [16]byte
	UserData  [20]byte
	BodyType  uint16 // 2 (TDX 1.0) or 3 (TDX 1.5); version 4 has the body of 2 and no descriptor
	Body      Body
	Enclave   Enclave
	Auth      []byte
	Chain     []byte              // PEM; nil for the platform's own
	CertType  uint16              // 6
	ChainType uint16              // 5
	Padding   int                 // zeros behind the quote
	QEReport  func(report []byte) // changes the report before the PCK signs it
	Signer    string              // name of the key that signs the quote
	QESigner  string              // name of the key that signs the QE report
	BoundKey  string              // name of the key that the QE report binds
}

// NewQuote gives the description of a quote of version 4 that meets the strict floor with the collateral of
// [PKI.NewCollateral].
func NewQuote() Quote {
	q := Quote{
		Version: 4, KeyType: 2, TEE: 0x81, BodyType: 2, Auth: []byte("quoting enclave"), CertType: 6, ChainType: 5,
		Vendor: [16]byte(unhex("939a7233f79c4ca9940a0db3957f0607")),
		Enclave: Enclave{
			Attributes: [16]byte{0x15, 8: 0xe7}, Product: 2, SVN: 6,
			MRSigner: [32]byte(unhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5")),
		},
		Signer: AttestationKey, QESigner: PCKLeaf, BoundKey: AttestationKey,
	}
	q.Body = Body{TEETCBSVN: [16]byte{6, 1, 3}, Attributes: 1 << 28, XFAM: 0x602e7, TEETCBSVN2: [16]byte{6, 1, 3}}
	for i, m := range []*[48]byte{
		&q.Body.MRTD, &q.Body.MRSEAM, &q.Body.RTMR[0], &q.Body.RTMR[1], &q.Body.RTMR[2], &q.Body.RTMR[3],
	} {
		m[0] = byte(i + 1)
	}
	copy(q.Body.ReportData[:], "report data")
	return q
}

// Quote signs a quote.
func (p *PKI) Quote(q Quote) []byte {
	le := binary.LittleEndian
	signed := le.AppendUint16(nil, q.Version)
	signed = le.AppendUint16(signed, q.KeyType)
	signed = le.AppendUint32(signed, q.TEE)
	signed = le.AppendUint32(signed, q.Reserved)
	signed = append(append(signed, q.Vendor[:]...), q.UserData[:]...)
	body := must(binary.Append(nil, le, q.Body))
	if q.BodyType != 3 {
		body = body[:584]
	}
	if q.Version == 5 {
		signed = le.AppendUint16(signed, q.BodyType)
		signed = le.AppendUint32(signed, uint32(len(body))) //nolint:gosec // 584 or 648
	}
	signed = append(signed, body...)

	certification := p.certification(q)
	data := append(p.Sign(q.Signer, signed), p.point(AttestationKey)...)
	data = le.AppendUint16(data, q.CertType)
	data = le.AppendUint32(data, uint32(len(certification))) //nolint:gosec // some thousands
	data = append(data, certification...)
	out := le.AppendUint32(signed, uint32(len(data))) //nolint:gosec // some thousands
	return append(append(out, data...), make([]byte, q.Padding)...)
}

// certification gives the data of type 6: QE report, signature, authentication data and the data of type 5.
func (p *PKI) certification(q Quote) []byte {
	le := binary.LittleEndian
	report := make([]byte, 384)
	copy(report, p.SVNs[:])
	le.PutUint32(report[16:], q.Enclave.MiscSelect)
	copy(report[48:], q.Enclave.Attributes[:])
	copy(report[128:], q.Enclave.MRSigner[:])
	le.PutUint16(report[256:], q.Enclave.Product)
	le.PutUint16(report[258:], q.Enclave.SVN)
	binding := sha256.Sum256(append(p.point(q.BoundKey), q.Auth...))
	copy(report[320:], binding[:])
	if q.QEReport != nil {
		q.QEReport(report)
	}
	chain := q.Chain
	if chain == nil {
		chain = append(p.PEM(PCKLeaf, PCKCA, Root), 0)
	}
	out := append(bytes.Clone(report), p.Sign(q.QESigner, report)...)
	out = le.AppendUint16(out, uint16(len(q.Auth))) //nolint:gosec // a few bytes
	out = append(out, q.Auth...)
	out = le.AppendUint16(out, q.ChainType)
	out = le.AppendUint32(out, uint32(len(chain))) //nolint:gosec // some thousands
	return append(out, chain...)
}

// point gives x and y of the named key.
func (p *PKI) point(name string) []byte { return must(p.Key(name).PublicKey.Bytes())[1:] }

func unhex(s string) []byte { return must(hex.DecodeString(s)) }
