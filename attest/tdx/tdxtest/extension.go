// SPDX-License-Identifier: Apache-2.0

package tdxtest

import "encoding/asn1"

// Entry is one entry of the SGX extension: an arc below its parent, and a value for encoding/asn1.
type Entry struct {
	Arc   int
	Value any
}

// SGXExtension gives the value of the SGX extension for a platform.
func SGXExtension(c Config) []byte { return EncodeExtension(SGXEntries(c)) }

// SGXEntries gives its entries, for a test to change.
func SGXEntries(c Config) []Entry {
	tcb := make([]Entry, 0, 18)
	for i, svn := range c.SVNs {
		tcb = append(tcb, Entry{i + 1, int(svn)})
	}
	tcb = append(tcb, Entry{17, int(c.PCESVN)}, Entry{18, c.SVNs[:]})
	return []Entry{
		{1, c.PPID[:]}, {2, tcb}, {3, c.PCEID[:]}, {4, c.FMSPC[:]}, {5, asn1.Enumerated(1)},
		{6, make([]byte, 16)}, {7, []Entry{{1, true}, {2, true}, {3, false}}},
	}
}

// EncodeExtension writes entries below 1.2.840.113741.1.13.1.
func EncodeExtension(entries []Entry) []byte {
	return encode(asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}, entries)
}

func encode(at asn1.ObjectIdentifier, entries []Entry) []byte {
	type pair struct {
		ID    asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	list := make([]pair, 0, len(entries))
	for _, e := range entries {
		id := append(append(asn1.ObjectIdentifier{}, at...), e.Arc)
		var value []byte
		if below, ok := e.Value.([]Entry); ok {
			value = encode(id, below)
		} else {
			value = must(asn1.Marshal(e.Value))
		}
		list = append(list, pair{id, asn1.RawValue{FullBytes: value}})
	}
	return must(asn1.Marshal(list))
}
