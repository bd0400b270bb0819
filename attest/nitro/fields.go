// SPDX-License-Identifier: Apache-2.0

package nitro

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kettle/attest/attest/refusal"
)

// The names of the fields (PROCESS 2.2; TPMGUIDE, "Attestation Document specification").
const (
	fieldModuleID    = "module_id"
	fieldDigest      = "digest"
	fieldTimestamp   = "timestamp"
	fieldPCRs        = "pcrs"
	fieldTPMPCRs     = "nitrotpm_pcrs"
	fieldCertificate = "certificate"
	fieldCABundle    = "cabundle"
	fieldPublicKey   = "public_key"
	fieldUserData    = "user_data"
	fieldNonce       = "nonce"
)

// The sizes of the fields (PROCESS 3.2.2.2). PROCESS 2.2 allows user data and nonce 1024 bytes; the check that AWS tells
// validators to make is the narrower one.
const (
	registers      = 32
	registerSize   = 48
	maxCertificate = 1024
	maxPublicKey   = 1024
	maxUserData    = 512
	maxNonce       = 512
	maxModuleID    = 1024

	// maxTimestamp is the end of the year 9999 in milliseconds: what lies behind it cannot be printed as a date.
	maxTimestamp = 253_402_300_799_999
)

// fields is a payload whose syntax was checked.
type fields struct {
	seen        []string
	moduleID    string
	timestamp   uint64
	tpm         bool
	selected    uint32 // bit i: register i is in the document
	pcrs        [registers][registerSize]byte
	certificate []byte
	caBundle    [][]byte
	publicKey   []byte // nil if absent, like the two below
	userData    []byte
	nonce       []byte
}

// parseFields checks every rule of PROCESS 3.2.2. Null is absence for the optional fields, as AWS writes it.
func parseFields(payload []byte) (*fields, error) {
	f := new(fields)
	if err := walkFields(payload, f.set); err != nil {
		return nil, err
	}
	for _, name := range [...]string{fieldModuleID, fieldDigest, fieldTimestamp, fieldCertificate, fieldCABundle} {
		if !slices.Contains(f.seen, name) {
			return nil, malformed("a document with "+name, "none")
		}
	}
	if f.selected == 0 {
		return nil, malformed("a document with "+fieldPCRs+" or "+fieldTPMPCRs, "neither")
	}
	return f, nil
}

func (f *fields) set(name string, value any) *refusal.Refusal {
	if slices.Contains(f.seen, name) {
		return malformed("each field once", printable(name)+" twice")
	}
	f.seen = append(f.seen, name)
	switch name {
	case fieldModuleID, fieldDigest:
		return f.setText(name, value)
	case fieldTimestamp:
		return f.setTimestamp(value)
	case fieldPCRs, fieldTPMPCRs:
		return f.setPCRs(name, value)
	case fieldCertificate:
		return setBytes(&f.certificate, name, value, 1, maxCertificate)
	case fieldCABundle:
		return f.setBundle(value)
	case fieldPublicKey:
		return setOptional(&f.publicKey, name, value, 1, maxPublicKey)
	case fieldUserData:
		return setOptional(&f.userData, name, value, 0, maxUserData)
	case fieldNonce:
		return setOptional(&f.nonce, name, value, 0, maxNonce)
	}
	return malformed("the fields that AWS defines and no other", printable(name))
}

func (f *fields) setText(name string, value any) *refusal.Refusal {
	text, ok := value.(string)
	switch {
	case !ok || text == "" || len(text) > maxModuleID:
		return malformed(fmt.Sprintf("%s of 1 to %d bytes of text", name, maxModuleID), described(value))
	case name == fieldModuleID:
		f.moduleID = text
	case text != "SHA384":
		return malformed("the digest SHA384", printable(text))
	}
	return nil
}

func (f *fields) setTimestamp(value any) *refusal.Refusal {
	ms, ok := value.(uint64)
	if !ok || ms == 0 || ms > maxTimestamp {
		return malformed("a timestamp in milliseconds after 1970 and before 10000", described(value))
	}
	f.timestamp = ms
	return nil
}

// setPCRs reads the registers. PROCESS allows values of 32, 48 and 64 bytes, of which only 48 can be of digest SHA384.
func (f *fields) setPCRs(name string, value any) *refusal.Refusal {
	pcrs, ok := value.(map[any]any)
	switch {
	case f.selected != 0:
		return malformed("the registers of an enclave or of a TPM", "both")
	case !ok || len(pcrs) == 0 || len(pcrs) > registers:
		return malformed(fmt.Sprintf("%s, a map of 1 to %d registers", name, registers), described(value))
	}
	for key, entry := range pcrs {
		index, ok := key.(uint64)
		if !ok || index >= registers {
			return malformed(fmt.Sprintf("registers numbered 0 to %d", registers-1), described(key))
		}
		pcr, ok := entry.([]byte)
		if !ok || len(pcr) != registerSize {
			return malformed(fmt.Sprintf("%d bytes in register %d", registerSize, index), described(entry))
		}
		f.pcrs[index] = [registerSize]byte(pcr)
		f.selected |= 1 << index
	}
	f.tpm = name == fieldTPMPCRs
	return nil
}

func (f *fields) setBundle(value any) *refusal.Refusal {
	entries, ok := value.([]any)
	if !ok || len(entries) == 0 || len(entries) > maxBundle {
		return malformed(fmt.Sprintf("%s, an array of 1 to %d certificates", fieldCABundle, maxBundle), described(value))
	}
	f.caBundle = make([][]byte, len(entries))
	for i, entry := range entries {
		if fault := setBytes(&f.caBundle[i], fmt.Sprintf("%s[%d]", fieldCABundle, i), entry, 1, maxCertificate); fault != nil {
			return fault
		}
	}
	return nil
}

func setOptional(to *[]byte, name string, value any, least, most int) *refusal.Refusal {
	if value == nil {
		return nil
	}
	return setBytes(to, name, value, least, most)
}

func setBytes(to *[]byte, name string, value any, least, most int) *refusal.Refusal {
	b, ok := value.([]byte)
	if !ok || len(b) < least || len(b) > most {
		return malformed(fmt.Sprintf("%s of %d to %d bytes", name, least, most), described(value))
	}
	*to = b
	return nil
}

// described says what a value is without repeating it.
func described(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case []byte:
		return fmt.Sprintf("%d bytes", len(v))
	case string:
		return fmt.Sprintf("text of %d bytes", len(v))
	case []any:
		return fmt.Sprintf("an array of %d", len(v))
	case map[any]any:
		return fmt.Sprintf("a map of %d", len(v))
	case uint64:
		return fmt.Sprintf("%d", v)
	}
	return "a value of type " + strings.TrimPrefix(fmt.Sprintf("%T", value), "cbor.")
}
