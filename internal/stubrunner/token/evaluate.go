// SPDX-License-Identifier: Apache-2.0

package token

import (
	"errors"
	"fmt"

	"github.com/kettle/attest/internal/stubrunner/expr"
)

// Entry is one name and text of an evaluated mapping.
type Entry struct {
	// Name is the key.
	Name string
	// Value is the value as text.
	Value string
}

// Evaluate computes a token's value; nil is null.
func (t *Token) Evaluate(scope expr.Scope) (any, error) {
	if t == nil {
		return nil, nil //nolint:nilnil // null is a value of the language.
	}
	switch t.Kind {
	case Text:
		return t.Value, nil
	case Boolean:
		return t.Bool, nil
	case Number:
		return t.Num, nil
	case Null:
		return nil, nil //nolint:nilnil // null is a value of the language.
	case Expression:
		return expr.Eval(t.Value, scope)
	case Sequence:
		arr := &expr.Array{}
		for i := range t.Items {
			v, err := t.Items[i].Evaluate(scope)
			if err != nil {
				return nil, err
			}
			arr.Items = append(arr.Items, v)
		}
		return arr, nil
	case Mapping:
		return t.evaluateMapping(scope)
	default:
		return nil, errors.New("an insertion stands outside of a mapping")
	}
}

func (t *Token) evaluateMapping(scope expr.Scope) (any, error) {
	obj := expr.NewCaseSensitive()
	for i := range t.Pairs {
		v, err := t.Pairs[i].Value.Evaluate(scope)
		if err != nil {
			return nil, err
		}
		if t.Pairs[i].Key.Kind == Insertion {
			inserted, ok := v.(*expr.Object)
			if !ok {
				return nil, errors.New("an insertion needs a mapping")
			}
			for _, k := range inserted.Keys() {
				item, _ := inserted.Get(k)
				obj.Set(k, item)
			}
			continue
		}
		key, err := t.Pairs[i].Key.Evaluate(scope)
		if err != nil {
			return nil, err
		}
		obj.Set(expr.ToString(key), v)
	}
	return obj, nil
}

// Text evaluates a token to text.
func (t *Token) Text(scope expr.Scope) (string, error) {
	v, err := t.Evaluate(scope)
	if err != nil {
		return "", err
	}
	switch v.(type) {
	case *expr.Array:
		return "", errors.New("a sequence was not expected")
	case *expr.Object:
		return "", errors.New("a mapping was not expected")
	}
	return expr.ToString(v), nil
}

// Entries evaluates a mapping of names to text, such as env and with. Null yields none.
func (t *Token) Entries(scope expr.Scope) ([]Entry, error) {
	v, err := t.Evaluate(scope)
	if err != nil || v == nil {
		return nil, err
	}
	obj, ok := v.(*expr.Object)
	if !ok {
		return nil, errors.New("a mapping was expected")
	}
	var out []Entry
	for _, k := range obj.Keys() {
		item, _ := obj.Get(k)
		switch item.(type) {
		case *expr.Array, *expr.Object:
			return nil, fmt.Errorf("the value of '%s' must be text", k)
		}
		out = append(out, Entry{Name: k, Value: expr.ToString(item)})
	}
	return out, nil
}
