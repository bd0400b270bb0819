// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// maxDepth bounds the nesting of JSON text read by [FromJSON].
const maxDepth = 100

// FromJSON reads one JSON value and keeps the order of its members.
func FromJSON(text []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	v, err := readJSON(dec, 0)
	if err != nil {
		return nil, fmt.Errorf("reading json: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("reading json: data after the value")
	}
	return v, nil
}

func readJSON(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("more than %d levels", maxDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return tok, nil // nil, bool, float64 or string
	}
	if delim == '[' {
		arr := &Array{}
		for dec.More() {
			item, err := readJSON(dec, depth+1)
			if err != nil {
				return nil, err
			}
			arr.Items = append(arr.Items, item)
		}
		_, err := dec.Token()
		return arr, err
	}
	obj := NewObject()
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, ok := key.(string)
		if !ok {
			return nil, fmt.Errorf("member name %v is not text", key)
		}
		value, err := readJSON(dec, depth+1)
		if err != nil {
			return nil, err
		}
		obj.Set(name, value)
	}
	_, err = dec.Token()
	return obj, err
}

// ToJSON writes a value as GitHub's toJSON does: two spaces a level, members in order.
func ToJSON(v any) string {
	var b strings.Builder
	writeJSON(&b, v, "\n")
	return b.String()
}

func writeJSON(b *strings.Builder, v any, newline string) {
	inner := newline + "  "
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			b.WriteString(quote(formatNumber(v)))
			return
		}
		b.WriteString(formatNumber(v))
	case string:
		b.WriteString(quote(v))
	case *Array:
		b.WriteString("[")
		for i, item := range v.Items {
			b.WriteString(separator(i) + inner)
			writeJSON(b, item, inner)
		}
		closeJSON(b, len(v.Items), newline, "]")
	case *Object:
		b.WriteString("{")
		for i, k := range v.keys {
			b.WriteString(separator(i) + inner + quote(k) + ": ")
			writeJSON(b, v.vals[i], inner)
		}
		closeJSON(b, len(v.keys), newline, "}")
	default:
		b.WriteString(ToString(v))
	}
}

func separator(i int) string {
	if i == 0 {
		return ""
	}
	return ","
}

func closeJSON(b *strings.Builder, n int, newline, end string) {
	if n > 0 {
		b.WriteString(newline)
	}
	b.WriteString(end)
}

func quote(s string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil { // a string always encodes
		return `""`
	}
	return strings.TrimSuffix(b.String(), "\n")
}
