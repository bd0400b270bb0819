// SPDX-License-Identifier: Apache-2.0

package snptest

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
)

// The GUIDs of AMD 56421, and that of a provider's launch endorsement.
const (
	GUIDVCEK  = "63da758d-e664-4564-adc5-f4b93be8accd"
	GUIDVLEK  = "a8074bc2-a25a-483e-aae6-39c045a0b8a1"
	GUIDASK   = "4ab7b379-bbac-4fe4-a02f-05aef327c782"
	GUIDARK   = "c0b406a4-a803-4952-9743-3fb6014cd0ae"
	GUIDCRL   = "92f81bc3-5811-4d3d-97ff-d19f88dc67ea"
	GUIDOther = "9f4116cd-c503-4f5a-8f6f-fb68882f4ce2"
)

// Entry is one certificate of a table.
type Entry struct {
	GUID string
	Data []byte
}

// CertTable gives the certificate table of the machine as a host would: leaf, intermediate and root in DER, padded to a
// page of 4096 bytes.
func (m *Machine) CertTable(t testing.TB, more ...Entry) []byte {
	t.Helper()
	leaf := GUIDVCEK
	if m.Key == "VLEK" {
		leaf = GUIDVLEK
	}
	return EncodeCertTable(t, append([]Entry{{leaf, m.LeafDER(t)}, {GUIDASK, m.ASKDER(t)}, {GUIDARK, m.ARKDER(t)}}, more...)...)
}

// EncodeCertTable writes a table with the given entries, padded to a page.
func EncodeCertTable(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	at := (len(entries) + 1) * 24
	head, body := make([]byte, 0, at), []byte(nil)
	for _, e := range entries {
		guid, err := hex.DecodeString(strings.ReplaceAll(e.GUID, "-", ""))
		if err != nil || len(guid) != 16 {
			t.Fatalf("GUID %q", e.GUID)
		}
		head = append(head, guid...)
		for _, n := range []int{at + len(body), len(e.Data)} {
			head = binary.LittleEndian.AppendUint32(head, uint32(n)) //nolint:gosec // tests write small tables.
		}
		body = append(body, e.Data...)
	}
	table := append(append(head, make([]byte, 24)...), body...)
	const page = 4096
	return append(table, make([]byte, (page-len(table)%page)%page)...)
}
