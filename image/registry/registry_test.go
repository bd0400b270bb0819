// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	oci "github.com/google/go-containerregistry/pkg/registry"

	"github.com/kettle/attest/attest/refusal"
)

// bundles stand for signed statements: the package does not look into them.
var bundles = [][]byte{[]byte(`{"mediaType":"` + LayerType + `","n":1}`), []byte(`{"mediaType":"` + LayerType + `","n":2}`)}

// serve starts a server over TLS; what it says about strangers' certificates is nobody's business.
func serve(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// clientOf trusts a server.
func clientOf(s *httptest.Server) Client {
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return Client{Roots: roots}
}

func refOf(t testing.TB, s *httptest.Server) Reference {
	t.Helper()
	return mustParse(t, Scheme+s.Listener.Addr().String()+"/acme/images:v1")
}

// honest is the library's registry.
func honest() http.Handler {
	return oci.New(oci.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)))
}

// TestPushPull: what was pushed comes back, the same for each order of the bundles.
func TestPushPull(t *testing.T) {
	t.Parallel()
	s := serve(t, honest())
	c, ref := clientOf(s), refOf(t, s)
	digest, err := c.Push(t.Context(), ref, bundles)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Push(t.Context(), ref.ForRoot([32]byte{}), [][]byte{bundles[1], bundles[0], append([]byte(" "), bundles[1]...)})
	if err != nil || again != digest {
		t.Errorf("the same bundles in another order: %s, not %s, %v", again, digest, err)
	}
	lines, err := c.Pull(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bundles {
		if !bytes.Contains(lines, append(bytes.Clone(b), '\n')) {
			t.Errorf("%s is not in %s", b, lines)
		}
	}
	if n := bytes.Count(lines, []byte{'\n'}); n != len(bundles) {
		t.Errorf("%d lines", n)
	}
}

// TestLayout reads what was pushed with nothing but GET, as the OCI distribution specification says, sections “Pulling
// manifests” and “Pulling blobs”.
func TestLayout(t *testing.T) {
	t.Parallel()
	s := serve(t, honest())
	digest, err := clientOf(s).Push(t.Context(), refOf(t, s), bundles)
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) ([]byte, http.Header) {
		response, err := s.Client().Get(s.URL + "/v2/acme/images/" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d, %v", path, response.StatusCode, err)
		}
		return body, response.Header
	}
	text, head := get("manifests/v1")
	same, _ := get("manifests/" + digest)
	if !bytes.Equal(text, same) || fmt.Sprintf("sha256:%x", sha256.Sum256(text)) != digest || head.Get("Content-Type") != manifestType {
		t.Errorf("%s of type %s", text, head.Get("Content-Type"))
	}
	// The bytes are part of the format: another version gets another artifactType.
	const want = `{"artifactType":"application/vnd.kettle.image-bundle.v1","config":{"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",` +
		`"mediaType":"application/vnd.oci.empty.v1+json","size":2},"layers":[` +
		`{"digest":"sha256:%x","mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","size":%d},` +
		`{"digest":"sha256:%x","mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","size":%d}],` +
		`"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}`
	a, b := bundles[0], bundles[1]
	first, second := sha256.Sum256(a), sha256.Sum256(b)
	if bytes.Compare(first[:], second[:]) > 0 {
		a, b, first, second = b, a, second, first
	}
	if golden := fmt.Sprintf(want, first, len(a), second, len(b)); string(text) != golden {
		t.Errorf("%s\nwant\n%s", text, golden)
	}
	for _, blob := range [][]byte{a, b, []byte("{}")} {
		if got, _ := get(fmt.Sprintf("blobs/sha256:%x", sha256.Sum256(blob))); !bytes.Equal(got, blob) {
			t.Errorf("%s, want %s", got, blob)
		}
	}
}

