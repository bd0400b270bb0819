// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/kettle/attest/internal/vectors"
)

// TestInspectCertified shows who the certificate of a genuine bundle names.
func TestInspectCertified(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(vectors.Sigstore(t), "gha-attest-reusable-workflow", "bundle.sigstore.json"))
	if err != nil {
		t.Fatal(err)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, text); err != nil {
		t.Fatal(err)
	}
	lines, err := inspectLines(line.Bytes())
	if err != nil || len(lines) != 1 || lines[0].Kind != "certified statement" || lines[0].Fault != "" {
		t.Fatalf("%v, %+v", err, lines)
	}
	says := map[string]string{}
	for _, f := range lines[0].Says {
		says[f.Name] = f.Value
	}
	if says["predicateType"] != "https://slsa.dev/provenance/v1" || says["issuer"] != "https://token.actions.githubusercontent.com" || says["signer"] == "" {
		t.Errorf("got %v", says)
	}
}
