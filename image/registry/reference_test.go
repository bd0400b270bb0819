// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"oci://registry.example/owner/name":                                   "",
		"oci://registry.example/owner/name:v1.2_3-rc":                         "",
		"oci://registry.example:5000/name":                                    "",
		"oci://registry:5000/name":                                            "",
		"oci://127.0.0.1:5000/a/b/c":                                          "",
		"oci://registry.example/a__b/c.d/e--f":                                "",
		"oci://index.docker.io/owner/name":                                    "",
		"":                                                                    "does not begin",
		"registry.example/owner/name":                                         "does not begin",
		"https://registry.example/owner/name":                                 "does not begin",
		"OCI://registry.example/owner/name":                                   "does not begin",
		"oci:registry.example/owner/name":                                     "does not begin",
		"oci://registry.example":                                              "no repository",
		"oci://registry.example/":                                             "repository",
		"oci://registry.example/x":                                            "repository",
		"oci://registry.example//name":                                        "repository",
		"oci://registry.example/owner/":                                       "repository",
		"oci://registry.example/owner/../name":                                "repository",
		"oci://registry.example/./name":                                       "repository",
		"oci://registry.example/Owner/name":                                   "repository",
		"oci://registry.example/owner/name?x=1":                               "repository",
		"oci://registry.example/owner/name#x":                                 "repository",
		"oci://registry.example/owner%2fname":                                 "repository",
		"oci://registry.example/owner/name ":                                  "repository",
		"oci://registry.example/owner\n/name":                                 "repository",
		"oci://registry.example/-owner/name":                                  "repository",
		"oci://registry.example/a___b/c":                                      "repository",
		"oci://registry.example/owner/name:":                                  "tag",
		"oci://registry.example/owner/name:.v1":                               "tag",
		"oci://registry.example/owner/name:a/b":                               "tag",
		"oci://registry.example/owner/name:a:b":                               "tag",
		"oci://registry.example/owner/name:v1\n":                              "tag",
		"oci://user@registry.example/owner/name":                              "user or a digest",
		"oci://user:secret@registry.example/owner/name":                       "user or a digest",
		"oci://registry.example/owner/name@sha256:" + strings.Repeat("a", 64): "user or a digest",
		"oci://Registry.example/owner/name":                                   "lower case",
		"oci://registry_1.example/owner/name":                                 "host name",
		"oci://.example/owner/name":                                           "host name",
		"oci://registry.example./owner/name":                                  "host name",
		"oci://[::1]:5000/owner/name":                                         "host name",
		"oci://:5000/owner/name":                                              "host name",
		"oci://127.1/owner/name":                                              "two ways",
		"oci://0127.0.0.1/owner/name":                                         "two ways",
		"oci://registry.example:/owner/name":                                  "port",
		"oci://registry.example:0/owner/name":                                 "port",
		"oci://registry.example:080/owner/name":                               "port",
		"oci://registry.example:65536/owner/name":                             "port",
		"oci://registry.example:1:2/owner/name":                               "port",
		"oci://registry.example/" + strings.Repeat("a", 256):                  "repository",
		"oci://" + strings.Repeat("a.", 130) + "example/name":                 "host name",
		"oci://registry.example/name:" + strings.Repeat("a", 129):             "tag",
		"oci://registry.example/" + strings.Repeat("a/", 500):                 "more than",
	} {
		r, err := Parse(text)
		switch {
		case says == "" && (err != nil || r.String() != text):
			t.Errorf("%q: %q, %v", text, r, err)
		case says != "" && (err == nil || !strings.Contains(err.Error(), says) || r != (Reference{})):
			t.Errorf("%q: %q, %v; want %q", text, r, err, says)
		}
	}
}

// TestAttackAmbiguousReference: a name that another program reads as one of the hub of Docker is none.
func TestAttackAmbiguousReference(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"oci://localhost/owner/name", "oci://library/name", "oci://registry/owner/name:v1", "oci://127.1/owner/name"} {
		if r, err := Parse(text); err == nil {
			t.Errorf("%s is read as %v", text, r)
		}
	}
}

func TestForRoot(t *testing.T) {
	t.Parallel()
	hash := [32]byte{0xab}
	want := "oci://registry.example/owner/name:root-ab" + strings.Repeat("0", 62)
	if got := mustParse(t, "oci://registry.example/owner/name").ForRoot(hash).String(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := mustParse(t, "oci://registry.example/owner/name:v1").ForRoot(hash).String(); got != "oci://registry.example/owner/name:v1" {
		t.Error(got)
	}
	if _, err := mustParse(t, want).named(); err != nil {
		t.Error(err)
	}
}

func mustParse(t testing.TB, text string) Reference {
	t.Helper()
	r, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// FuzzParse: what is read is written as it was, and is to the library what it is here.
func FuzzParse(f *testing.F) {
	f.Add("oci://registry.example/owner/name:v1")
	f.Add("oci://registry.example:5000/owner/name")
	f.Add("oci://docker.io/name")
	f.Add("oci://user@registry.example/../name@sha256:00")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(text)
		if err != nil {
			return
		}
		if r.String() != text {
			t.Fatalf("%q became %q", text, r)
		}
		tag, err := r.ForRoot([32]byte{}).named()
		if err != nil {
			t.Fatal(err)
		}
		if tag.RegistryStr() == name.DefaultRegistry {
			return // docker.io is its other name
		}
		if got := tag.RegistryStr() + "/" + tag.RepositoryStr(); got != r.host+"/"+r.repository {
			t.Fatalf("%q is %q to the library", text, got)
		}
	})
}

// FuzzParseManifest: what is read is within the bounds.
func FuzzParseManifest(f *testing.F) {
	a, err := pack([][]byte{[]byte(`{"a":1}`), []byte(`{"b":2}`)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(a.manifest)
	f.Add([]byte(`{"schemaVersion":2,"layers":[{"size":-1}]}`))
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"` + manifestType + `","artifactType":"` + ArtifactType + `","config":{"mediaType":"` + emptyType + `"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parseManifest(text)
		if err != nil {
			return
		}
		sum := int64(0)
		for _, l := range m.Layers {
			if len(l.Digest) != 71 || l.Size <= 0 || l.Size > MaxBundle || l.MediaType != LayerType {
				t.Fatalf("%+v", l)
			}
			sum += l.Size + 1
		}
		if len(m.Layers) == 0 || len(m.Layers) > MaxLayers || sum > MaxBundle {
			t.Fatalf("%d layers of %d bytes", len(m.Layers), sum)
		}
	})
}