// TestForeignWriter: annotations and the inlined empty configuration, as other tools write them, are no fault.
func TestForeignWriter(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	r.edit(t, func(m *manifest) {
		m.Annotations = map[string]string{"org.opencontainers.image.created": "2026-11-21T12:00:00Z"}
		m.Config.Data = []byte("{}")
		m.Layers[0].Annotations = map[string]string{"org.opencontainers.image.title": "image.intoto.jsonl"}
	})
	r.handle["/v2/acme/images/blobs/"+r.layer(t, 0).Digest] = nil
	pretty := []byte("{\n  \"a\": 1\n}\n")
	r.edit(t, func(m *manifest) { m.Layers[0] = describe(pretty, LayerType) })
	r.blobs[describe(pretty, "").Digest] = pretty
	if lines, err := r.pull(t); err != nil || !bytes.HasPrefix(lines, []byte("{\"a\":1}\n{")) {
		t.Errorf("%s, %v", lines, err)
	}
}

// hostile is a registry that answers as it is told.
type hostile struct {
	*httptest.Server
	manifest []byte
	kind     string
	blobs    map[string][]byte
	handle   map[string]http.HandlerFunc

	mu    sync.Mutex
	asked []string // paths, and whose authority
}

func newRegistry(t testing.TB) *hostile {
	t.Helper()
	a, err := pack(bundles)
	if err != nil {
		t.Fatal(err)
	}
	r := &hostile{manifest: a.manifest, kind: manifestType, blobs: map[string][]byte{}, handle: map[string]http.HandlerFunc{}}
	for _, b := range a.blobs {
		r.blobs[describe(b, "").Digest] = b
	}
	r.Server = serve(t, r)
	return r
}

func (r *hostile) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	r.asked = append(r.asked, strings.TrimSpace(q.Method+" "+q.URL.Path+" "+q.Header.Get("Authorization")))
	r.mu.Unlock()
	if h := r.handle[q.URL.Path]; h != nil {
		h(w, q)
		return
	}
	blob, isBlob := r.blobs[strings.TrimPrefix(q.URL.Path, "/v2/acme/images/blobs/")]
	switch {
	case q.URL.Path == "/v2/":
	case q.URL.Path == "/v2/acme/images/manifests/v1":
		w.Header().Set("Content-Type", r.kind)
		_, _ = w.Write(r.manifest)
	case isBlob:
		_, _ = w.Write(blob)
	default:
		http.NotFound(w, q)
	}
}

func (r *hostile) edit(t testing.TB, change func(*manifest)) {
	t.Helper()
	var m manifest
	err := json.Unmarshal(r.manifest, &m)
	change(&m)
	r.manifest, _ = json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
}

func (r *hostile) layer(t testing.TB, i int) descriptor {
	t.Helper()
	m, err := parseManifest(r.manifest)
	if err != nil {
		t.Fatal(err)
	}
	return m.Layers[i]
}

// pull gives up long before the test does.
func (r *hostile) pull(t testing.TB) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return clientOf(r.Server).Pull(ctx, refOf(t, r.Server))
}

