// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// Scheme begins every reference.
const Scheme = "oci://"

// Bounds of a reference in bytes (OCI distribution specification 1.1, “Pulling manifests”; RFC 1035 for the host).
const (
	maxHost       = 253
	maxRepository = 255
	minRepository = 2
	maxText       = len(Scheme) + maxHost + len(":65535/") + maxRepository + len(":") + 128
)

var (
	hostForm       = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
	repositoryForm = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagForm        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// Reference names an artefact in a registry: oci://registry.example/owner/name:tag. Without a tag it names those of many
// images; [Reference.ForRoot] gives the one of an image. Only [Parse] makes one that is not empty.
type Reference struct{ host, repository, tag string }

// Parse reads a reference. The registry is never left out and needs a dot or a port; nothing stands for it. A digest has no
// place in a reference: it would have to be known before the image is signed, and the signatures decide.
func Parse(text string) (Reference, error) {
	r, err := parse(text)
	if err != nil {
		return Reference{}, fmt.Errorf("reading %.600q: %w; want %sregistry.example/owner/name, with or without :tag", text, err, Scheme)
	}
	return r, nil
}

func parse(text string) (r Reference, err error) {
	rest, ok := strings.CutPrefix(text, Scheme)
	switch {
	case !ok:
		return r, errors.New("it does not begin with " + Scheme)
	case len(text) > maxText:
		return r, fmt.Errorf("it has more than %d bytes", maxText)
	case strings.Contains(rest, "@"):
		return r, errors.New("it names a user or a digest")
	}
	var path string
	if r.host, path, ok = strings.Cut(rest, "/"); !ok {
		return r, errors.New("it names a registry and no repository, or none of them")
	}
	var tagged bool
	r.repository, r.tag, tagged = strings.Cut(path, ":")
	switch {
	case tagged && !tagForm.MatchString(r.tag):
		return r, errors.New("its tag is none")
	case len(r.repository) < minRepository || len(r.repository) > maxRepository || !repositoryForm.MatchString(r.repository):
		return r, errors.New("its repository is none, in lower-case letters, digits and single separators between them")
	}
	if err := checkHost(r.host); err != nil {
		return r, err
	}
	_, err = r.ForRoot([32]byte{}).named() // what the library completes or does not take is no name either
	return r, err
}

// checkHost demands a host that cannot be taken for the first part of a repository.
func checkHost(text string) error {
	host, port, hasPort := strings.Cut(text, ":")
	if !hasPort && !strings.Contains(host, ".") {
		return errors.New("its registry has neither a dot nor a port")
	}
	if len(host) > maxHost || !hostForm.MatchString(host) {
		return errors.New("its registry is no host name in lower case")
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	if _, err := netip.ParseAddr(host); err != nil && strings.Trim(last, "0123456789") == "" {
		return errors.New("its registry is an address that can be read in two ways") // 127.1 and 0127.0.0.1: WHATWG URL, section 3.5
	}
	if n, err := strconv.ParseUint(port, 10, 16); hasPort && (err != nil || n == 0 || port[0] == '0') {
		return errors.New("the port of its registry is none")
	}
	return nil
}

// String gives the text that [Parse] reads.
func (r Reference) String() string {
	if r.tag == "" {
		return Scheme + r.host + "/" + r.repository
	}
	return Scheme + r.host + "/" + r.repository + ":" + r.tag
}

// Tagged reports whether it names one artefact.
func (r Reference) Tagged() bool { return r.tag != "" }

// ForRoot names the artefact of the image whose root file system has this hash. A tag that was given stays.
func (r Reference) ForRoot(hash [32]byte) Reference {
	if r.tag == "" {
		r.tag = "root-" + hex.EncodeToString(hash[:])
	}
	return r
}

// named translates a reference for the library.
func (r Reference) named() (name.Tag, error) {
	if r.tag == "" {
		return name.Tag{}, fmt.Errorf("asking a registry: %q names no artefact: it has no tag", r)
	}
	tag, err := name.NewTag(strings.TrimPrefix(r.String(), Scheme), name.StrictValidation)
	if err != nil {
		return name.Tag{}, fmt.Errorf("asking a registry: %w", err)
	}
	return tag, nil
}
