// SPDX-License-Identifier: Apache-2.0

// Package changes says what a job changed on disk relative to its image, from the upper layer of the sandbox's overlay.
//
// It guarantees that every name of the image that the job deleted, replaced or changed, in its bytes, type, mode, owner or
// capabilities, is counted, and listed with the SHA-256 of the file before and after: the image's own folders are walked,
// and each of their names is looked up in the upper layer, so that no flood of new files hides what became of the old
// ones. What the job created is walked after that. All of it is bounded ([Limits]); where a bound ends the work, the result
// says so ([Changes.Complete]) and is never silently shorter.
//
// The layer is read as the kernel wrote it for an overlay without metacopy and redirects: whiteouts are character devices
// 0/0 or marked in trusted attributes, and a folder is opaque by a trusted attribute. Nobody in a user namespace can write
// trusted attributes, and the ones of the user namespace ("user.overlay…") mean nothing here. Nothing but folders and
// regular files is opened, and nothing by a link (package beneath).
//
// It trusts the kernel and its [Config], and needs every process of the sandbox to be dead. The list is relative to the
// image: what kettled itself wrote into the sandbox before the job began is in it, and what lies in volumes beside the
// overlay is only counted. The job chose every name in it.
package changes

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Schema names the format of the list, on its first line.
const Schema = "kettle.changes/v1"

// Volume is a directory of the sandbox beside the overlay, and where kettled finds it.
type Volume struct {
	Inside  string
	Outside string
}

// IDs are the user and group ids that stand outside for the sandbox's 0 to Count-1.
type IDs struct {
	First uint32
	Count uint32
}

// inside gives the sandbox's own id, or -1 for one that it does not have.
func (i IDs) inside(id uint32) int64 {
	if id < i.First || id-i.First >= i.Count {
		return -1
	}
	return int64(id - i.First)
}

// Config says where the layers are.
type Config struct {
	Upper   string   // the overlay's upper directory
	Lower   string   // the image, with ids shifted like the upper layer's
	Volumes []Volume // what else the sandbox could write to
	IDs     IDs
}

// Validate reports every fault.
func (c Config) Validate() error {
	var errs []error
	paths := map[string]string{"the upper layer": c.Upper, "the image": c.Lower}
	for _, v := range c.Volumes {
		paths["the volume "+v.Inside] = v.Outside
		if !filepath.IsAbs(v.Inside) {
			errs = append(errs, fmt.Errorf("checking the layers: the volume %q has no absolute path inside", v.Inside))
		}
	}
	for what, p := range paths {
		if !filepath.IsAbs(p) {
			errs = append(errs, fmt.Errorf("checking the layers: %s is at %q, which is not an absolute path", what, p))
		}
	}
	if c.IDs.Count == 0 {
		errs = append(errs, errors.New("checking the layers: no ids of the sandbox"))
	}
	return errors.Join(errs...)
}

// Limits bounds one [Collect]. A zero field is refused: there is no "unlimited".
type Limits struct {
	Entries   int           // names looked at: of the image, of the upper layer and of each volume
	HashBytes int64         // read from files that the image has too, before and after
	ListBytes int           // of the list, and again of the folders yet to be walked
	Time      time.Duration // of the whole call
}

// Validate names every field that is not positive.
func (l Limits) Validate() error {
	if l.Entries <= 0 || l.HashBytes <= 0 || l.ListBytes <= 0 || l.Time <= 0 {
		return fmt.Errorf("checking the limits of a list of changes: %+v has to be positive throughout", l)
	}
	return nil
}

// Bound is what ended the work early.
type Bound string

// The bounds.
const (
	BoundEntries    Bound = "entries"    // more names than may be looked at
	BoundHash       Bound = "hash"       // files without digests: more bytes than may be read
	BoundList       Bound = "list"       // changes that are counted and not listed
	BoundTime       Bound = "time"       // out of time
	BoundDepth      Bound = "depth"      // a path longer than the kernel resolves
	BoundUnreadable Bound = "unreadable" // the disk failed
	BoundOverlay    Bound = "overlay"    // marks of an overlay that kettled does not mount
)

// Usage counts what a volume holds.
type Usage struct {
	Path     string `json:"path"`     // inside
	Files    int    `json:"files"`    // regular ones
	Bytes    int64  `json:"bytes"`    // of disk that they take
	Complete bool   `json:"complete"` // false when a bound ended the counting
}

// Changes is what was found.
type Changes struct {
	Created int
	Changed int
	Deleted int
	Bounds  []Bound // in order; none when everything was seen
	Volumes []Usage
	lines   []byte
}

// Complete reports whether no bound ended the work.
func (c *Changes) Complete() bool { return len(c.Bounds) == 0 }

// Lines is the list as JSON Lines: the schema and the counts first, then the changes in the order of their paths.
func (c *Changes) Lines() []byte { return c.lines }

// Digest is the SHA-256 of [Changes.Lines].
func (c *Changes) Digest() [32]byte { return sha256.Sum256(c.lines) }

// errBound ends one part of the work; which bound it was is noted.
var errBound = errors.New("bounded")

// Collect compares the upper layer with the image. A bound is no error: the result says which one. Errors mean that the
// layers could not be opened or that ctx ended.
func Collect(ctx context.Context, config Config, limits Limits) (*Changes, error) {
	if err := errors.Join(config.Validate(), limits.Validate()); err != nil {
		return nil, err
	}
	c := &collector{config: config, limits: limits, end: time.Now().Add(limits.Time), bounds: map[Bound]bool{}, result: &Changes{}}
	var err error
	if c.upper, err = openLayer(config.Upper); err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(c.upper) }()
	if c.lower, err = openLayer(config.Lower); err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(c.lower) }()
	// What became of the image's files comes first: whatever the job adds cannot use up the bounds before.
	for _, part := range []func(context.Context) error{c.tracked, c.compare, c.created, c.usage} {
		c.begin()
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("listing changes: %w", err)
		}
		if err := part(ctx); err != nil && !errors.Is(err, errBound) {
			return nil, err
		}
	}
	return c.finish()
}

func openLayer(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening the layer %s: %w", dir, err)
	}
	return fd, nil
}