// guarded makes a registry that wants a token, and leads to a store for its blobs.
func guarded(t testing.TB, store string) *hostile {
	t.Helper()
	r := newRegistry(t)
	inner := r.Server.Config.Handler
	r.Server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch {
		case q.URL.Path == "/token":
			fmt.Fprintf(w, `{"token":"for %s"}`, q.URL.Query().Get("scope"))
			r.mu.Lock()
			r.asked = append(r.asked, "token "+q.Header.Get("Authorization"))
			r.mu.Unlock()
		case q.Header.Get("Authorization") != "Bearer for repository:acme/images:pull":
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+r.URL+`/token",service="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
		case strings.Contains(q.URL.Path, "/blobs/") && store != "":
			http.Redirect(w, q, store+q.URL.Path, http.StatusTemporaryRedirect)
		default:
			inner.ServeHTTP(w, q)
		}
	})
	return r
}

// TestToken: the registry's token is fetched and shown to the registry, and not to the store that keeps its blobs.
func TestToken(t *testing.T) {
	t.Parallel()
	store := newRegistry(t)
	r := guarded(t, store.URL)
	lines, err := r.pull(t)
	if err != nil || bytes.Count(lines, []byte{'\n'}) != len(bundles) {
		t.Fatalf("%s, %v", lines, err)
	}
	for _, asked := range store.asked {
		if strings.Contains(asked, "Bearer") {
			t.Errorf("the store was asked %s", asked)
		}
	}
	if len(store.asked) != len(bundles) || r.asked[0] != "token " {
		t.Errorf("%q, %q", store.asked, r.asked)
	}
}

// TestPerson: Docker's configuration is read for a person's tool, and for nobody else.
func TestPerson(t *testing.T) {
	r := guarded(t, "")
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	config := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, r.Listener.Addr(), base64.StdEncoding.EncodeToString([]byte("ada:secret")))
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.pull(t); err != nil || r.asked[0] != "token " {
		t.Errorf("%q, %v", r.asked, err)
	}
	r.asked = nil
	if _, err := clientOf(r.Server).AsPerson().Pull(t.Context(), refOf(t, r.Server)); err != nil || !strings.HasPrefix(r.asked[0], "token Basic ") {
		t.Errorf("%q, %v", r.asked, err)
	}
}

// TestRefused: each way not to have an artefact has its error.
func TestRefused(t *testing.T) {
	t.Parallel()
	answers := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, tc := range map[string]struct {
		change func(*hostile)
		want   error
	}{
		"no artefact":     {func(r *hostile) { r.handle["/v2/acme/images/manifests/v1"] = answers(404) }, refusal.ErrMissing},
		"no blobs":        {func(r *hostile) { r.blobs = nil }, refusal.ErrMissing},
		"denied":          {func(r *hostile) { r.handle["/v2/acme/images/manifests/v1"] = answers(403) }, ErrDenied},
		"denied at once":  {func(r *hostile) { r.handle["/v2/"] = answers(403) }, ErrDenied},
		"broken":          {func(r *hostile) { r.handle["/v2/acme/images/manifests/v1"] = answers(500) }, ErrDown},
		"broken at once":  {func(r *hostile) { r.handle["/v2/"] = answers(500) }, ErrDown},
		"nobody there":    {func(r *hostile) { r.Close() }, ErrDown},
		"unknown to both": {func(r *hostile) { r.handle["/v2/acme/images/manifests/v1"] = answers(401) }, ErrDenied},
	} {
		r := newRegistry(t)
		tc.change(r)
		if lines, err := r.pull(t); !errors.Is(err, tc.want) || lines != nil || errors.Is(err, refusal.ErrNotVerified) != errors.Is(tc.want, refusal.ErrMissing) {
			t.Errorf("%s: %q, %v", name, lines, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := newRegistry(t)
	if _, err := clientOf(r.Server).Pull(ctx, refOf(t, r.Server)); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if _, err := (Client{Roots: x509.NewCertPool()}).Pull(t.Context(), refOf(t, r.Server)); !errors.Is(err, ErrDown) {
		t.Errorf("a certificate of a stranger: %v", err)
	}
	if _, err := clientOf(r.Server).Pull(t.Context(), mustParse(t, "oci://registry.example/owner/name")); err == nil {
		t.Error("a reference without a tag")
	}
}

// TestPushRefused: what nobody could pull is not pushed.
func TestPushRefused(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	many := make([][]byte, MaxLayers+1)
	for i := range many {
		many[i] = fmt.Appendf(nil, `{"n":%d}`, i)
	}
	for name, b := range map[string][][]byte{
		"none": nil, "no object": {[]byte("[]")}, "no JSON": {[]byte("{")}, "two of them": {[]byte("{}{}")}, "many": many,
		"large": {append(append([]byte(`{"a":"`), bytes.Repeat([]byte("a"), int(MaxBundle))...), '"', '}')},
	} {
		if d, err := clientOf(r.Server).Push(t.Context(), refOf(t, r.Server), b); !errors.Is(err, refusal.ErrMalformed) {
			t.Errorf("%s: %s, %v", name, d, err)
		}
	}
	if len(r.asked) > 0 {
		t.Errorf("the registry was asked %q", r.asked)
	}
	r.handle["/v2/acme/images/blobs/uploads/"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }
	if _, err := clientOf(r.Server).Push(t.Context(), refOf(t, r.Server), [][]byte{[]byte(`{"new":1}`)}); !errors.Is(err, ErrDenied) {
		t.Errorf("a registry that takes nothing: %v", err)
	}
}

func BenchmarkPull(b *testing.B) {
	r := newRegistry(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.pull(b); err != nil {
			b.Fatal(err)
		}
	}
}
