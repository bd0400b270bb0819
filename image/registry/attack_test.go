// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/refusal"
)

// TestAttackForeignBlob: a registry that hands out other bytes than its manifest names hands out nothing.
func TestAttackForeignBlob(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(r *hostile, d descriptor)
		want   error
	}{
		"other bytes": {func(r *hostile, d descriptor) {
			r.blobs[d.Digest] = bytes.Replace(r.blobs[d.Digest], []byte(`"n"`), []byte(`"m"`), 1)
		}, refusal.ErrBinding},
		"shorter": {func(r *hostile, d descriptor) { r.blobs[d.Digest] = r.blobs[d.Digest][:d.Size-1] }, refusal.ErrBinding},
		"longer":  {func(r *hostile, d descriptor) { r.blobs[d.Digest] = append(r.blobs[d.Digest], ' ') }, refusal.ErrBinding},
		"another size in the manifest": {func(r *hostile, _ descriptor) {
			r.edit(t, func(m *manifest) { m.Layers[0].Size-- })
		}, refusal.ErrBinding},
		"cut off": {func(r *hostile, d descriptor) {
			r.handle["/v2/acme/images/blobs/"+d.Digest] = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", fmt.Sprint(d.Size))
				_, _ = w.Write(r.blobs[d.Digest][:5])
			}
		}, ErrDown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRegistry(t)
			tc.change(r, r.layer(t, 0))
			if lines, err := r.pull(t); !errors.Is(err, tc.want) || lines != nil {
				t.Errorf("%q, %v", lines, err)
			}
		})
	}
}

// TestAttackHugeArtefact: what is announced as too large is not read, and what does not end is left.
func TestAttackHugeArtefact(t *testing.T) {
	t.Parallel()
	endless := func(kind string) http.HandlerFunc {
		return func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Content-Type", kind)
			for block := bytes.Repeat([]byte(" "), 64<<10); q.Context().Err() == nil; {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}
	}
	for name, tc := range map[string]struct {
		change func(r *hostile)
		want   error // nil: the bundle comes none the less
	}{
		"manifest":         {func(r *hostile) { r.manifest = append(r.manifest, bytes.Repeat([]byte(" "), MaxManifest)...) }, refusal.ErrMalformed},
		"endless manifest": {func(r *hostile) { r.handle["/v2/acme/images/manifests/v1"] = endless(manifestType) }, refusal.ErrMalformed},
		"endless blob":     {func(r *hostile) { r.handle["/v2/acme/images/blobs/"+r.layer(t, 0).Digest] = endless("") }, refusal.ErrBinding},
		"endless greeting": {func(r *hostile) { r.handle["/v2/"] = endless("") }, nil},
		"33 layers": {func(r *hostile) {
			r.edit(t, func(m *manifest) { m.Layers = slices.Repeat(m.Layers[:1], MaxLayers+1) })
		}, refusal.ErrMalformed},
		"a huge layer": {func(r *hostile) { r.edit(t, func(m *manifest) { m.Layers[0].Size = MaxBundle }) }, refusal.ErrMalformed},
		"the largest number": {func(r *hostile) {
			r.edit(t, func(m *manifest) { m.Layers[0].Size, m.Layers[1].Size = 1<<63-1, 1<<63-1 })
		}, refusal.ErrMalformed},
		"layers that are huge together": {func(r *hostile) {
			r.edit(t, func(m *manifest) { m.Layers[0].Size, m.Layers[1].Size = MaxBundle/2, MaxBundle/2 })
		}, refusal.ErrMalformed},
		"an endless head": {func(r *hostile) {
			r.handle["/v2/acme/images/manifests/v1"] = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Large", strings.Repeat("a", 2*maxHeader))
			}
		}, ErrDown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRegistry(t)
			tc.change(r)
			lines, err := r.pull(t)
			if tc.want == nil && err != nil || tc.want != nil && (!errors.Is(err, tc.want) || lines != nil) {
				t.Errorf("%q, %v", lines, err)
			}
		})
	}
}

