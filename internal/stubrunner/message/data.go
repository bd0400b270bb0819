// SPDX-License-Identifier: Apache-2.0

package message

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/kettle/attest/internal/stubrunner/expr"
)

// Data is a value of context data: {"t":0,"s":…} text, {"t":1,"a":[…]} array, {"t":2,"d":[{"k":…,"v":…}]} mapping,
// {"t":3,"b":…} boolean, {"t":4,"n":…} number, {"t":5,…} mapping with exact names; plain values stand for themselves.
type Data struct {
	// Value is in the form of package expr.
	Value any
}

type dataWire struct {
	Type   int     `json:"t"`
	Text   *string `json:"s"`
	Bool   bool    `json:"b"`
	Number float64 `json:"n"`
	Array  []Data  `json:"a"`
	Dict   []struct {
		Key   string `json:"k"`
		Value Data   `json:"v"`
	} `json:"d"`
}

// UnmarshalJSON reads the wire form.
func (d *Data) UnmarshalJSON(raw []byte) error {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || raw[0] != '{' {
		v, err := expr.FromJSON(raw)
		if err != nil {
			return fmt.Errorf("reading context data: %w", err)
		}
		if _, isArray := v.(*expr.Array); isArray {
			return fmt.Errorf("reading context data: an array needs its type")
		}
		d.Value = v
		return nil
	}
	var w dataWire
	if err := json.Unmarshal(raw, &w); err != nil {
		return fmt.Errorf("reading context data: %w", err)
	}
	switch w.Type {
	case 0:
		if w.Text != nil {
			d.Value = *w.Text
		}
	case 1:
		arr := &expr.Array{}
		for _, it := range w.Array {
			arr.Items = append(arr.Items, it.Value)
		}
		d.Value = arr
	case 2, 5:
		obj := expr.NewObject()
		if w.Type == 5 {
			obj = expr.NewCaseSensitive()
		}
		for _, e := range w.Dict {
			obj.Set(e.Key, e.Value.Value)
		}
		d.Value = obj
	case 3:
		d.Value = w.Bool
	case 4:
		d.Value = w.Number
	default:
		return fmt.Errorf("reading context data: type %d is not known", w.Type)
	}
	return nil
}
