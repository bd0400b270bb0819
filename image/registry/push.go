// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Push writes bundles as the artefact that a reference with a tag names, and gives the digest of its manifest (sha256: and 64
// digits). The same bundles give the same digest, in whatever order and however often they come. What [Client.Pull] would
// refuse is refused before anything is written. The tag is written last, over one that is there.
func (c Client) Push(ctx context.Context, ref Reference, bundles [][]byte) (string, error) {
	tag, err := ref.named()
	if err != nil {
		return "", err
	}
	a, err := pack(bundles)
	if err != nil {
		return "", err
	}
	credential, err := c.credential(ctx, tag)
	if err != nil {
		return "", err
	}
	wire, end := c.wire(tag)
	defer end()
	pusher, err := remote.NewPusher(remote.WithTransport(wire), remote.WithAuth(credential))
	if err != nil {
		return "", explain(err)
	}
	layers := []v1.Layer{static.NewLayer([]byte(emptyConfig), emptyType)}
	for _, b := range a.blobs {
		layers = append(layers, static.NewLayer(b, LayerType))
	}
	for _, l := range layers {
		if err := pusher.Upload(ctx, tag.Repository, l); err != nil {
			return "", explain(err)
		}
	}
	if err := pusher.Push(ctx, tag, written(a.manifest)); err != nil {
		return "", explain(err)
	}
	return describe(a.manifest, manifestType).Digest, nil
}

// written is a manifest as the library takes one.
type written []byte

var _ remote.Taggable = written(nil)

// RawManifest implements [remote.Taggable].
func (w written) RawManifest() ([]byte, error) { return w, nil }

// MediaType tells the library what it is.
func (w written) MediaType() (types.MediaType, error) { return manifestType, nil }
