// SPDX-License-Identifier: Apache-2.0

// Package locks says which of Debian's packages an image is made of: each by name, version, architecture, digest, size
// and place in the archive.
//
// It guarantees that a [Lock] has exactly one spelling, that nothing stands in it twice, and that each of its paths and
// names is harmless as a file name. It trusts nothing and reaches no network: that the digests are Debian's was checked by
// apt, against Debian's keys, when the lock was taken; that a file is the one that a lock names is for who fetches it.
// The locks of the published images are part of this package, see [OfProfile].
package locks

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"time"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/internal/strict"
)

// Schema is the value of a lock's schema field.
const Schema = "kettle.lock/v1"

// Bounds of what [Parse] reads.
const (
	maxLock     = 4 << 20
	maxPackages = 4096
	maxSize     = 2 << 30 // of one package, in bytes
)

// Use is what an image takes a package for.
type Use string

// The uses, in the order in which they stand in a lock.
const (
	Install Use = "install" // a part of the root file system
	Unpack  Use = "unpack"  // files of it are parts of the root file system
	Kernel  Use = "kernel"  // its kernel and modules
	Stub    Use = "stub"    // its EFI program that starts a unified kernel image
	Tool    Use = "tool"    // a program of it packs the root file system
)

// uses gives the order, and how many packages of each there are: at least one, and one exactly where one is meant.
var uses = []struct {
	use  Use
	many bool
}{{Install, true}, {Unpack, true}, {Kernel, false}, {Stub, false}, {Tool, false}}

// Archive is one of Debian's two archives.
type Archive string

// The archives.
const (
	Main     Archive = "debian"
	Security Archive = "debian-security"
)

// Package is one package of the archive.
type Package struct {
	Architecture string       `json:"architecture"`
	Archive      Archive      `json:"archive"`
	Name         string       `json:"name"`
	Path         string       `json:"path"` // in the archive
	SHA256       image.SHA256 `json:"sha256"`
	Size         int64        `json:"size"` // bytes
	Use          Use          `json:"use"`
	Version      string       `json:"version"`
}

// String names the package as people do.
func (p Package) String() string { return p.Name + " " + p.Version }

// header is the first line of a lock.
type header struct {
	Profile string   `json:"profile"`
	Schema  string   `json:"schema"`
	Suite   string   `json:"suite"`
	Taken   string   `json:"taken"`
	Wanted  []string `json:"wanted"`
}

// Lock is what the archive answered when it was asked for some packages.
type Lock struct {
	Profile  string    // of the image, see image/build
	Suite    string    // of Debian, for example "bookworm"
	Taken    time.Time // when the archive was asked, in whole seconds; nothing is decided by it
	Wanted   []string  // what was asked for, sorted; the other packages of [Install] follow from it
	Packages []Package // sorted by use and name
}

//go:embed *.lock
var published embed.FS

// OfProfile gives the lock of a profile's published image. Its error matches [fs.ErrNotExist] if there is no such profile.
func OfProfile(profile string) (*Lock, error) {
	if !word.MatchString(profile) {
		return nil, fmt.Errorf("reading the lock of profile %q: %w", profile, fs.ErrNotExist)
	}
	data, err := published.ReadFile(profile + ".lock")
	if err != nil {
		return nil, fmt.Errorf("reading the lock of profile %q: %w", profile, err)
	}
	lock, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("profile %q: %w", profile, err)
	}
	return lock, nil
}

// Digest identifies the lock: the SHA-256 of its bytes.
func (l *Lock) Digest() (image.SHA256, error) {
	data, err := l.Marshal()
	return sha256.Sum256(data), err
}

// Of gives the packages of one use.
func (l *Lock) Of(use Use) []Package {
	var found []Package
	for _, p := range l.Packages {
		if p.Use == use {
			found = append(found, p)
		}
	}
	return found
}

// Only gives the one package of a use that has one.
func (l *Lock) Only(use Use) (Package, error) {
	found := l.Of(use)
	if len(found) != 1 {
		return Package{}, fmt.Errorf("the lock: want one package to %s, got %d", use, len(found))
	}
	return found[0], nil
}

// Marshal gives the lock's bytes: a header and then a package a line, each canonical JSON. An invalid lock is not written.
func (l *Lock) Marshal() ([]byte, error) {
	if err := l.Validate(); err != nil {
		return nil, fmt.Errorf("writing the lock: %w", err)
	}
	var b bytes.Buffer
	lines := json.NewEncoder(&b) // keys stand in the order of their names, values are plain ASCII: this is canonical
	lines.SetEscapeHTML(false)
	err := lines.Encode(header{Profile: l.Profile, Schema: Schema, Suite: l.Suite, Taken: l.Taken.UTC().Format(time.RFC3339), Wanted: l.Wanted})
	for _, p := range l.Packages {
		err = errors.Join(err, lines.Encode(p))
	}
	if err != nil {
		return nil, fmt.Errorf("writing the lock: %w", err)
	}
	return b.Bytes(), nil
}

