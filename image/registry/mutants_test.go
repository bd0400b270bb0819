// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package registry

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts what holds a registry to its word out, one check after the other.
// go test -tags mutants -run TestMutants ./image/registry.
func TestMutants(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ check, file, old, with, attack string }{
		{"a blob has its digest", "manifest.go", "got != d.Digest {", "got != d.Digest && false {", "ForeignBlob$"},
		{"a blob has its length", "manifest.go", "if int64(len(blob)) != d.Size {", "if false {", "ForeignBlob$"},
		{"a manifest is bounded", "manifest.go", "if len(text) > MaxManifest {", "if false {", "HugeArtefact$"},
		{"layers are counted", "manifest.go", "|| len(m.Layers) > MaxLayers {", "{", "HugeArtefact$"},
		{"layers fit together", "manifest.go", "left -= l.Size + 1", "_ = left", "HugeArtefact$"},
		{"a layer is bounded", "manifest.go", "case d.Size <= 0 || d.Size >= left:", "case d.Size <= 0:", "HugeArtefact$"},
		{"an answer ends", "guard.go", "response.Body = &bounded{ReadCloser: response.Body, left: MaxBundle + 1}", "_ = bounded{}", "HugeArtefact$"},
		{"an answer's head ends", "registry.go", "MaxResponseHeaderBytes: maxHeader,", "MaxResponseHeaderBytes: 8 * maxHeader,", "HugeArtefact$"},
		{"type of the artefact", "manifest.go", `{"an artefact of the type", ArtifactType, m.ArtifactType},`, "", "OtherArtefact$"},
		{"type of the manifest", "manifest.go", `{"a manifest of the media type", manifestType, m.MediaType},`, "", "OtherArtefact$"},
		{"type of the configuration", "manifest.go", `{"a configuration of the media type", emptyType, m.Config.MediaType},`, "", "OtherArtefact$"},
		{"type of a layer", "manifest.go", "case d.MediaType != LayerType:", "case false:", "OtherArtefact$"},
		{"type of the answer", "pull.go", "if kind != manifestType {", "if false {", "OtherArtefact$"},
		{"a digest is one", "manifest.go", "case !ok || err != nil || len(raw) != sha256.Size || strings.ToLower(digits) != digits:", "case false && !ok && err != nil && raw != nil:", "OtherArtefact$"},
		{"the manifest is read strictly", "manifest.go", "if err := strict.Decode(text, m); err != nil {", "_ = strict.Decode\nif err := json.Unmarshal(text, m); err != nil {", "OtherArtefact$"},
		{"nobody is led to another host", "guard.go", "case g.home(r.URL.Host):", "case true:", "LeadAway$"},
		{"nobody is led in circles", "guard.go", `next.URL.Scheme != "https" || len(before) > maxHops {`, `next.URL.Scheme != "https" {`, "LeadAway$"},
		{"over https only", "guard.go", `case r.URL.Scheme != "https":`, "case false:", "Requests$"},
		{"no credential to a store", "guard.go", `g.isBlob(r) && r.Header.Get("Authorization") == "":`, "g.isBlob(r):", "Requests$"},
		{"blobs alone come from a store", "guard.go", "&& strings.HasPrefix(first.URL.Path, g.blobs)", "&& strings.HasPrefix(first.URL.Path, \"\")", "Requests$"},
		{"nothing is uploaded to a store", "guard.go", "(r.Method == http.MethodGet || r.Method == http.MethodHead) && ", "", "Requests$"},
		{"an address has no domain", "guard.go", "own != \"\" && own == other", "own == other", "Requests$"},
		{"uploads stay", "guard.go", "case g.home(r.URL.Host):", "case true:", "UploadElsewhere$"},
		{"a registry is named", "reference.go", `if !hasPort && !strings.Contains(host, ".") {`, "if false {", "AmbiguousReference$"},
		{"an address is read in one way", "reference.go", `strings.Trim(last, "0123456789") == "" {`, `strings.Trim(last, "0123456789") == "" && false {`, "AmbiguousReference$"},
	} {
		t.Run(row.check, func(t *testing.T) {
			t.Parallel()
			m := mutant.Mutant{Check: row.check, File: "image/registry/" + row.file, Old: row.old, New: row.with}
			mutant.Run(t, m, "image/registry", "^TestAttack"+row.attack)
		})
	}
}
