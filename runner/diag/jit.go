// SPDX-License-Identifier: Apache-2.0

package diag

import (
	"encoding/base64"
	"encoding/json"

	"github.com/kettle/attest/internal/secret"
)

// JIT lists what is secret of a runner program's configuration: the blob, its files as they lie in the blob and as the
// runner program writes them out (Runner.cs, "jitconfig"), and each number of the private key. What cannot be decoded is
// left out: the blob itself is always listed.
func JIT(blob secret.String) []secret.String {
	found := []secret.String{blob}
	decoded, err := base64.StdEncoding.DecodeString(blob.Reveal())
	if err != nil {
		return found
	}
	var files map[string]string
	if json.Unmarshal(decoded, &files) != nil {
		return found
	}
	found = append(found, secret.New(string(decoded)))
	for _, name := range []string{".credentials", ".credentials_rsaparams"} {
		content, err := base64.StdEncoding.DecodeString(files[name])
		if err != nil || len(content) == 0 {
			continue
		}
		found = append(found, secret.New(files[name]), secret.New(string(content)))
		var numbers map[string]any
		if name != ".credentials_rsaparams" || json.Unmarshal(content, &numbers) != nil {
			continue
		}
		for _, key := range []string{"d", "dp", "dq", "inverseQ", "p", "q"} { // the others are public
			if text, ok := numbers[key].(string); ok {
				found = append(found, secret.New(text))
			}
		}
	}
	return found
}
