// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/refusal"
)

// TestAttackKeyCase writes each key in another case: encoding/json takes it for the key, other readers see none.
func TestAttackKeyCase(t *testing.T) {
	t.Parallel()
	documents := []string{
		`{"platform":"az-snp","evidence":` + azureJSON(AzureSNP) + `}`,
		azureJSON(AzureTDX),
		fmt.Sprintf(`{"provider":"sev_guest","outblob":%q,"auxblob":%q}`, url64(report()), url64([]byte("table"))),
	}
	for _, text := range documents {
		if _, err := Import([]byte(text)); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{
			"platform", "evidence", "version", "tpm_quote", "signature", "message", "pcrs", "hcl_report", "vcek", "td_quote",
			"provider", "outblob", "auxblob",
		} {
			changed := strings.Replace(text, `"`+key+`":`, `"`+strings.ToUpper(key)+`":`, 1)
			if changed == text {
				continue
			}
			if got, err := Import([]byte(changed)); !errors.Is(err, refusal.ErrMalformed) || got != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
	}
}

// TestAttackHugeDocument gives documents that would take many times their size in memory, and a file of short lines.
func TestAttackHugeDocument(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"values": `{"version":1,"tpm_quote":{"pcrs":[` + strings.Repeat(`"",`, maxDocument/3) + `""]}}`,
		"keys":   `{"__cmwc_t":"x",` + strings.Repeat(`"a":1,`, maxDocument/6) + `"b":1}`,
		"record": `["` + strings.Repeat("a", maxDocument) + `"]`,
	} {
		var r *refusal.Refusal
		if got, err := Import([]byte(text)); !errors.As(err, &r) || !strings.Contains(r.Want, "at most") || got != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if Is([]byte(`{"__cmwc_t":1}`)) || !Is([]byte(`{"__cmwc_t":"`+Type+`"}`)) {
		t.Error("short lines are not told from ours")
	}
}
