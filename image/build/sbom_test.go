// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/imagetest"
)

// goProgram compiles a program of this module.
func goProgram(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	_, err := run(t.Context(), tool{name: "go", args: []string{"build", "-trimpath", "-buildvcs=false", "-o", path, "../../cmd/kettle-action"}})
	must(t, err)
	return path
}

// testBill is the bill of an image with one program for all that Go has made.
func testBill(t *testing.T, self string) []byte {
	t.Helper()
	b, err := newBill("kettle-strict", imagetest.Digest(1))
	must(t, err)
	for _, c := range imagetest.Manifest().Components {
		id := b.component(c)
		if c.Name == image.ComponentKettled || c.Name == image.ComponentAction {
			version, err := b.program(id, self)
			if err != nil || !strings.HasPrefix(version, "go1.") {
				t.Fatalf("got %q, %v", version, err)
			}
		}
	}
	for _, p := range published(t, Strict).Packages {
		b.debian(p)
	}
	data, err := b.bytes()
	must(t, err)
	return data
}

// TestSBOMRules holds a bill against the rules of SPDX 2.3 that its JSON schema and its text state: required fields, the
// forms of identifiers, digests, times and references, that each identifier is there once and each relationship leads to
// one, and that nothing is there that the schema does not know.
func TestSBOMRules(t *testing.T) {
	t.Parallel()
	data := testBill(t, goProgram(t))
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var doc struct {
		SPDXVersion       string `json:"spdxVersion"`
		DataLicense       string `json:"dataLicense"`
		SPDXID            string `json:"SPDXID"`
		Name              string `json:"name"`
		DocumentNamespace string `json:"documentNamespace"`
		CreationInfo      struct {
			Created  string   `json:"created"`
			Creators []string `json:"creators"`
		} `json:"creationInfo"`
		Packages []struct {
			SPDXID           string `json:"SPDXID"`
			Name             string `json:"name"`
			VersionInfo      string `json:"versionInfo"`
			PackageFileName  string `json:"packageFileName"`
			Supplier         string `json:"supplier"`
			DownloadLocation string `json:"downloadLocation"`
			FilesAnalyzed    *bool  `json:"filesAnalyzed"`
			Checksums        []struct {
				Algorithm     string `json:"algorithm"`
				ChecksumValue string `json:"checksumValue"`
			} `json:"checksums"`
			LicenseConcluded string `json:"licenseConcluded"`
			LicenseDeclared  string `json:"licenseDeclared"`
			CopyrightText    string `json:"copyrightText"`
			Comment          string `json:"comment"`
			ExternalRefs     []struct {
				ReferenceCategory string `json:"referenceCategory"`
				ReferenceType     string `json:"referenceType"`
				ReferenceLocator  string `json:"referenceLocator"`
			} `json:"externalRefs"`
			PrimaryPackagePurpose string `json:"primaryPackagePurpose"`
		} `json:"packages"`
		Relationships []struct {
			SPDXElementID      string `json:"spdxElementId"`
			RelationshipType   string `json:"relationshipType"`
			RelatedSPDXElement string `json:"relatedSpdxElement"`
		} `json:"relationships"`
	}
	must(t, decoder.Decode(&doc))
	if doc.SPDXVersion != "SPDX-2.3" || doc.DataLicense != "CC0-1.0" || doc.SPDXID != "SPDXRef-DOCUMENT" || doc.Name == "" ||
		!strings.HasPrefix(doc.DocumentNamespace, "https://") || strings.Contains(doc.DocumentNamespace, "#") {
		t.Errorf("the document: %+v", doc)
	}
	if _, err := time.Parse("2006-01-02T15:04:05Z", doc.CreationInfo.Created); err != nil || !slices.Equal(doc.CreationInfo.Creators, []string{"Tool: kettle-image-build"}) {
		t.Errorf("creation: %+v", doc.CreationInfo)
	}
	id, digest := regexp.MustCompile(`^SPDXRef-[A-Za-z0-9.-]+$`), regexp.MustCompile(`^[0-9a-f]{64}$`)
	purl := regexp.MustCompile(`^pkg:[a-z]+/[A-Za-z0-9._~/%+-]+@[A-Za-z0-9.%_~-]+(\?[a-z]+=[a-z0-9]+(&[a-z]+=[a-z0-9]+)*)?$`)
	known := map[string]bool{"SPDXRef-DOCUMENT": true}
	for _, p := range doc.Packages {
		if !id.MatchString(p.SPDXID) || known[p.SPDXID] {
			t.Errorf("%s: the identifier %q is no identifier, or there twice", p.Name, p.SPDXID)
		}
		known[p.SPDXID] = true
		if p.Name == "" || p.DownloadLocation != "NOASSERTION" || p.LicenseConcluded != "NOASSERTION" || p.LicenseDeclared != "NOASSERTION" || p.CopyrightText != "NOASSERTION" {
			t.Errorf("%s: a field is missing", p.SPDXID)
		}
		if p.FilesAnalyzed == nil || *p.FilesAnalyzed { // true demands a verification code
			t.Errorf("%s: files are said to be analysed", p.SPDXID)
		}
		if p.Supplier != "" && p.Supplier != "Organization: Debian" {
			t.Errorf("%s: the supplier %q", p.SPDXID, p.Supplier)
		}
		for _, c := range p.Checksums {
			if c.Algorithm != "SHA256" || !digest.MatchString(c.ChecksumValue) || c.ChecksumValue == strings.Repeat("0", 64) {
				t.Errorf("%s: the digest %v", p.SPDXID, c)
			}
		}
		for _, r := range p.ExternalRefs {
			if r.ReferenceCategory != "PACKAGE-MANAGER" || r.ReferenceType != "purl" || !purl.MatchString(r.ReferenceLocator) {
				t.Errorf("%s: the reference %v", p.SPDXID, r)
			}
		}
		if !slices.Contains([]string{"", "APPLICATION", "LIBRARY", "OPERATING-SYSTEM", "FIRMWARE", "FILE"}, p.PrimaryPackagePurpose) {
			t.Errorf("%s: the purpose %q", p.SPDXID, p.PrimaryPackagePurpose)
		}
	}
	held := map[string]bool{}
	for _, r := range doc.Relationships {
		if !known[r.SPDXElementID] || !known[r.RelatedSPDXElement] {
			t.Errorf("%v leads nowhere", r)
		}
		if !slices.Contains([]string{"DESCRIBES", "CONTAINS", "STATIC_LINK", "BUILD_TOOL_OF"}, r.RelationshipType) {
			t.Errorf("the relationship %s", r.RelationshipType)
		}
		held[r.SPDXElementID], held[r.RelatedSPDXElement] = true, true
	}
	for name := range known {
		if !held[name] {
			t.Errorf("%s hangs in the air", name)
		}
	}
}

