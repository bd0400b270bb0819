// SPDX-License-Identifier: Apache-2.0

package door

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/kettle/attest/attest/refusal"
)

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"v":1,"op":"status"}`))
	f.Add([]byte(`{"v":1,"op":"attest","attest":{"workspace":"/w","paths":["dist/*"]}}`))
	f.Add([]byte(`{"v":1,"op":"started","started":{"claims":{"GITHUB_REF":"r"},"idToken":{"url":"https://x","token":"t"}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRequest(data)
		if err != nil {
			if !errors.Is(err, refusal.ErrNotVerified) {
				t.Fatalf("not a refusal: %v", err)
			}
			return
		}
		if (r.Started != nil) == (r.Attest != nil) && r.Op != opStatus {
			t.Fatalf("accepted %q", data)
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseRequest(again); err != nil {
			t.Fatalf("refused its own %s: %v", again, err)
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add([]byte(`{"ok":{"phase":"running","responses":1}}`))
	f.Add([]byte(`{"refusal":{"code":"policy","link":"l","want":"w","got":"g","next":"n"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var out Attested
		_ = parseReply(data, &out)
		if _, err := readFrame(bytes.NewReader(data)); err == nil && len(data) < 5 {
			t.Fatal("a frame out of nothing")
		}
	})
}
