// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"

	"github.com/kettle/attest/attest/refusal"
)

// GUID is a GUID as the certificate table holds it: 16 bytes in the order of its text.
type GUID [16]byte

// String gives the GUID in lower case, for example "63da758d-e664-4564-adc5-f4b93be8accd".
func (g GUID) String() string {
	h := hex.EncodeToString(g[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// The entries that AMD 56421 "SEV-ES Guest-Hypervisor Communication Block Standardization" names for SNP_GUEST_REQUEST.
// An ASVK comes under the ASK's.
const (
	guidVCEK = "63da758d-e664-4564-adc5-f4b93be8accd"
	guidVLEK = "a8074bc2-a25a-483e-aae6-39c045a0b8a1"
	guidASK  = "4ab7b379-bbac-4fe4-a02f-05aef327c782"
	guidARK  = "c0b406a4-a803-4952-9743-3fb6014cd0ae"
	guidCRL  = "92f81bc3-5811-4d3d-97ff-d19f88dc67ea"
)

const (
	tableEntrySize     = 24 // GUID, offset u32, length u32
	maxTableEntries    = 32
	maxCertTableBytes  = 1 << 20
	nextRightCertTable = "ask the machine's operator for a correct certificate table, or get the certificate from AMD's key distribution service"
)

// CertTable is the certificate table that a host gives with a report: the auxblob of configfs-tsm, or what follows the
// report in an extended report. The host wrote it and nobody signed it. Of what is in it, only the leaf is of use to
// [Verify]; ASK and ARK are shown and never trusted. Fields the host left out are nil. Values are copies.
type CertTable struct {
	VCEK, VLEK, ASK, ARK, CRL []byte
	Others                    []CertTableEntry // in the order of the table
}

// CertTableEntry is an entry under a GUID that this package does not know, for example a provider's launch endorsement.
type CertTableEntry struct {
	GUID GUID
	Data []byte
}

// ParseCertTable reads a certificate table (AMD 56421, table "SNP Extended Guest Request certificate table"). An empty
// one, of no bytes or of nothing but an end, is a table without certificates. Entries that overlap the header, each
// other or the end, a GUID used twice, and a table without end are refused with code malformed. Bytes between and after
// the entries are the host's padding. An entry of length 0 says that the host has no such certificate.
func ParseCertTable(b []byte) (*CertTable, error) {
	if len(b) > maxCertTableBytes {
		return nil, malformedTable(fmt.Sprintf("at most %d bytes", maxCertTableBytes), fmt.Sprintf("%d", len(b)))
	}
	t := &CertTable{}
	if len(b) == 0 {
		return t, nil
	}
	entries, err := readTableHeader(b)
	if err != nil {
		return nil, err
	}
	header := uint64(len(entries)+1) * tableEntrySize
	for i, e := range entries {
		if e.from < header || e.to > uint64(len(b)) {
			return nil, malformedTable("entries within the table and after its header", "entry "+e.guid.String()+" elsewhere")
		}
		for _, other := range entries[:i] {
			if other.guid == e.guid {
				return nil, malformedTable("each GUID once", e.guid.String()+" twice")
			}
			if e.from < other.to && other.from < e.to {
				return nil, malformedTable("entries that do not overlap", e.guid.String()+" over "+other.guid.String())
			}
		}
		t.add(e.guid, bytes.Clone(b[e.from:e.to]))
	}
	return t, nil
}

type tableEntry struct {
	guid     GUID
	from, to uint64
}

func readTableHeader(b []byte) ([]tableEntry, error) {
	var entries []tableEntry
	for at := 0; at+tableEntrySize <= len(b); at += tableEntrySize {
		row := b[at : at+tableEntrySize]
		if allZero(row) {
			return entries, nil
		}
		if len(entries) == maxTableEntries {
			return nil, malformedTable(fmt.Sprintf("at most %d entries", maxTableEntries), "more")
		}
		from, size := uint64(binary.LittleEndian.Uint32(row[16:])), uint64(binary.LittleEndian.Uint32(row[20:]))
		e := tableEntry{guid: GUID(row[:16]), from: from, to: from + size}
		if e.guid == (GUID{}) {
			return nil, malformedTable("a GUID in each entry", "none")
		}
		entries = append(entries, e)
	}
	return nil, malformedTable("a header that ends with an entry of zeros", "no end")
}

func (t *CertTable) add(g GUID, data []byte) {
	if len(data) == 0 {
		return
	}
	switch g.String() {
	case guidVCEK:
		t.VCEK = data
	case guidVLEK:
		t.VLEK = data
	case guidASK:
		t.ASK = data
	case guidARK:
		t.ARK = data
	case guidCRL:
		t.CRL = data
	default:
		t.Others = append(t.Others, CertTableEntry{GUID: g, Data: data})
	}
}

// Leaf gives, in DER, the certificate of the kind of key that signed the report, which may be of any length from
// [ReportSize] up. The host may have put it there in DER or in PEM. Codes: malformed, endorsements-missing, and
// signature for a report that nobody signed. Nothing is verified yet. A nil table has no certificate.
func (t *CertTable) Leaf(report []byte) ([]byte, error) {
	if len(report) > ReportSize {
		report = report[:ReportSize]
	}
	f, err := parse(report)
	if err != nil {
		return nil, err
	}
	var cert []byte
	switch {
	case t == nil:
	case f.key == vlek:
		cert = t.VLEK
	default:
		cert = t.VCEK
	}
	if len(cert) == 0 {
		return nil, &refusal.Refusal{
			Link: linkEndorsements, Code: refusal.EndorsementsMissing, Want: "the " + f.key.String() + " in the certificate table",
			Got: "none", Next: nextRightLeaf,
		}
	}
	block, rest := pem.Decode(cert)
	switch {
	case block == nil:
		return cert, nil
	case block.Type != "CERTIFICATE" || len(bytes.Trim(rest, "\x00 \r\n\t")) != 0:
		return nil, malformedTable("one certificate as "+f.key.String(), "something else in PEM")
	}
	return block.Bytes, nil
}

func malformedTable(want, got string) *refusal.Refusal {
	return &refusal.Refusal{
		Link: linkEndorsements, Code: refusal.Malformed, Want: "a certificate table: " + want, Got: got, Next: nextRightCertTable,
	}
}
