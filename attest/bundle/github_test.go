// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"errors"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/refusal"
)

func TestFromGitHub(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text, want string
		err        error
	}{
		"two":              {`{"attestations": [ {"bundle": {"a": 1}, "repository_id": 1}, {"bundle":{"b" :"x\n"}}]}`, "{\"a\":1}\n{\"b\":\"x\\n\"}\n", nil},
		"none":             {`{"attestations":[]}`, "", nil},
		"lines":            {"{\"a\":1}\n{\"b\":2}\n", "{\"a\":1}\n{\"b\":2}\n", nil},
		"one bundle":       {`{"mediaType":"x"}`, `{"mediaType":"x"}`, nil},
		"stored elsewhere": {`{"attestations":[{"bundle":null,"bundle_url":"https://a.example/b"}]}`, "", refusal.ErrMissing},
		"nothing in it":    {`{"attestations":[{}]}`, "", refusal.ErrMissing},
		"too many":         {`{"attestations":[` + strings.Repeat(`{"bundle":{}},`, maxAnswer) + `{"bundle":{}}]}`, "", refusal.ErrMalformed},
		"two answers":      {`{"attestations":[{"bundle":{"a":1}}],"attestations":[]}`, `{"attestations":[{"bundle":{"a":1}}],"attestations":[]}`, nil},
	} {
		got, err := FromGitHub([]byte(tc.text))
		if !errors.Is(err, tc.err) || (tc.err == nil) != (err == nil) || string(got) != tc.want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}
