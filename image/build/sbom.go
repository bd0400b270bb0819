// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"cmp"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/locks"
)

// The words of SPDX 2.3 for what a document does not say: licences stand in the packages themselves.
const noAssertion = "NOASSERTION"

// bill is a bill of materials while it is written: SPDX 2.3. Every digest in it is one that a build has checked or made;
// nothing in it depends on when and where it was written.
type bill struct {
	doc  spdx.Document
	seen map[common.ElementID]bool
}

// imageID is the element that holds the others.
const imageID common.ElementID = "image"

// newBill begins a document about one image.
func newBill(name string, identity image.SHA256) (*bill, error) {
	epoch, err := strconv.ParseInt(sourceDateEpoch, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("writing the bill of materials: %w", err)
	}
	b := &bill{seen: map[common.ElementID]bool{}, doc: spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: name,
		DocumentNamespace: "https://github.com/kettle/attest/spdx/image/" + identity.String(),
		CreationInfo: &spdx.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "kettle-image-build"}},
			Created:  time.Unix(epoch, 0).UTC().Format(time.RFC3339),
		},
	}}
	b.add(imageID, spdx.Package{PackageName: name, PrimaryPackagePurpose: "OPERATING-SYSTEM"})
	b.relate("DOCUMENT", common.TypeRelationshipDescribe, imageID)
	return b, nil
}

// add adds an element, once. A digest of zeros is none.
func (b *bill) add(id common.ElementID, p spdx.Package, digests ...image.SHA256) bool {
	if b.seen[id] {
		return false
	}
	b.seen[id] = true
	p.PackageSPDXIdentifier = id
	p.PackageDownloadLocation = cmp.Or(p.PackageDownloadLocation, noAssertion)
	p.PackageLicenseConcluded, p.PackageLicenseDeclared, p.PackageCopyrightText = noAssertion, noAssertion, noAssertion
	for _, d := range digests {
		p.PackageChecksums = append(p.PackageChecksums, common.Checksum{Algorithm: common.SHA256, Value: hex.EncodeToString(d[:])})
	}
	b.doc.Packages = append(b.doc.Packages, &p)
	return true
}

func (b *bill) relate(from common.ElementID, how string, to common.ElementID) {
	b.doc.Relationships = append(b.doc.Relationships, &spdx.Relationship{
		RefA: common.DocElementID{ElementRefID: from}, RefB: common.DocElementID{ElementRefID: to}, Relationship: how,
	})
}

// element makes an SPDX identifier of words: letters, digits, dots and dashes (SPDX 2.3, 7.2). What is something else becomes
// a dash and its code.
func element(words ...string) common.ElementID {
	return common.ElementID(notID.ReplaceAllStringFunc(strings.Join(words, "-"), func(s string) string { return "-" + hex.EncodeToString([]byte(s)) + "-" }))
}

var notID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// reference is a package URL (purl).
func reference(kind, name, version, qualifiers string) []*spdx.PackageExternalReference {
	locator := "pkg:" + kind + "/" + name + "@" + url.QueryEscape(version)
	if qualifiers != "" {
		locator += "?" + qualifiers
	}
	return []*spdx.PackageExternalReference{{Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: locator}}
}

// debian adds a package of the lock.
func (b *bill) debian(p locks.Package) {
	id := element("deb", p.Name)
	how := common.TypeRelationshipContains
	if p.Use == locks.Tool {
		how = "BUILD_TOOL_OF"
	}
	if !b.add(id, spdx.Package{
		PackageName: p.Name, PackageVersion: p.Version, PackageFileName: path.Base(p.Path),
		PackageSupplier:           &common.Supplier{SupplierType: "Organization", Supplier: "Debian"},
		PackageExternalReferences: reference("deb/debian", p.Name, p.Version, "arch="+p.Architecture+"&distro="+suite),
	}, p.SHA256) {
		return
	}
	if p.Use == locks.Tool {
		b.relate(id, how, imageID)
		return
	}
	b.relate(imageID, how, id)
}

// component adds what the manifest names.
func (b *bill) component(c image.Component) common.ElementID {
	id := element("component", c.Name)
	p := spdx.Package{PackageName: c.Name, PackageVersion: c.Version, PackageFileName: c.Path, PrimaryPackagePurpose: "FILE"}
	switch c.Name {
	case image.ComponentRunner:
		p.PackageExternalReferences = reference("github", "actions/runner", "v"+c.Version, "")
		p.PrimaryPackagePurpose = "APPLICATION"
	case image.ComponentKettled, image.ComponentAction:
		p.PrimaryPackagePurpose = "APPLICATION"
	}
	b.add(id, p, c.SHA256)
	b.relate(imageID, common.TypeRelationshipContains, id)
	return id
}

// program adds what a Go program was linked from, as its toolchain wrote it down, and gives the toolchain's version.
func (b *bill) program(id common.ElementID, file string) (goVersion string, err error) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%s: want a Go program: %w", file, err)
	}
	standard := &debug.Module{Path: "stdlib", Version: strings.TrimPrefix(info.GoVersion, "go")}
	for _, m := range append([]*debug.Module{standard}, info.Deps...) {
		if m.Replace != nil {
			m = m.Replace
		}
		at := element("go", m.Path, m.Version)
		p := spdx.Package{
			PackageName: m.Path, PackageVersion: m.Version, PrimaryPackagePurpose: "LIBRARY",
			PackageExternalReferences: reference("golang", m.Path, m.Version, ""),
		}
		if m.Sum != "" {
			p.PackageComment = "go.sum " + m.Sum
		}
		b.add(at, p)
		b.relate(id, "STATIC_LINK", at)
	}
	return info.GoVersion, nil
}

// bytes gives the document.
func (b *bill) bytes() ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(&b.doc); err != nil {
		return nil, fmt.Errorf("writing the bill of materials: %w", err)
	}
	return out.Bytes(), nil
}

// writeSBOM writes the bill of materials and gives the version of Go that kettled was compiled with.
func (p *parts) writeSBOM(components []image.Component) (goVersion string, err error) {
	b, err := newBill(p.Name, p.identity(components))
	if err != nil {
		return "", err
	}
	for _, c := range components {
		id := b.component(c)
		switch c.Name {
		case image.ComponentKettled:
			if goVersion, err = b.program(id, p.Kettled); err != nil {
				return "", err
			}
		case image.ComponentAction:
			if _, err := b.program(id, p.Action); err != nil {
				return "", err
			}
		}
	}
	packages := slices.Clone(p.base.supply.lock.Packages)
	for _, d := range packages {
		b.debian(d)
	}
	firmware, err := describe(p.Firmware)
	if err != nil {
		return "", err
	}
	b.add("firmware", spdx.Package{PackageName: "firmware", PackageFileName: firmwareFile, PrimaryPackagePurpose: "FIRMWARE"}, firmware.SHA256)
	b.relate(imageID, common.TypeRelationshipContains, "firmware")
	data, err := b.bytes()
	if err != nil {
		return "", err
	}
	return goVersion, writeWhole(p.path(sbomFile), data)
}

// identity is a digest of all that goes into an image, for the document's name.
func (p *parts) identity(components []image.Component) image.SHA256 {
	var text strings.Builder
	fmt.Fprintln(&text, p.Name, p.base.recipe, p.line)
	for _, c := range components {
		fmt.Fprintln(&text, c.Name, c.Version, c.SHA256)
	}
	return sha256sum([]byte(text.String()))
}
