// SPDX-License-Identifier: Apache-2.0

package outputs

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/runner/beneath"
)

// volume is an open [Volume].
type volume struct {
	inside string
	fd     int // O_PATH
	magic  int64
}

// volumes is the sandbox's files as kettled sees them.
type volumes struct {
	all   []volume // the longest inside first; the last is "/"
	image int      // what lies below "/"; -1 when nobody said
	ids   IDs
}

// openVolumes opens every volume. Each must lie on a file system of a listed type: a FUSE or network file system could
// hang the reader for as long as its server likes.
func openVolumes(c Config) (_ *volumes, err error) {
	v := &volumes{image: -1, ids: c.IDs}
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	for _, w := range c.Volumes {
		fd, magic, err := openVolume(w.Outside, c.FileSystems)
		if err != nil {
			return nil, fmt.Errorf("opening the volume %s: %w", quote(w.Inside), err)
		}
		v.all = append(v.all, volume{inside: w.Inside, fd: fd, magic: magic})
	}
	slices.SortFunc(v.all, func(a, b volume) int { return len(b.inside) - len(a.inside) })
	if c.Image != "" {
		if v.image, err = unix.Open(c.Image, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
			return nil, fmt.Errorf("opening the image: %w", err)
		}
	}
	return v, nil
}

func openVolume(dir string, types []string) (fd int, magic int64, err error) {
	fd, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, 0, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	name, err := fileSystem(fd)
	if err != nil {
		return -1, 0, err
	}
	if !slices.Contains(types, name) {
		return -1, 0, fmt.Errorf("%s lies on a file system of type %q, and only %s may hold outputs", dir, name, strings.Join(types, ", "))
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil { // the type is known: this asks no server
		return -1, 0, fmt.Errorf("reading the file system of %s: %w", dir, err)
	}
	return fd, int64(st.Type), nil //nolint:unconvert // narrower on other architectures.
}

// fileSystem names the type of the file system that the directory behind fd lies on, without asking that file system:
// fstatfs(2) of a FUSE mount waits for its server.
func fileSystem(fd int) (string, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st); err != nil {
		return "", fmt.Errorf("finding a mount: %w", err)
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("reading the table of mounts: %w", err)
	}
	id := fmt.Sprint(st.Mnt_id)
	for line := range strings.Lines(string(table)) {
		mount, super, ok := strings.Cut(line, " - ")
		if first, _, _ := strings.Cut(mount, " "); ok && first == id {
			name, _, _ := strings.Cut(super, " ")
			return name, nil
		}
	}
	return "", fmt.Errorf("mount %s is not in the table of mounts", id)
}

func (v *volumes) close() {
	for _, w := range v.all {
		_ = unix.Close(w.fd)
	}
	if v.image >= 0 {
		_ = unix.Close(v.image)
	}
	v.all, v.image = nil, -1
}

// at finds the volume that holds the absolute path, and what is left of the path there.
func (v *volumes) at(p string) (volume, string) {
	for _, w := range v.all {
		if rest, ok := cutFolder(w.inside, p); ok {
			return w, rest
		}
	}
	return volume{fd: -1}, p // not reached: Config.Validate demands "/"
}

// cutFolder takes the folder off the front of a path that is it or lies below it.
func cutFolder(folder, p string) (string, bool) {
	if folder == p {
		return "", true
	}
	return below(folder, p)
}

// ways lists the names in the folder at p that lead to a volume below it. The names need not exist where p lies.
func (v *volumes) ways(p string) []string {
	var names []string
	for _, w := range v.all {
		if rest, ok := below(p, w.inside); ok && w.inside != "/" {
			name, _, _ := strings.Cut(rest, "/")
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// peek resolves p without opening what is there and says what it is.
func (v *volumes) peek(p string) (unix.Stat_t, error) {
	w, rest := v.at(p)
	st, err := beneath.Stat(w.fd, rest)
	switch {
	case err == nil && beneath.Whiteout(st):
		return st, refuse(refusal.Missing, "a file at "+quote(p), "a file of the image that the job deleted",
			"check the path and that the file was built")
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return st, v.missing(p, w, err)
	case err != nil:
		return st, pathError(p, err)
	}
	return st, nil
}

// missing says why nothing is at p: the image may have what the job did not make.
func (v *volumes) missing(p string, w volume, why error) error {
	if w.inside != "/" || v.image < 0 {
		return pathError(p, why)
	}
	st, err := beneath.Stat(v.image, p)
	switch {
	case errors.Is(err, unix.ELOOP):
		return pathError(p, err)
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG:
		return refuse(refusal.Missing, "a file at "+quote(p)+" that the job wrote", "one that comes with the image, not from the job",
			"name what the job built").Because(why)
	}
	return pathError(p, why)
}

// openRegular opens the regular file at p for reading. The type is known before anything is opened: opening a FIFO or a
// device would already have effects.
func (v *volumes) openRegular(p string) (*os.File, unix.Stat_t, error) {
	before, err := v.peek(p)
	if err != nil {
		return nil, before, err
	}
	if before.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, before, notRegular(p, before.Mode)
	}
	if !v.ids.contain(before.Uid) || !v.ids.contain(before.Gid) {
		return nil, before, refuse(refusal.Policy, quote(p)+" owned by somebody in the sandbox",
			fmt.Sprintf("user %d and group %d of the machine", before.Uid, before.Gid), "copy the file and attest the copy")
	}
	w, rest := v.at(p)
	f, err := beneath.Read(w.fd, rest, before)
	switch {
	case errors.Is(err, beneath.ErrChanged), errors.Is(err, beneath.ErrNotRegular):
		return nil, before, changed(p)
	case err != nil:
		return nil, before, pathError(p, err)
	}
	if err := w.holds(f, p); err != nil {
		_ = f.Close()
		return nil, before, err
	}
	return f, before, nil
}

// holds demands that the open file lies on the volume's own file system, whole.
func (w volume) holds(f *os.File, p string) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("reading the file system of %s: %w", quote(p), err)
	}
	if int64(st.Type) != w.magic { //nolint:unconvert // narrower on other architectures.
		return refuse(refusal.Malformed, quote(p)+" on the sandbox's own file system", fmt.Sprintf("type %#x", st.Type),
			"copy the file into the workspace")
	}
	return entire(f, p)
}

// entire demands that the file's bytes are in the file: an overlay that is allowed to (metacopy=on) keeps in its upper
// layer files that have their metadata alone and read as zeros. Nobody in the sandbox can set this attribute.
func entire(f *os.File, p string) error {
	_, err := unix.Fgetxattr(int(f.Fd()), "trusted.overlay.metacopy", nil)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return refuse(refusal.Malformed, quote(p)+" with its bytes", "a file whose bytes lie in the image", "copy the file and attest the copy").Because(err)
}

// unchanged demands that the open file is as it was and that its path still leads to it.
func (v *volumes) unchanged(f *os.File, p string, before unix.Stat_t) error {
	var after unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &after); err != nil {
		return fmt.Errorf("reading the state of %s: %w", quote(p), err)
	}
	now, err := v.peek(p)
	if err != nil && !errors.Is(err, refusal.ErrNotVerified) {
		return err
	}
	if err != nil || !beneath.Same(before, after) || !beneath.Same(before, now) {
		return changed(p)
	}
	return nil
}
