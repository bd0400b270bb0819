// SPDX-License-Identifier: Apache-2.0

package jobmessage

import "encoding/json"

// Data is one value of context data: a string, bool, float64 or int64, nil, [Array] or [Dictionary].
type Data any

// Array is a list of context data; JSON {"t":1,"a":[…]}.
type Array []Data

// Dictionary is an ordered map of context data; JSON {"t":2,"d":[{"k":…,"v":…}]}.
type Dictionary []Entry

// Entry is one entry of a [Dictionary].
type Entry struct {
	Key   string `json:"k"`
	Value Data   `json:"v"`
}

// MarshalJSON writes the array with its type number; an empty one has no list, as the service leaves it out.
func (a Array) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Type  int    `json:"t"`
		Items []Data `json:"a,omitempty"`
	}{1, a})
}

// MarshalJSON writes the dictionary with its type number; an empty one has no list.
func (d Dictionary) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Type    int     `json:"t"`
		Entries []Entry `json:"d,omitempty"`
	}{2, d})
}

// Set appends an entry and returns the longer dictionary.
func (d Dictionary) Set(key string, value Data) Dictionary {
	return append(d, Entry{Key: key, Value: value})
}

// Get returns the value under key.
func (d Dictionary) Get(key string) (Data, bool) {
	for _, e := range d {
		if e.Key == key {
			return e.Value, true
		}
	}
	return nil, false
}
