// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestNeverPrinted formats a secret in every way that a program does by accident.
func TestNeverPrinted(t *testing.T) {
	t.Parallel()
	const text = "ghp_hush"
	s := New(text)
	type holder struct {
		hidden String
		Shown  String
		nested struct{ deep *String }
	}
	h := holder{hidden: s, Shown: s}
	h.nested.deep = &s
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	logger.Info("x", slog.Any("secret", s), slog.Any("holder", h))
	encoded, err := json.Marshal(map[string]any{"secret": s, "holder": h})
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{
		"log": log.String(), "json": string(encoded), "%v": fmt.Sprintf("%v", s), "text": s.String(), "%q": fmt.Sprintf("%q", s),
		"%x": fmt.Sprintf("%x", s), "%#v": fmt.Sprintf("%#v", s), "%+v of a struct": fmt.Sprintf("%+v", h),
		"%#v of a struct": fmt.Sprintf("%#v", h), "error": fmt.Errorf("refused %v", h).Error(),
	} {
		if strings.Contains(got, text) || strings.Contains(got, fmt.Sprintf("%x", text)) {
			t.Errorf("%s shows the secret: %s", name, got)
		}
	}
	if s.Reveal() != text || s.Empty() || !(String{}).Empty() || (String{}).Reveal() != "" {
		t.Error("the secret is not what was put in")
	}
}