// TestAttackOtherArtefact: what is no artefact of ours in each respect is none.
func TestAttackOtherArtefact(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(r *hostile){
		"answer of another type": func(r *hostile) { r.kind = "application/json" },
		"answer without a type":  func(r *hostile) { r.kind = "" },
		"manifest of another type": func(r *hostile) {
			r.edit(t, func(m *manifest) { m.MediaType = "application/vnd.oci.image.index.v1+json" })
		},
		"another artefact": func(r *hostile) { r.edit(t, func(m *manifest) { m.ArtifactType = LayerType }) },
		"a container image": func(r *hostile) {
			r.edit(t, func(m *manifest) { m.Config.MediaType = "application/vnd.oci.image.config.v1+json" })
		},
		"layer of another type": func(r *hostile) { r.edit(t, func(m *manifest) { m.Layers[1].MediaType = "application/json" }) },
		"no layers":             func(r *hostile) { r.edit(t, func(m *manifest) { m.Layers = nil }) },
		"an empty layer":        func(r *hostile) { r.edit(t, func(m *manifest) { m.Layers[0].Size = 0 }) },
		"a negative layer":      func(r *hostile) { r.edit(t, func(m *manifest) { m.Layers[0].Size = -1 }) },
		"another hash": func(r *hostile) {
			r.edit(t, func(m *manifest) { m.Layers[0].Digest = strings.Replace(m.Layers[0].Digest, "sha256", "sha512", 1) })
		},
		"a digest that is a path": func(r *hostile) {
			r.edit(t, func(m *manifest) { m.Layers[0].Digest = "sha256:../../../../elsewhere" })
		},
		"digits in capitals": func(r *hostile) {
			r.edit(t, func(m *manifest) { m.Layers[0].Digest = "sha256:" + strings.ToUpper(m.Layers[0].Digest[7:]) })
		},
		"another schema": func(r *hostile) { r.edit(t, func(m *manifest) { m.SchemaVersion = 1 }) },
		"unknown key":    func(r *hostile) { r.manifest = bytes.Replace(r.manifest, []byte(`{`), []byte(`{"urls":[],`), 1) },
		"a key twice": func(r *hostile) {
			r.manifest = bytes.Replace(r.manifest, []byte(`{`), []byte(`{"artifactType":"`+ArtifactType+`",`), 1)
		},
		"cut off":  func(r *hostile) { r.manifest = r.manifest[:len(r.manifest)-2] },
		"trailing": func(r *hostile) { r.manifest = append(r.manifest, r.manifest...) },
		"layer that is no line": func(r *hostile) {
			blob := []byte("{}\n{}")
			r.blobs[describe(blob, "").Digest] = blob
			r.edit(t, func(m *manifest) { m.Layers[0] = describe(blob, LayerType) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRegistry(t)
			change(r)
			if lines, err := r.pull(t); !errors.Is(err, refusal.ErrMalformed) || lines != nil {
				t.Errorf("%q, %v", lines, err)
			}
			if slices.ContainsFunc(r.asked, func(a string) bool { return strings.Contains(a, "elsewhere") }) {
				t.Errorf("asked %q", r.asked)
			}
		})
	}
}

// TestAttackLeadAway: a registry leads nobody to another host, away from TLS, or in circles; who it leads to hears nothing.
func TestAttackLeadAway(t *testing.T) {
	t.Parallel()
	const manifests = "/v2/acme/images/manifests/v1"
	for name, tc := range map[string]struct {
		change func(r *hostile, plain, other string)
		want   error
	}{
		"greeting to http":         {func(r *hostile, plain, _ string) { r.handle["/v2/"] = leads(plain) }, ErrElsewhere},
		"greeting to another host": {func(r *hostile, _, other string) { r.handle["/v2/"] = leads(other) }, ErrElsewhere},
		"manifest to http":         {func(r *hostile, plain, _ string) { r.handle[manifests] = leads(plain) }, ErrElsewhere},
		"manifest to another host": {func(r *hostile, _, other string) { r.handle[manifests] = leads(other) }, ErrElsewhere},
		"manifest in circles":      {func(r *hostile, _, _ string) { r.handle[manifests] = leads(r.URL + manifests) }, ErrElsewhere},
		"manifest to a file":       {func(r *hostile, _, _ string) { r.handle[manifests] = leads("file:///etc/passwd") }, ErrElsewhere},
		"tokens of another host":   {func(r *hostile, _, other string) { r.handle["/v2/"] = challenge(named(other)) }, ErrElsewhere},
		"tokens in the clear":      {func(r *hostile, plain, _ string) { r.handle["/v2/"] = challenge(plain) }, ErrDown},
		"tokens lead elsewhere": {func(r *hostile, _, other string) {
			r.handle["/v2/"], r.handle["/t"] = challenge(r.URL+"/t"), leads(named(other))
		}, ErrElsewhere},
		"tokens lead to http": {func(r *hostile, plain, _ string) {
			r.handle["/v2/"], r.handle["/t"] = challenge(r.URL+"/t"), leads(plain)
		}, ErrDown},
		"a blob to http": {func(r *hostile, plain, _ string) {
			r.handle["/v2/acme/images/blobs/"+r.layer(t, 0).Digest] = leads(plain)
		}, ErrElsewhere},
		"a blob to http by a store": {func(r *hostile, plain, _ string) {
			store := "/v2/acme/images/blobs/store"
			r.handle[store] = leads(plain)
			r.handle["/v2/acme/images/blobs/"+r.layer(t, 0).Digest] = leads(store)
		}, ErrElsewhere},
		"a blob in circles": {func(r *hostile, _, _ string) {
			at := "/v2/acme/images/blobs/" + r.layer(t, 0).Digest
			r.handle[at] = leads(at)
		}, ErrElsewhere},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heard := newRegistry(t)
			plain := httptest.NewServer(heard)
			defer plain.Close()
			r := newRegistry(t)
			tc.change(r, plain.URL, heard.URL)
			if lines, err := r.pull(t); !errors.Is(err, tc.want) || lines != nil {
				t.Errorf("%q, %v", lines, err)
			}
			if len(heard.asked) > 0 {
				t.Errorf("the other host was asked %q", heard.asked)
			}
		})
	}
}