// TestSBOMHoldsAll shows that every package of the lock is there with its digest, and each of our programs with its modules.
func TestSBOMHoldsAll(t *testing.T) {
	t.Parallel()
	program := goProgram(t)
	data := testBill(t, program)
	if again := testBill(t, program); !bytes.Equal(data, again) {
		t.Error("two bills of one image differ")
	}
	var doc spdx.Document // as others read it
	must(t, json.Unmarshal(data, &doc))
	found := map[string]*spdx.Package{}
	for _, p := range doc.Packages {
		found[string(p.PackageSPDXIdentifier)] = p
	}
	for _, p := range published(t, Strict).Packages {
		got := found[string(element("deb", p.Name))]
		if got == nil || got.PackageVersion != p.Version || len(got.PackageChecksums) != 1 || got.PackageChecksums[0].Value != p.SHA256.String() {
			t.Errorf("%s: got %+v", p, got)
		}
	}
	for _, c := range imagetest.Manifest().Components {
		got := found[string(element("component", c.Name))]
		if got == nil || got.PackageVersion != c.Version || got.PackageFileName != c.Path || got.PackageChecksums[0].Value != c.SHA256.String() {
			t.Errorf("%s: got %+v", c.Name, got)
		}
	}
	if p := found["go-stdlib-"+strings.TrimPrefix(goVersion(t), "go")]; p == nil {
		t.Error("Go's own library is missing")
	}
	linked := 0
	for _, r := range doc.Relationships {
		if r.Relationship == "STATIC_LINK" && r.RefA.ElementRefID == element("component", image.ComponentKettled) {
			linked++
		}
	}
	if linked < 3 {
		t.Errorf("kettled is linked from %d modules", linked)
	}
	if got := found[string(element("deb", "git"))].PackageExternalReferences[0].Locator; !strings.HasPrefix(got, "pkg:deb/debian/git@1%3A2.39") {
		t.Errorf("git is %s", got)
	}
}

func goVersion(t *testing.T) string {
	t.Helper()
	out, err := run(t.Context(), tool{name: "go", args: []string{"env", "GOVERSION"}})
	must(t, err)
	return strings.TrimSpace(string(out))
}

func TestElement(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, words := range [][]string{{"deb", "g++"}, {"deb", "g--"}, {"deb", "g"}, {"go", "a/b", "v1"}, {"go", "a", "b/v1"}, {"deb", "libstdc++6"}, {"deb", "libstdc6"}} {
		id := string(element(words...))
		if other, twice := seen[id]; twice || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
			t.Errorf("%v has %q, and so has %v", words, id, other)
		}
		seen[id] = strings.Join(words, " ")
	}
	if _, err := (&bill{seen: nil}).program("x", "/dev/null"); err == nil {
		t.Error("what is no program has modules")
	}
}
