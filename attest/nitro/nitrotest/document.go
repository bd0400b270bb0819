// SPDX-License-Identifier: Apache-2.0

package nitrotest

import (
	"crypto"
	"crypto/sha512"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
)

// Field is a field of a document.
type Field struct {
	Name  Item
	Value Item
}

// Document is the fields of a document in the order in which they are written.
type Document []Field

// ModuleID is the module of the documents made here.
const ModuleID = "i-0123456789abcdef0-enc0123456789abcdef"

// TPMModuleID is the module of the documents made here for an instance's TPM.
const TPMModuleID = "i-0123456789abcdef0-tpm0000000000000000"

// PCR is the value that register i has in the documents made here where it is not zero.
func PCR(i int) [48]byte { return sha512.Sum384(fmt.Appendf(nil, "nitrotest register %d", i)) }

// Registers is a map of the registers 0 to n-1: those named hold [PCR], the others zero.
func Registers(n int, measured ...int) Item {
	var items []Item
	for i := range n {
		var value [48]byte
		if slices.Contains(measured, i) {
			value = PCR(i)
		}
		items = append(items, Uint(uint64(i)), Bytes(value[:]))
	}
	return Map(items...)
}

// NewDocument describes an enclave that is not in debug mode, as AWS writes it: with null in the optional fields.
func (p *PKI) NewDocument() Document {
	return p.document(ModuleID, "pcrs", Registers(16, 0, 1, 2, 3, 4))
}

// NewTPMDocument describes an instance of an attestable AMI, whose boot was measured.
func (p *PKI) NewTPMDocument() Document {
	return p.document(TPMModuleID, "nitrotpm_pcrs", Registers(24, 0, 1, 2, 3, 4, 5, 6, 7, 11))
}

func (p *PKI) document(module, registers string, pcrs Item) Document {
	bundle := []string{Root, Regional, Zonal, Instance}
	if p.Short {
		bundle = bundle[:1]
	}
	return Document{
		{Text("module_id"), Text(module)},
		{Text("digest"), Text("SHA384")},
		{Text("timestamp"), Uint(uint64(p.Day().UnixMilli()))},
		{Text(registers), pcrs},
		{Text("certificate"), Bytes(p.Certs[Leaf].Raw)},
		{Text("cabundle"), p.Bundle(bundle...)},
		{Text("public_key"), Null()},
		{Text("user_data"), Null()},
		{Text("nonce"), Null()},
	}
}

// Bundle is an array of the named certificates.
func (p *PKI) Bundle(names ...string) Item {
	var items []Item
	for _, name := range names {
		items = append(items, Bytes(p.Certs[name].Raw))
	}
	return Array(items...)
}

// With gives a copy in which the field has that value. A field that is not there goes to the end.
func (d Document) With(name string, value Item) Document {
	out := slices.Clone(d)
	i := out.index(name)
	if i < 0 {
		return append(out, Field{Text(name), value})
	}
	out[i].Value = value
	return out
}

// Without gives a copy without the field.
func (d Document) Without(name string) Document {
	i := d.index(name)
	return slices.Delete(slices.Clone(d), i, i+1)
}

func (d Document) index(name string) int {
	return slices.IndexFunc(d, func(f Field) bool { return string(f.Name) == string(Text(name)) })
}

// Payload is the map of the fields.
func (d Document) Payload() Item {
	var items []Item
	for _, f := range d {
		items = append(items, f.Name, f.Value)
	}
	return Map(items...)
}

// The parts of a COSE_Sign1 that are the same in each.
const (
	Protected   = "\xa1\x01\x38\x22" // {1: -35}
	Unprotected = "\xa0"             // {}
)

// Sign puts a payload under the leaf's signature: a COSE_Sign1 without a tag, as AWS writes it.
func (p *PKI) Sign(payload Item) Item { return p.SignAs(Leaf, payload, []byte(Protected)) }

// SignAs signs with the key of that name, under that protected header.
func (p *PKI) SignAs(name string, payload Item, protected []byte) Item {
	structure := Array(Text("Signature1"), Bytes(protected), Bytes(nil), Bytes(payload))
	return Envelope(Bytes(protected), Item(Unprotected), Bytes(payload), Bytes(p.Signature(name, structure)))
}

// Envelope is an array of the items of a COSE_Sign1.
func Envelope(items ...Item) Item { return Array(items...) }

// Signature gives r and s of the named key's signature over a message, 48 bytes each.
func (p *PKI) Signature(name string, message []byte) []byte {
	digest := sha512.Sum384(message)
	var sig struct{ R, S *big.Int }
	must(asn1.Unmarshal(must(p.Key(name).Sign(nil, digest[:], crypto.SHA384)), &sig))
	out := make([]byte, 96)
	sig.R.FillBytes(out[:48])
	sig.S.FillBytes(out[48:])
	return out
}
