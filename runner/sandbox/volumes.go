// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// The sandbox's users and groups as the machine sees them: [IDs] of them from [FirstID] on, which is root inside.
const (
	FirstID = idBase
	IDs     = idSize
)

// Volume is one directory of the job's own: where it stands inside and outside of the sandbox. Files that the job writes
// are in a volume; what is not in one belongs to the image or to kettled.
type Volume struct{ Inside, Outside string }

// volume is a directory of scratch that is mounted over the overlay: an overlay cannot be a layer of another, and a file
// of the image cannot be taken for one of the job's where the image has no say.
type volume struct {
	inside, name string
	mode         os.FileMode
	owner        int // inside
}

func (p Profile) volumes() []volume {
	all := []volume{
		{Home, "home", 0o755, User},
		{"/tmp", "tmp", os.ModeSticky | 0o777, 0},
	}
	if p == Docker {
		all = append(all, volume{"/var/lib/docker", "docker", 0o711, 0}, volume{"/var/lib/containers", "containers", 0o755, 0})
	}
	return all
}

func (c Config) volume(name string) string { return filepath.Join(c.Scratch, "volumes", name) }

// makeVolumes makes the directories, empty.
func (c Config) makeVolumes() error {
	for _, v := range c.Profile.volumes() {
		dir := c.volume(v.name)
		err := os.Mkdir(dir, 0o700)
		if err == nil {
			err = os.Chown(dir, idBase+v.owner, idBase+v.owner)
		}
		if err == nil {
			err = os.Chmod(dir, v.mode)
		}
		if err != nil {
			return fmt.Errorf("making the sandbox's volumes: %w", err)
		}
	}
	return nil
}

// Volumes lists where the job's files are, the longest path inside first: what the job sees at a path below Inside is the
// file at the same place below Outside. The last one, for "/", is the upper layer of the overlay and holds only what the
// job has made, changed (whole files) or deleted (as overlayfs notes it).
func (s *Sandbox) Volumes() []Volume {
	var all []Volume
	for _, v := range s.config.Profile.volumes() {
		all = append(all, Volume{v.inside, s.config.volume(v.name)})
	}
	slices.SortFunc(all, func(a, b Volume) int {
		return cmp.Or(len(b.Inside)-len(a.Inside), cmp.Compare(a.Inside, b.Inside))
	})
	return append(all, Volume{"/", s.config.layer("upper")})
}

// Image is the image's root directory as the overlay has it: read-only, and its files' owners are the sandbox's.
func (s *Sandbox) Image() string { return s.config.layer("image") }
