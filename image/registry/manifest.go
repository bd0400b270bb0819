// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/kettle/attest/image/disk/slot"
	"github.com/kettle/attest/internal/strict"
)

// The media types of the artefact.
const (
	// ArtifactType says that a manifest lists the bundle of an image.
	ArtifactType = "application/vnd.kettle.image-bundle.v1"
	// LayerType is the media type of each layer, and of nothing else in it.
	LayerType = "application/vnd.dev.sigstore.bundle.v0.3+json"

	manifestType = "application/vnd.oci.image.manifest.v1+json"
	emptyType    = "application/vnd.oci.empty.v1+json"
)

// Bounds of an artefact.
const (
	MaxManifest = 64 << 10             // bytes
	MaxLayers   = 32                   //
	MaxBundle   = int64(slot.Capacity) // bytes of all layers, each with the end of its line: what a disk can hold, too
)

// emptyConfig is the content of [emptyType]: OCI image specification 1.1, “Guidance for an Empty Descriptor”.
const emptyConfig = "{}"

const digestWord = "sha256:"

// descriptor points to a blob. The keys stand in the order of RFC 8785.
type descriptor struct {
	Annotations map[string]string `json:"annotations,omitempty"` // read by people, decided on by nobody
	Data        []byte            `json:"data,omitempty"`        // likewise
	Digest      string            `json:"digest"`
	MediaType   string            `json:"mediaType"`
	Size        int64             `json:"size"` // bytes
}

// manifest is the artefact's manifest. The keys stand in the order of RFC 8785.
type manifest struct {
	Annotations   map[string]string `json:"annotations,omitempty"`
	ArtifactType  string            `json:"artifactType"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	MediaType     string            `json:"mediaType"`
	SchemaVersion int               `json:"schemaVersion"`
}

// parseManifest reads a manifest of an image bundle and nothing else. What it returns has 1 to [MaxLayers] layers with
// well-formed digests and lengths above zero, which fit together into [MaxBundle].
func parseManifest(text []byte) (*manifest, error) {
	if len(text) > MaxManifest {
		return nil, malformed(fmt.Sprintf("a manifest of at most %d bytes", MaxManifest), "a larger one")
	}
	m := new(manifest)
	if err := strict.Decode(text, m); err != nil {
		return nil, malformed("the manifest of an artefact", fmt.Sprintf("%.200q", err)).Because(err)
	}
	for _, f := range []struct{ what, want, got string }{
		{"a manifest of the media type", manifestType, m.MediaType}, {"an artefact of the type", ArtifactType, m.ArtifactType},
		{"a configuration of the media type", emptyType, m.Config.MediaType},
	} {
		if f.got != f.want {
			return nil, malformed(f.what+" "+f.want, fmt.Sprintf("%.100q", f.got))
		}
	}
	if m.SchemaVersion != 2 || len(m.Layers) == 0 || len(m.Layers) > MaxLayers {
		return nil, malformed(fmt.Sprintf("schema version 2 with 1 to %d layers", MaxLayers), fmt.Sprintf("version %d with %d", m.SchemaVersion, len(m.Layers)))
	}
	left := MaxBundle
	for _, l := range m.Layers {
		if err := l.check(left); err != nil {
			return nil, err
		}
		left -= l.Size + 1
	}
	return m, nil
}

// check demands one bundle of fewer bytes than are left.
func (d descriptor) check(left int64) error {
	digits, ok := strings.CutPrefix(d.Digest, digestWord)
	raw, err := hex.DecodeString(digits)
	switch {
	case d.MediaType != LayerType:
		return malformed("layers of the media type "+LayerType, fmt.Sprintf("%.100q", d.MediaType))
	case !ok || err != nil || len(raw) != sha256.Size || strings.ToLower(digits) != digits:
		return malformed("layers named by "+digestWord+" and 64 lower-case digits", fmt.Sprintf("%.100q", d.Digest))
	case d.Size <= 0 || d.Size >= left:
		return malformed(fmt.Sprintf("layers of 1 to %d bytes together", MaxBundle), fmt.Sprintf("one of %d more", d.Size))
	}
	return nil
}

// holds demands that a blob is the one that is named.
func (d descriptor) holds(blob []byte) error {
	if int64(len(blob)) != d.Size {
		return altered(fmt.Sprintf("a layer of %d bytes, as its manifest says", d.Size), "another length")
	}
	if got := describe(blob, d.MediaType).Digest; got != d.Digest {
		return altered("the layer "+d.Digest, got)
	}
	return nil
}

func describe(blob []byte, mediaType string) descriptor {
	sum := sha256.Sum256(blob)
	return descriptor{Digest: digestWord + hex.EncodeToString(sum[:]), MediaType: mediaType, Size: int64(len(blob))}
}

// line gives one layer as a line of JSON Lines, byte for byte but for white space between its words.
func line(blob []byte) ([]byte, error) {
	var out bytes.Buffer
	if err := json.Compact(&out, blob); err != nil || out.Len() == 0 || out.Bytes()[0] != '{' {
		return nil, malformed("layers that are one JSON object each", "another").Because(err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// artefact is what a push writes: the blobs and the manifest that names them.
type artefact struct {
	blobs    [][]byte // each once, in the order of their digests
	manifest []byte   // RFC 8785
}

// pack makes the artefact of some bundles, the same for each order of them.
func pack(bundles [][]byte) (*artefact, error) {
	m := manifest{ArtifactType: ArtifactType, Config: describe([]byte(emptyConfig), emptyType), MediaType: manifestType, SchemaVersion: 2}
	blobs := map[string][]byte{}
	for _, b := range bundles {
		one, err := line(b)
		if err != nil {
			return nil, err
		}
		one = bytes.TrimSuffix(one, []byte{'\n'})
		d := describe(one, LayerType)
		if _, twice := blobs[d.Digest]; !twice {
			m.Layers = append(m.Layers, d)
		}
		blobs[d.Digest] = one
	}
	slices.SortFunc(m.Layers, func(a, b descriptor) int { return strings.Compare(a.Digest, b.Digest) })
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("writing the manifest: %w", err)
	}
	if _, err := parseManifest(text); err != nil { // what nobody can pull is not pushed
		return nil, err
	}
	a := &artefact{manifest: text}
	for _, l := range m.Layers {
		a.blobs = append(a.blobs, blobs[l.Digest])
	}
	return a, nil
}
