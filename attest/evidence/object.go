// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// object reads one JSON object and refuses duplicate keys and trailing data.
func object(b []byte) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, malformed("a JSON object", "something else").Because(err)
	}
	out := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, malformed("a JSON object", "broken JSON").Because(err)
		}
		key, ok := t.(string)
		if !ok {
			return nil, malformed("text keys", "another token")
		}
		if _, dup := out[key]; dup {
			return nil, malformed("each key once", fmt.Sprintf("%q twice", key))
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, malformed("a JSON object", "broken JSON").Because(err)
		}
		out[key] = v
	}
	if _, err := dec.Token(); err != nil {
		return nil, malformed("a closed JSON object", "truncated JSON").Because(err)
	}
	if len(bytes.TrimSpace(b[dec.InputOffset():])) != 0 {
		return nil, malformed("one JSON object", "trailing data")
	}
	return out, nil
}
