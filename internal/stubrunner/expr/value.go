// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"math"
	"strconv"
	"strings"
)

// A value is one of nil, bool, float64, string, *[Array] and *[Object].

// Array is an ordered list of values.
type Array struct {
	// Items are the values.
	Items []any

	filtered bool // the result of ".*": a following property applies to each item
}

// Object is an ordered mapping. Names are found without regard to case unless the object was made by
// [NewCaseSensitive]; the spelling of the first write is kept.
type Object struct {
	exact bool
	keys  []string
	index map[string]int
	vals  []any
}

// NewObject returns an empty mapping with names that ignore case.
func NewObject() *Object { return &Object{index: map[string]int{}} }

// NewCaseSensitive returns an empty mapping with exact names, as the env context has.
func NewCaseSensitive() *Object { return &Object{exact: true, index: map[string]int{}} }

func (o *Object) fold(name string) string {
	if o.exact {
		return name
	}
	return strings.ToLower(name)
}

// Set writes a value under a name.
func (o *Object) Set(name string, value any) {
	k := o.fold(name)
	if i, ok := o.index[k]; ok {
		o.vals[i] = value
		return
	}
	o.index[k] = len(o.keys)
	o.keys = append(o.keys, name)
	o.vals = append(o.vals, value)
}

// Get returns the value under a name and whether there is one.
func (o *Object) Get(name string) (any, bool) {
	if o == nil {
		return nil, false
	}
	i, ok := o.index[o.fold(name)]
	if !ok {
		return nil, false
	}
	return o.vals[i], true
}

// Text returns the value under a name as text; absent is empty.
func (o *Object) Text(name string) string {
	v, _ := o.Get(name)
	return ToString(v)
}

// Keys returns the names in the order of their first write.
func (o *Object) Keys() []string {
	if o == nil {
		return nil
	}
	return append([]string(nil), o.keys...)
}

// Len is the number of names.
func (o *Object) Len() int {
	if o == nil {
		return 0
	}
	return len(o.keys)
}

// Clone returns a copy that shares the values.
func (o *Object) Clone() *Object {
	c := &Object{exact: o.exact, index: make(map[string]int, len(o.index))}
	for i, k := range o.keys {
		c.Set(k, o.vals[i])
	}
	return c
}

// Truthy reports whether a value counts as true: not null, false, 0, NaN or the empty string.
func Truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case float64:
		return v != 0 && !math.IsNaN(v)
	case string:
		return v != ""
	default:
		return true
	}
}

func primitive(v any) bool {
	switch v.(type) {
	case nil, bool, float64, string:
		return true
	default:
		return false
	}
}

// ToString converts a value as an expression does when it is put into text.
func ToString(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return formatNumber(v)
	case string:
		return v
	case *Array:
		return "Array"
	default:
		return "Object"
	}
}

// ToNumber converts a value as the comparison of unlike kinds does: null is 0, false is 0, true is 1, text follows the
// Number function of JavaScript, anything else is NaN.
func ToNumber(v any) float64 {
	switch v := v.(type) {
	case nil:
		return 0
	case bool:
		if v {
			return 1
		}
		return 0
	case float64:
		return v
	case string:
		return parseNumber(v)
	default:
		return math.NaN()
	}
}

func formatNumber(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	default:
		return strconv.FormatFloat(f, 'G', 15, 64)
	}
}

func parseNumber(s string) float64 {
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		return 0
	case s == "Infinity":
		return math.Inf(1)
	case s == "-Infinity":
		return math.Inf(-1)
	case strings.HasPrefix(s, "0x"):
		return parseInteger(s[2:], 16)
	case strings.HasPrefix(s, "0o"):
		return parseInteger(s[2:], 8)
	case strings.ContainsAny(s, "_xXpPiInN"): // spellings Go accepts and JavaScript does not
		return math.NaN()
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(f, 0) {
		return math.NaN()
	}
	return f
}

func parseInteger(digits string, base int) float64 {
	u, err := strconv.ParseUint(digits, base, 32)
	if err != nil {
		return math.NaN()
	}
	return float64(int32(u)) //nolint:gosec // GitHub reads the digits as a signed 32 bit number.
}
