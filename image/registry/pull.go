// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Pull gives the bundle that a reference with a tag names as JSON Lines, one line a layer, in the manifest's order. Nothing in
// it is verified. How long it may take, the context says; nothing is tried twice.
func (c Client) Pull(ctx context.Context, ref Reference) ([]byte, error) {
	tag, err := ref.named()
	if err != nil {
		return nil, err
	}
	credential, err := c.credential(ctx, tag)
	if err != nil {
		return nil, err
	}
	wire, end := c.wire(tag)
	defer end()
	authorized, err := transport.NewWithContext(ctx, tag.Registry, credential, wire, []string{tag.Scope(transport.PullScope)})
	if err != nil {
		return nil, explain(err)
	}
	p := puller{client: &http.Client{Transport: authorized, CheckRedirect: follow}, tag: tag}
	m, err := p.manifest(ctx)
	if err != nil {
		return nil, err
	}
	var lines bytes.Buffer
	for _, layer := range m.Layers {
		one, err := p.layer(ctx, layer)
		if err != nil {
			return nil, err
		}
		lines.Write(one)
	}
	return lines.Bytes(), nil
}

// puller reads one repository.
type puller struct {
	client *http.Client
	tag    name.Tag
}

func (p puller) manifest(ctx context.Context) (*manifest, error) {
	text, kind, err := p.get(ctx, "manifests/"+p.tag.TagStr(), MaxManifest)
	if err != nil {
		return nil, err
	}
	if kind != manifestType {
		return nil, malformed("an answer of the media type "+manifestType, fmt.Sprintf("%.100q", kind))
	}
	return parseManifest(text)
}

// layer gives one layer as a line.
func (p puller) layer(ctx context.Context, d descriptor) ([]byte, error) {
	blob, _, err := p.get(ctx, "blobs/"+d.Digest, d.Size)
	if err != nil {
		return nil, err
	}
	if err := d.holds(blob); err != nil {
		return nil, err
	}
	return line(blob)
}

// get reads at most one byte more than the limit, which shows whoever looks at the length that there was more.
func (p puller) get(ctx context.Context, what string, limit int64) (body []byte, kind string, err error) {
	address := "https://" + p.tag.RegistryStr() + "/v2/" + p.tag.RepositoryStr() + "/" + what
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, "", fmt.Errorf("asking the registry: %w", err)
	}
	request.Header.Set("Accept", manifestType+", application/octet-stream")
	response, err := p.client.Do(request)
	if err != nil {
		return nil, "", explain(err)
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, "", missing(fmt.Sprintf("%.200q of %s%s/%s", what, Scheme, p.tag.RegistryStr(), p.tag.RepositoryStr()))
	default:
		return nil, "", status(response.StatusCode, nil)
	}
	if body, err = io.ReadAll(io.LimitReader(response.Body, limit+1)); err != nil {
		return nil, "", explain(err)
	}
	kind, _, err = mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err != nil {
		kind = "" // a blob's is not looked at
	}
	return body, kind, nil
}
