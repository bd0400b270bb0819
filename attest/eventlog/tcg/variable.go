// SPDX-License-Identifier: Apache-2.0

package tcg

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
)

// GUID is a GUID as it lies in memory: the first three fields little-endian.
type GUID [16]byte

// String gives the usual form, for example 8be4df61-93ca-11d2-aa0d-00e098032b8c.
func (g GUID) String() string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(g[:]), binary.LittleEndian.Uint16(g[4:]),
		binary.LittleEndian.Uint16(g[6:]), g[8:10], g[10:])
}

// Variable is a UEFI variable that was measured with a value.
type Variable struct {
	Event           int    // number of the event
	Register        int    // PCR or RTMR
	Type            Type   // the log's word
	Vendor          GUID   // zeros if the digest does not cover it
	Name            string // empty if the digest does not cover it
	Value           []byte
	BeforeSeparator bool
}

const (
	variableFixed = 16 + 8 + 8 // UEFI_VARIABLE_DATA: GUID, length of the name in characters, length of the value
	maxNameChars  = 512
)

// parseVariable reads a UEFI_VARIABLE_DATA that fills b exactly (PFP, section 10.2.6).
func parseVariable(b []byte) (Variable, bool) {
	if len(b) < variableFixed {
		return Variable{}, false
	}
	chars, size := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
	rest := uint64(len(b[variableFixed:]))
	if chars > maxNameChars || rest < 2*chars || rest-2*chars != size {
		return Variable{}, false
	}
	name, ok := text16(b[variableFixed : variableFixed+2*chars])
	if !ok {
		return Variable{}, false
	}
	return Variable{Vendor: GUID(b[:16]), Name: name, Value: b[variableFixed+2*chars:]}, true
}

// variableData is the inverse of parseVariable.
func variableData(vendor GUID, name string, value []byte) []byte {
	chars := utf16.Encode([]rune(name))
	b := append([]byte(nil), vendor[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(chars)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	for _, c := range chars {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return append(b, value...)
}

// text16 decodes UTF-16LE without NUL and without halves of a pair.
func text16(b []byte) (string, bool) {
	if len(b)%2 != 0 {
		return "", false
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	s := string(utf16.Decode(units))
	if strings.ContainsRune(s, 0) || len(utf16.Encode([]rune(s))) != len(units) || strings.ContainsRune(s, '\uFFFD') {
		return "", false
	}
	return s, true
}

// string16 decodes UTF-16LE that one NUL ends.
func string16(b []byte) (string, bool) {
	if len(b) < 4 || len(b)%2 != 0 || b[len(b)-1] != 0 || b[len(b)-2] != 0 {
		return "", false
	}
	return text16(b[:len(b)-2])
}

func isString16(b []byte) bool {
	_, ok := string16(b)
	return ok
}

// Signature is one entry of a signature database (UEFI 2.10, section 32.4.1 "Signature Database").
type Signature struct {
	Type  GUID   // what Data is, for example EFI_CERT_X509_GUID
	Owner GUID   // who put it there
	Data  []byte // a certificate in DER, or a hash
}

const (
	listFixed  = 16 + 4 + 4 + 4 // EFI_SIGNATURE_LIST: type, its size, size of its header, size of an entry
	ownerFixed = 16             // EFI_SIGNATURE_DATA: owner
)

// Signatures reads the value of PK, KEK, db or dbx: EFI_SIGNATURE_LIST structures to the last byte. No type of
// signature that UEFI defines has a header in its list, so a list with one is refused, not skipped over and not read
// as entries (CWE-20, GHSA-9r4w-jg96-92mv). Errors are refusals with code malformed.
func (v Variable) Signatures() ([]Signature, error) {
	var out []Signature
	for b := v.Value; len(b) > 0; {
		if len(b) < listFixed {
			return nil, malformed(at(v.Event, "whole signature lists"), fmt.Sprintf("%d bytes more", len(b)))
		}
		size, header, entry := binary.LittleEndian.Uint32(b[16:]), binary.LittleEndian.Uint32(b[20:]), binary.LittleEndian.Uint32(b[24:])
		if size < listFixed || uint64(size) > uint64(len(b)) {
			return nil, malformed(at(v.Event, "a signature list inside its variable"), fmt.Sprintf("%d bytes", size))
		}
		if header != 0 {
			return nil, malformed(at(v.Event, "a signature list without a header of its own"), fmt.Sprintf("%d bytes of it", header))
		}
		if entry <= ownerFixed || (size-listFixed)%entry != 0 {
			return nil, malformed(at(v.Event, "entries of one size"), fmt.Sprintf("%d bytes in a list of %d", entry, size))
		}
		for body := b[listFixed:size]; len(body) > 0; body = body[entry:] {
			out = append(out, Signature{
				Type: GUID(b[:16]), Owner: GUID(body[:ownerFixed]), Data: bytes.Clone(body[ownerFixed:entry]),
			})
		}
		b = b[size:]
	}
	return out, nil
}
