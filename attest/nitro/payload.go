// SPDX-License-Identifier: Apache-2.0

package nitro

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/kettle/attest/attest/refusal"
)

const (
	openMap    = 0xbf // a map of indefinite length
	closeMap   = 0xff
	null       = 0xf6
	emptyMap   = 0xa0
	fullestMap = 0xb7 // a map of 23 pairs, the most that one byte can say

	// Fields are flat but for the registers and the bundle; the library's own lower limits are these.
	maxNesting = 4
	maxItems   = 16
	maxPairs   = registers
)

// strictCBOR reads one item into the Go type of its CBOR type (unsigned: uint64, bytes: []byte, text: string, array:
// []any, map: map[any]any, null: nil), so that a type switch tells them apart. Repeated keys, indefinite lengths, tags and
// text that is no UTF-8 are refused. The library allocates only after it has seen all of an item.
func strictCBOR() (cbor.DecMode, error) {
	return cbor.DecOptions{
		DupMapKey:       cbor.DupMapKeyEnforcedAPF,
		IndefLength:     cbor.IndefLengthForbidden,
		TagsMd:          cbor.TagsForbidden,
		UTF8:            cbor.UTF8RejectInvalid,
		MaxNestedLevels: maxNesting, MaxArrayElements: maxItems, MaxMapPairs: maxPairs,
	}.DecMode()
}

// walkFields calls visit for each field of a payload, in order, until one refuses. AWS writes the map of fields with a
// definite length on some of its hosts and with an indefinite one on others; that one place is open, and nothing below
// it.
func walkFields(payload []byte, visit func(name string, value any) *refusal.Refusal) error {
	mode, err := strictCBOR()
	if err != nil {
		return fmt.Errorf("setting up the CBOR reader: %w", err)
	}
	head, rest := payload[0], payload[1:]
	if head != openMap && (head < emptyMap || head > fullestMap) {
		return malformed("a payload that is a map of fields", fmt.Sprintf("a first byte of %#x", head))
	}
	for left := int(head) - emptyMap; ; left-- {
		if head == openMap && len(rest) > 0 && rest[0] == closeMap {
			rest = rest[1:]
			break
		}
		if head != openMap && left == 0 {
			break
		}
		var name, value any
		if rest, err = mode.UnmarshalFirst(rest, &name); err != nil {
			return malformed("the name of a field in strict CBOR", "something else").Because(err)
		}
		text, ok := name.(string)
		if !ok {
			return malformed("fields named by text", fmt.Sprintf("a name of type %T", name))
		}
		before := rest
		if rest, err = mode.UnmarshalFirst(rest, &value); err != nil {
			return malformed("a value of "+printable(text)+" in strict CBOR", "something else").Because(err)
		}
		if value == nil && before[0] != null { // the library reads undefined as null
			return malformed("null where "+printable(text)+" is absent", "undefined")
		}
		if fault := visit(text, value); fault != nil {
			return fault
		}
	}
	if len(rest) != 0 {
		return malformed("a payload that ends with its map", fmt.Sprintf("%d bytes more", len(rest)))
	}
	return nil
}
