// SPDX-License-Identifier: Apache-2.0

package outputs_test

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/runner/outputs"
)

// overlaid is a sandbox whose "/" is the upper layer of an overlay. merged is what the job sees and writes to.
func overlaid(t *testing.T) (c outputs.Config, merged string) {
	t.Helper()
	disk := mountXFS(t, 512<<20)
	c, _ = snapshotsOn(t, disk)
	c.Image, merged = filepath.Join(disk, "image"), filepath.Join(disk, "merged")
	for _, d := range []string{"work", "merged", "image/etc"} {
		fatal(t, os.MkdirAll(filepath.Join(disk, d), 0o755))
	}
	for _, name := range []string{"usr/bin/tool", "usr/bin/gone", "usr/bin/touched", "usr/bin/replaced", "usr/lib/a", "usr/lib/b"} {
		write(t, filepath.Join(c.Image, name), "image's "+name)
	}
	fatal(t, os.Symlink("usr/bin", filepath.Join(c.Image, "bin")))
	mount(t, "overlay", merged, "overlay", "lowerdir="+c.Image+",upperdir="+filepath.Join(disk, "upper")+",workdir="+filepath.Join(disk, "work")+
		",index=off,metacopy=off,redirect_dir=nofollow")
	return c, merged
}

// What only the image holds is not an output, however the job plays with the overlay's own marks.
func TestAttackImageFile(t *testing.T) {
	t.Parallel()
	c, merged := overlaid(t)
	at := func(name string) string { return filepath.Join(merged, name) }
	fatal(t, os.Remove(at("usr/bin/gone")))
	fatal(t, os.RemoveAll(at("usr/lib")))
	fatal(t, os.Mkdir(at("usr/lib"), 0o755)) // opaque
	write(t, at("usr/bin/made"), "made")
	refused(t, c, "/usr/bin/tool", "/bin/tool", "/usr/bin/gone", "/usr/bin/to*", "/usr/lib/a", "/usr/lib/*", "/usr/bin/tool/../gone", "/bin/made")
	if err := unix.Mknod(at("usr/bin/white"), unix.S_IFCHR, 0); err == nil {
		t.Log("the overlay lets jobs make whiteouts")
	}
	fatal(t, unix.Mknod(filepath.Join(c.Volumes[1].Outside, "white"), unix.S_IFCHR, 0)) // in a plain volume everybody may
	refused(t, c, "/home/runner/white", "/home/runner/whit*")
	if got, err := collectFrom(t.Context(), c, patterns("/usr/bin/*"), limits()); err != nil || len(got) != 1 || got[0].SHA256 != sha256.Sum256([]byte("made")) {
		t.Errorf("beside what was deleted: got %v, %v", got, err)
	}
}

// What the job wrote is hashed as the job sees it, marks of overlayfs in its own attributes or not.
func TestAttackOverlayMarks(t *testing.T) {
	t.Parallel()
	c, merged := overlaid(t)
	at := func(name string) string { return filepath.Join(merged, name) }
	fatal(t, os.Chmod(at("usr/bin/touched"), 0o600)) // copied up with its bytes
	fatal(t, os.Remove(at("usr/bin/replaced")))
	write(t, at("usr/bin/replaced"), "replaced")
	for name, marks := range map[string]map[string]string{
		"metacopy": {"user.overlay.metacopy": ""}, "redirect": {"user.overlay.redirect": "/usr/bin/tool", "user.overlay.metacopy": ""},
		"whiteout": {"user.overlay.whiteout": "y"}, "origin": {"user.overlay.origin": "x"},
	} {
		write(t, at("opt/"+name), map[bool]string{true: "", false: name}[name == "whiteout"])
		for attr, value := range marks {
			fatal(t, unix.Setxattr(at("opt/"+name), attr, []byte(value), 0))
		}
	}
	fatal(t, unix.Setxattr(at("opt"), "user.overlay.opaque", []byte("x"), 0))
	got, err := collectFrom(t.Context(), c, patterns("/opt/*", "/usr/bin/touched", "/usr/bin/replaced"), limits())
	fatal(t, err)
	if len(got) != 6 {
		t.Errorf("got %v", got)
	}
	for _, s := range got {
		seen, err := os.ReadFile(at(s.Path))
		if err != nil || sha256.Sum256(seen) != s.SHA256 {
			t.Errorf("%s: the job sees %q, %v", s.Path, seen, err)
		}
	}
}

// An upper layer that was mounted with metacopy=on, against what kettled does, has files without bytes.
func TestAttackMetacopy(t *testing.T) {
	t.Parallel()
	c, merged := overlaid(t)
	fatal(t, os.Chmod(filepath.Join(merged, "usr/bin/touched"), 0o600))
	upper := filepath.Join(c.Volumes[0].Outside, "usr/bin/touched")
	fatal(t, unix.Setxattr(upper, "trusted.overlay.metacopy", nil, 0))
	refused(t, c, "/usr/bin/touched")
}
