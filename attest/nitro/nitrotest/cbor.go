// SPDX-License-Identifier: Apache-2.0

package nitrotest

import (
	"encoding/binary"
	"slices"
)

// Item is one item of CBOR, or what a test passes off as one.
type Item []byte

// Null is the item null.
func Null() Item { return Item{0xf6} }

// Uint is an unsigned number.
func Uint(n uint64) Item { return head(0, n) }

// Negative is the number -1-n.
func Negative(n uint64) Item { return head(1, n) }

// Bytes is a byte string.
func Bytes(b []byte) Item { return append(head(2, uint64(len(b))), b...) }

// Text is a text string.
func Text(s string) Item { return append(head(3, uint64(len(s))), s...) }

// Array is an array of items.
func Array(items ...Item) Item {
	return append(head(4, uint64(len(items))), slices.Concat(items...)...)
}

// Map is a map of items, each key before its value.
func Map(items ...Item) Item {
	return append(head(5, uint64(len(items)/2)), slices.Concat(items...)...)
}

// Tagged is an item with a tag.
func Tagged(tag uint64, item Item) Item { return append(head(6, tag), item...) }

// Open turns an array, map or string of less than 24 items or bytes into one of indefinite length. The bytes of a
// string become its one chunk.
func Open(item Item) Item {
	const indefinite, end, major, firstContainer = 31, 0xff, 0xe0, 4
	out := Item{item[0]&major | indefinite}
	if item[0]>>5 < firstContainer {
		return append(append(out, item...), end)
	}
	return append(append(out, item[1:]...), end)
}

// Wide writes the length or number of an item of less than 24 in n bytes, 1, 2, 4 or 8, which is not the shortest form.
func Wide(item Item, n int) Item {
	const low = 0x1f
	value := uint64(item[0] & low)
	wide := binary.BigEndian.AppendUint64(nil, value)[8-n:]
	info := map[int]byte{1: 24, 2: 25, 4: 26, 8: 27}[n]
	return slices.Concat(Item{item[0]&^low | info}, wide, item[1:])
}

// head writes major type and argument in the shortest form.
func head(major byte, n uint64) Item {
	major <<= 5
	switch {
	case n < 24:
		return Item{major | byte(n)}
	case n <= 0xff:
		return Item{major | 24, byte(n)}
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(Item{major | 25}, uint16(n))
	case n <= 0xffffffff:
		return binary.BigEndian.AppendUint32(Item{major | 26}, uint32(n))
	}
	return binary.BigEndian.AppendUint64(Item{major | 27}, n)
}