// named gives an address on loopback by name: the library itself refuses tokens of such a number.
func named(address string) string { return strings.Replace(address, "127.0.0.1", "localhost", 1) }

func leads(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
}

func challenge(realm string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm+`",service="registry"`)
		w.WriteHeader(http.StatusUnauthorized)
	}
}

// TestAttackRequests: whoever makes a request, the library included, none leaves that leads a credential or a question to another
// place. The library uploads, fetches tokens, and falls back to http for addresses that it takes for private.
func TestAttackRequests(t *testing.T) {
	t.Parallel()
	g := guard{host: "registry.example.com", blobs: "/v2/acme/images/blobs/"}
	for name, tc := range map[string]struct {
		method, from, to, credential string
		want                         bool
	}{
		"the registry":                      {"GET", "", "https://registry.example.com/v2/", "Basic x", true},
		"a sibling for tokens":              {"GET", "", "https://auth.example.com/token", "Basic x", true},
		"its parent for tokens":             {"GET", "", "https://example.com/token", "Basic x", true},
		"a store for blobs":                 {"GET", "/v2/acme/images/blobs/x", "https://store.example.net/x", "", true},
		"a store for blobs, to ask":         {"HEAD", "/v2/acme/images/blobs/x", "https://store.example.net/x", "", true},
		"a store, with a credential":        {"GET", "/v2/acme/images/blobs/x", "https://store.example.net/x", "Basic x", false},
		"a store to upload to":              {"PUT", "/v2/acme/images/blobs/x", "https://store.example.net/x", "", false},
		"a store for manifests":             {"GET", "/v2/acme/images/manifests/x", "https://store.example.net/x", "", false},
		"a store of another repository":     {"GET", "/v2/mallory/blobs/x", "https://store.example.net/x", "", false},
		"a store of nobody":                 {"GET", "", "https://store.example.net/v2/acme/images/blobs/x", "", false},
		"the registry in the clear":         {"GET", "", "http://registry.example.com/v2/", "Basic x", false},
		"the registry in the clear, later":  {"GET", "/v2/", "http://registry.example.com/v2/", "", false},
		"a blob in the clear":               {"GET", "/v2/acme/images/blobs/x", "http://registry.example.com/x", "", false},
		"a sibling's other port":            {"GET", "", "https://auth.example.com:8443/token", "Basic x", true},
		"another port":                      {"GET", "", "https://registry.example.com:8443/v2/", "Basic x", true},
		"a name that ends alike":            {"GET", "", "https://registryexample.com/v2/", "Basic x", false},
		"a neighbour under a public suffix": {"GET", "", "https://mallory.com/token", "Basic x", false},
		"an address":                        {"GET", "", "https://169.254.169.254/latest", "", false},
	} {
		to, err := url.Parse(tc.to)
		if err != nil {
			t.Fatal(err)
		}
		r := &http.Request{Method: tc.method, URL: to, Header: http.Header{}}
		if tc.credential != "" {
			r.Header.Set("Authorization", tc.credential)
		}
		if tc.from != "" {
			r.Response = &http.Response{Request: &http.Request{URL: &url.URL{Scheme: "https", Host: g.host, Path: tc.from}}}
		}
		if err := g.judge(r); (err == nil) != tc.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, pair := range [][2]string{{"10.0.0.1", "10.9.0.1"}, {"a.co.uk", "b.co.uk"}, {"a.github.io", "b.github.io"}, {"127.0.0.1:1", "127.0.0.1:2"}} {
		if (guard{host: pair[0]}).home(pair[1]) {
			t.Errorf("%s is at home at %s", pair[1], pair[0])
		}
	}
}

// TestAttackUploadElsewhere: what is pushed goes to the registry, and so does the credential.
func TestAttackUploadElsewhere(t *testing.T) {
	t.Parallel()
	heard, r := newRegistry(t), newRegistry(t)
	r.blobs = nil
	r.handle["/v2/acme/images/blobs/uploads/"] = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", heard.URL+"/v2/acme/images/blobs/uploads/1")
		w.WriteHeader(http.StatusAccepted)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if d, err := clientOf(r.Server).Push(ctx, refOf(t, r.Server), bundles); !errors.Is(err, ErrElsewhere) {
		t.Errorf("%s, %v", d, err)
	}
	if len(heard.asked) > 0 {
		t.Errorf("the other host was asked %q", heard.asked)
	}
}
