// SPDX-License-Identifier: Apache-2.0

package tdx

// der reads DER (X.690) from the front: one element at a time, of exactly the tag that is expected, with minimal
// lengths. encoding/asn1 would do it too, at ten times the price and with more than one reading of a length.
type der struct {
	rest []byte
}

const (
	tagBoolean    = 0x01
	tagInteger    = 0x02
	tagOctets     = 0x04
	tagOID        = 0x06
	tagEnumerated = 0x0a
	tagSequence   = 0x30
)

// next gives the content of the next element, or false when it has another tag, a length that is not minimal, or is
// longer than what is there.
func (d *der) next(tag byte) ([]byte, bool) {
	b := d.rest
	if len(b) < 2 || b[0] != tag {
		return nil, false
	}
	size, head := int(b[1]), 2
	switch {
	case size < 0x80:
	case size == 0x81 && len(b) > 2 && b[2] >= 0x80:
		size, head = int(b[2]), 3
	case size == 0x82 && len(b) > 3 && b[2] != 0:
		size, head = int(b[2])<<8|int(b[3]), 4
	default: // nothing that is read here is longer than 65535 bytes
		return nil, false
	}
	if len(b)-head < size {
		return nil, false
	}
	d.rest = b[head+size:]
	return b[head : head+size], true
}

// only gives the content of an element that nothing follows.
func (d *der) only(tag byte) ([]byte, bool) {
	content, ok := d.next(tag)
	return content, ok && len(d.rest) == 0
}

// unsigned reads a non-negative INTEGER or ENUMERATED that nothing follows, up to 65535.
func (d *der) unsigned(tag byte) (uint16, bool) {
	b, ok := d.only(tag)
	if !ok || len(b) == 0 || len(b) > 3 || b[0] >= 0x80 || (len(b) > 1 && b[0] == 0 && b[1] < 0x80) || (len(b) == 3 && b[0] != 0) {
		return 0, false
	}
	n := 0
	for _, v := range b {
		n = n<<8 | int(v)
	}
	return uint16(n), true
}

// octets reads an OCTET STRING of exactly len(to) bytes that nothing follows.
func (d *der) octets(to []byte) bool {
	b, ok := d.only(tagOctets)
	return ok && len(b) == len(to) && copy(to, b) == len(to)
}

// boolean reads a BOOLEAN that nothing follows.
func (d *der) boolean() (value, ok bool) {
	b, ok := d.only(tagBoolean)
	if !ok || len(b) != 1 || (b[0] != 0 && b[0] != 0xff) {
		return false, false
	}
	return b[0] != 0, true
}