// Parse reads what [Lock.Marshal] writes and nothing else.
func Parse(data []byte) (*Lock, error) {
	l, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("reading the lock: %w", err)
	}
	return l, nil
}

func parse(data []byte) (*Lock, error) {
	if len(data) > maxLock {
		return nil, fmt.Errorf("%d bytes, at most %d are allowed", len(data), maxLock)
	}
	first, rest, _ := bytes.Cut(data, []byte("\n"))
	var h header
	if err := strict.Decode(first, &h); err != nil {
		return nil, fmt.Errorf("line 1: %w", err)
	}
	if h.Schema != Schema {
		return nil, fmt.Errorf("line 1: schema: want %q, got %.40q", Schema, h.Schema)
	}
	taken, err := time.Parse(time.RFC3339, h.Taken)
	if err != nil {
		return nil, fmt.Errorf("line 1: taken: want a time as 2026-01-02T15:04:05Z, got %.40q", h.Taken)
	}
	l := &Lock{Profile: h.Profile, Suite: h.Suite, Taken: taken, Wanted: h.Wanted}
	number := 1
	for line := range bytes.Lines(rest) {
		if number++; number > maxPackages+1 {
			return nil, fmt.Errorf("more than %d packages", maxPackages)
		}
		var p Package
		if err := strict.Decode(line, &p); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		l.Packages = append(l.Packages, p)
	}
	again, err := l.Marshal()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, data) {
		return nil, errors.New("it is not written as this program writes it: keys in order, no spaces, a line each")
	}
	return l, nil
}

// What names and paths are made of: Debian policy 5.6.1 and 5.6.12, and no more than the archive uses.
var (
	word    = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)
	name    = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{1,127}$`)
	version = regexp.MustCompile(`^[0-9][A-Za-z0-9.+~:-]{0,127}$`)
	place   = regexp.MustCompile(`^pool(/[A-Za-z0-9][A-Za-z0-9_.+~-]*){3,6}\.deb$`)
)

// IsName tells whether text can be the name of a package.
func IsName(text string) bool { return name.MatchString(text) }

// Validate reports every fault of the lock, joined.
func (l *Lock) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(word.MatchString(l.Profile), "profile: want a word, got %.40q", l.Profile)
	check(word.MatchString(l.Suite), "suite: want a word, got %.40q", l.Suite)
	check(l.Taken.Unix() > 0 && l.Taken.Nanosecond() == 0, "taken: want a time in whole seconds")
	check(len(l.Wanted) > 0 && slices.IsSorted(l.Wanted), "wanted: want names in order")
	for i, n := range l.Wanted {
		check(name.MatchString(n), "wanted: want a package's name, got %.40q", n)
		check(i == 0 || l.Wanted[i-1] != n, "wanted: %s stands there twice", n)
	}
	for _, p := range l.Packages {
		if err := p.validate(); err != nil {
			faults = append(faults, fmt.Errorf("package %.40q: %w", p.Name, err))
		}
	}
	check(slices.IsSortedFunc(l.Packages, order), "packages: want them in order of their use and name")
	for i := 1; i < len(l.Packages); i++ {
		check(order(l.Packages[i-1], l.Packages[i]) != 0, "packages: %s stands there twice", l.Packages[i].Name)
	}
	for _, u := range uses {
		n := len(l.Of(u.use))
		check(n == 1 || n > 1 && u.many, "packages: got %d to %s", n, u.use)
	}
	return errors.Join(faults...)
}

func (p Package) validate() error {
	switch {
	case !name.MatchString(p.Name):
		return errors.New("name: want a package's name")
	case !version.MatchString(p.Version):
		return fmt.Errorf("version: got %.40q", p.Version)
	case p.Architecture != "amd64" && p.Architecture != "all":
		return fmt.Errorf("architecture: want amd64 or all, got %.40q", p.Architecture)
	case p.Archive != Main && p.Archive != Security:
		return fmt.Errorf("archive: want %s or %s, got %.40q", Main, Security, p.Archive)
	case rank(p.Use) < 0:
		return fmt.Errorf("use: got %.40q", p.Use)
	case p.SHA256 == image.SHA256{}:
		return errors.New("sha256: absent")
	case p.Size <= 0 || p.Size > maxSize:
		return fmt.Errorf("size: want 1 to %d bytes, got %d", maxSize, p.Size)
	case len(p.Path) > 512 || !place.MatchString(p.Path):
		return fmt.Errorf("path: want a package's place in the archive's pool, got %.80q", p.Path)
	}
	return nil
}

func rank(use Use) int {
	for i, u := range uses {
		if u.use == use {
			return i
		}
	}
	return -1
}

func order(a, b Package) int {
	return cmp.Or(cmp.Compare(rank(a.Use), rank(b.Use)), cmp.Compare(a.Name, b.Name))
}

// Sort puts wanted names and packages in their order, and drops names that were asked for twice.
func (l *Lock) Sort() {
	slices.Sort(l.Wanted)
	l.Wanted = slices.Compact(l.Wanted)
	slices.SortFunc(l.Packages, order)
}
