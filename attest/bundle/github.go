// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/strict"
)

// maxAnswer bounds how many attestations of one answer are read.
const maxAnswer = 100

// FromGitHub gives what GitHub's attestations API answers for a digest as JSON Lines, byte for byte but for white space
// (docs.github.com, "List attestations": {"attestations": [{"bundle": …}]}). Text that is no such answer is given as it is.
// An entry whose bundle is stored elsewhere is refused: this package fetches nothing.
func FromGitHub(text []byte) ([]byte, error) {
	var answer struct {
		Attestations []struct {
			Bundle json.RawMessage `json:"bundle"`
		} `json:"attestations"`
	}
	decodes := len(text) <= MaxFile && strict.Unique(text) == nil && json.Unmarshal(text, &answer) == nil
	if !decodes || answer.Attestations == nil { // lines, or nothing: whoever reads them says so
		return text, nil
	}
	if n := len(answer.Attestations); n > maxAnswer {
		return nil, malformed(fmt.Sprintf("at most %d attestations", maxAnswer), fmt.Sprint(n), nil)
	}
	var out bytes.Buffer
	for _, a := range answer.Attestations {
		if len(a.Bundle) == 0 || string(a.Bundle) == "null" {
			return nil, &refusal.Refusal{
				Link: link, Code: refusal.Missing, Want: "attestations with their bundles", Got: "one that is stored elsewhere",
				Next: "take image.intoto.jsonl of the release",
			}
		}
		if err := json.Compact(&out, a.Bundle); err != nil {
			return nil, malformed("attestations as JSON", "a bundle that does not decode", err)
		}
		out.WriteByte('\n')
	}
	return out.Bytes(), nil
}
