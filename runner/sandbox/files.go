// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// fill writes what every sandbox has: into a layer of the overlay between the image and the job's own, so that nothing of
// it looks like the job's work, and into the volumes. Nothing runs in the sandbox yet, so that the image's own links are
// the only ones there are; os.Root keeps even those inside.
func (s *Sandbox) fill(ctx context.Context) error {
	image, err := os.OpenRoot(s.config.layer("image"))
	if err != nil {
		return fmt.Errorf("opening the image: %w", err)
	}
	defer func() { _ = image.Close() }()
	if err := s.fillLayer(image); err != nil {
		return fmt.Errorf("filling the sandbox: %w", err)
	}
	if err := s.fillHome(ctx, image); err != nil {
		return fmt.Errorf("copying the runner program: %w", err)
	}
	return nil
}

func (s *Sandbox) fillLayer(image *os.Root) error {
	layer, err := os.OpenRoot(s.config.layer("fill"))
	if err != nil {
		return err
	}
	defer func() { _ = layer.Close() }()
	f := filler{from: image, to: layer}
	f.dir("var/tmp", os.ModeSticky|0o777)
	for _, v := range s.config.Profile.volumes() {
		f.dir(v.inside[1:], v.mode) // to mount on
	}
	f.file("etc/hostname", "runner\n")
	f.file("etc/hosts", "127.0.0.1 localhost runner\n::1 localhost ip6-localhost\n")
	f.file("etc/resolv.conf", "nameserver "+s.config.Resolver.String()+"\n")
	f.trust(s.config.Authorities)
	if s.config.Init == Systemd {
		f.link(unitWant, unitMount)
	}
	return f.err
}

// fillHome gives the runner's user the image's home directory and a fresh copy of the runner program.
func (s *Sandbox) fillHome(ctx context.Context, image *os.Root) error {
	home, err := os.OpenRoot(s.config.volume("home"))
	if err != nil {
		return err
	}
	defer func() { _ = home.Close() }()
	f := filler{from: image, to: home}
	if err := f.copyTree(ctx, Home[1:], "."); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return f.copyTree(ctx, s.config.Runner[1:], RunnerRoot[len(Home)+1:])
}

// filler writes below one directory what another one holds, until something fails.
type filler struct {
	from, to *os.Root
	err      error
}

// do keeps the first error.
func (f *filler) do(err error) {
	if f.err == nil {
		f.err = err
	}
}

// dir makes a directory of the sandbox's root, and those above it with the image's owner and mode: in the overlay the
// upper one's count.
func (f *filler) dir(name string, mode os.FileMode) {
	f.parents(name)
	if f.err != nil {
		return
	}
	if err := f.to.Mkdir(name, 0o755); !errors.Is(err, fs.ErrExist) {
		f.do(err)
	}
	f.do(f.to.Lchown(name, idBase, idBase))
	f.do(f.to.Chmod(name, mode))
}

// parents makes the directories above name like the image's.
func (f *filler) parents(name string) {
	dir := filepath.Dir(name)
	if f.err != nil || dir == "." {
		return
	}
	f.parents(dir)
	if _, err := f.to.Lstat(dir); err == nil || f.err != nil {
		return
	}
	mode, uid, gid := fs.FileMode(0o755), idBase, idBase
	info, err := f.from.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		f.do(err)
	case !info.IsDir():
		f.do(fmt.Errorf("/%s of the image is no directory", dir))
	default:
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			mode, uid, gid = info.Mode(), int(st.Uid), int(st.Gid)
		}
	}
	f.do(f.to.Mkdir(dir, 0o755))
	f.do(f.to.Lchown(dir, uid, gid))
	f.do(f.to.Chmod(dir, mode&^fs.ModeDir))
}

// file stands in place of what the image has at name, also when that is a link.
func (f *filler) file(name, text string) {
	f.parents(name)
	if f.err != nil {
		return
	}
	f.do(f.to.WriteFile(name, []byte(text), 0o644))
	f.do(f.to.Lchown(name, idBase, idBase))
}

func (f *filler) link(name, target string) {
	f.parents(name)
	if f.err != nil {
		return
	}
	f.do(f.to.Symlink(target, name))
	f.do(f.to.Lchown(name, idBase, idBase))
}

// trustStore is where Debian's OpenSSL, GnuTLS and Go programs look for certificate authorities.
const trustStore = "etc/ssl/certs/ca-certificates.crt"

// trust adds certificate authorities to those of the image.
func (f *filler) trust(pem []byte) {
	if f.err != nil || len(pem) == 0 {
		return
	}
	have, err := f.from.ReadFile(trustStore)
	if err != nil {
		f.err = err
		return
	}
	f.file(trustStore, string(have)+"\n"+string(pem))
}

// copyTree copies folders, files and links, all given to the runner's user. The image holds nothing else there.
func (f *filler) copyTree(ctx context.Context, from, to string) error {
	return fs.WalkDir(f.from.FS(), from, func(name string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch entry.Type() {
		case fs.ModeDir:
			if target == "." {
				return nil
			}
			err = f.to.Mkdir(target, 0o755)
		case fs.ModeSymlink:
			err = f.copyLink(name, target)
		case 0:
			err = f.copyFile(name, target)
		default:
			err = fmt.Errorf("%s is neither file, folder nor link", name)
		}
		if err != nil {
			return err
		}
		return f.to.Lchown(target, idBase+User, idBase+User)
	})
}

func (f *filler) copyLink(from, to string) error {
	text, err := f.from.Readlink(from)
	if err != nil {
		return err
	}
	return f.to.Symlink(text, to)
}

func (f *filler) copyFile(from, to string) (err error) {
	in, err := f.from.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := f.to.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}

// groups are those that the image's group file (group(5)) puts the runner's user into.
func groups(file string) ([]uint32, error) {
	raw, err := os.ReadFile(file) //nolint:gosec // a file of the image.
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the image's groups: %w", err)
	}
	var ids []uint32
	for line := range strings.Lines(string(raw)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) != 4 {
			continue
		}
		for member := range strings.SplitSeq(fields[3], ",") {
			var id uint32
			if _, err := fmt.Sscan(fields[2], &id); member == "runner" && err == nil && id < idSize {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}
