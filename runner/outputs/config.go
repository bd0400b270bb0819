// SPDX-License-Identifier: Apache-2.0

package outputs

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Volume is a directory of the sandbox and where kettled finds it. The one whose Inside is the longest prefix of a path
// has the file.
type Volume struct {
	Inside  string // absolute path in the sandbox
	Outside string // absolute path of a directory, as kettled sees it
}

// IDs are the user and group ids that the sandbox's files have when kettled looks at them.
type IDs struct {
	First uint32
	Count uint32 // 0 would be nobody, and is refused
}

func (i IDs) contain(id uint32) bool { return id >= i.First && id-i.First < i.Count }

// Config says where a sandbox's files are. Nothing in it comes from a job.
type Config struct {
	Volumes     []Volume // in any order; one of them is "/"
	Image       string   // what the "/" volume lies over, to tell a file of the image from none at all; "" says of both that nothing is there
	Snapshots   string   // directory of kettled alone on the file system of the volumes; "" makes no snapshots
	FileSystems []string // types that volumes may lie on, as /proc/filesystems names them
	IDs         IDs
}

// Validate reports every fault.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("checking the table of volumes: "+format, args...))
	}
	seen := map[string]bool{}
	for _, v := range c.Volumes {
		if !clean(v.Inside) || !clean(v.Outside) {
			fault("%q at %q: both paths have to be absolute and clean", v.Inside, v.Outside)
		}
		if seen[v.Inside] {
			fault("%q twice", v.Inside)
		}
		seen[v.Inside] = true
		if c.Snapshots != "" && (within(v.Outside, c.Snapshots) || within(c.Snapshots, v.Outside)) {
			fault("the folder for snapshots and the volume %q lie in one another", v.Inside)
		}
	}
	if !seen["/"] {
		fault(`no volume for "/"`)
	}
	if len(c.FileSystems) == 0 || slices.Contains(c.FileSystems, "") {
		fault("no list of file system types")
	}
	if c.IDs.Count == 0 {
		fault("no ids of the sandbox")
	}
	for _, p := range []string{c.Image, c.Snapshots} {
		if p != "" && !clean(p) {
			fault("%q has to be absolute and clean", p)
		}
	}
	return errors.Join(errs...)
}

func clean(p string) bool { return path.IsAbs(p) && path.Clean(p) == p }

// within reports whether p is dir or lies below it.
func within(dir, p string) bool {
	return dir == p || dir == "/" || strings.HasPrefix(p, dir+"/")
}
