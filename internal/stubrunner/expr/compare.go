// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"cmp"
	"math"
	"strings"
)

// Equal compares two values as the operator == does.
func Equal(a, b any) bool {
	a, b = coerce(a, b)
	switch l := a.(type) {
	case nil:
		return b == nil
	case bool:
		r, ok := b.(bool)
		return ok && l == r
	case float64:
		r, ok := b.(float64)
		return ok && l == r
	case string:
		r, ok := b.(string)
		return ok && strings.EqualFold(l, r)
	default:
		return a == b // the same object or array
	}
}

// order returns -1, 0 or 1, and false when the two values have no order.
func order(a, b any) (int, bool) {
	a, b = coerce(a, b)
	switch l := a.(type) {
	case float64:
		r, ok := b.(float64)
		if !ok || math.IsNaN(l) || math.IsNaN(r) {
			return 0, false
		}
		return cmp.Compare(l, r), true
	case string:
		r, ok := b.(string)
		if !ok {
			return 0, false
		}
		return strings.Compare(strings.ToUpper(l), strings.ToUpper(r)), true
	case bool:
		r, ok := b.(bool)
		if !ok {
			return 0, false
		}
		return cmp.Compare(ToNumber(l), ToNumber(r)), true
	default:
		return 0, false
	}
}

// coerce brings two primitive values of unlike kinds to numbers. Objects and arrays stay as they are.
func coerce(a, b any) (any, any) {
	if kind(a) == kind(b) {
		return a, b
	}
	switch {
	case kind(a) == kindNumber && kind(b) == kindString:
		return a, ToNumber(b)
	case kind(a) == kindString && kind(b) == kindNumber:
		return ToNumber(a), b
	case kind(a) == kindBool || kind(a) == kindNull:
		return coerce(ToNumber(a), b)
	case kind(b) == kindBool || kind(b) == kindNull:
		return coerce(a, ToNumber(b))
	default:
		return a, b
	}
}

type valueKind int

const (
	kindNull valueKind = iota
	kindBool
	kindNumber
	kindString
	kindArray
	kindObject
)

func kind(v any) valueKind {
	switch v.(type) {
	case nil:
		return kindNull
	case bool:
		return kindBool
	case float64:
		return kindNumber
	case string:
		return kindString
	case *Array:
		return kindArray
	default:
		return kindObject
	}
}
